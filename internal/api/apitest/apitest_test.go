package apitest

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// canned answers every request with one body.
type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: c.status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(strings.NewReader(c.body)),
	}, nil
}

func violations(t *testing.T, path string, c canned) (list, unanswered []string) {
	t.Helper()
	v, err := NewValidator(c)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: v}).Get("http://api.example" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); err != nil || string(text) != c.body {
		t.Fatalf("the caller got %q, error %v", text, err)
	}
	return v.Violations(), v.Unanswered()
}

const goodUser = `{"success":true,"errors":[],"messages":[],"result":{"id":"0123456789abcdef0123456789abcdef","email":"me@example.com"}}`

func TestGoodAnswersPass(t *testing.T) {
	for path, c := range map[string]canned{
		"/client/v4/user": {200, goodUser},
		"/client/v4/nope": {404, `{"success":false,"errors":[{"code":7003,"message":"no"}],"messages":[],"result":null}`},
		"/healthz":        {200, "ok"},
	} {
		if list, _ := violations(t, path, c); len(list) > 0 {
			t.Errorf("%s: %v", path, list)
		}
	}
	_, unanswered := violations(t, "/client/v4/user", canned{200, goodUser})
	if slices.Contains(unanswered, "getUser") || !slices.Contains(unanswered, "createJob") {
		t.Errorf("unanswered: %v", unanswered)
	}
}

func TestBadAnswersAreReported(t *testing.T) {
	for path, c := range map[string]canned{
		"/client/v4/user?unknown-member":  {200, strings.Replace(goodUser, `"email"`, `"nick":"x","email"`, 1)},
		"/client/v4/user?missing-member":  {200, strings.Replace(goodUser, `,"email":"me@example.com"`, "", 1)},
		"/client/v4/user?no-envelope":     {200, `{}`},
		"/client/v4/user?no-json":         {200, `<html>`},
		"/client/v4/user?failure-as-200":  {200, `{"success":false,"errors":[{"code":1000,"message":"no"}],"messages":[],"result":null}`},
		"/client/v4/user?error-less":      {400, `{"success":false,"errors":[],"messages":[],"result":null}`},
		"/client/v4/user?code-too-small":  {400, `{"success":false,"errors":[{"code":1,"message":"no"}],"messages":[],"result":null}`},
		"/client/v4/undocumented":         {200, goodUser},
		"/client/v4/accounts?unpaged":     {200, `{"success":true,"errors":[],"messages":[],"result":[]}`},
		"/client/v4/accounts/x?time-form": {200, `{"success":true,"errors":[],"messages":[],"result":{"id":"0123456789abcdef0123456789abcdef","name":"a","type":"standard","subdomain":"a","settings":{"max_versions":2,"max_jobs":2},"created_on":"2026-01-31T12:00:00Z"}}`},
	} {
		if list, _ := violations(t, path, c); len(list) != 1 {
			t.Errorf("%s: %d violations: %v", path, len(list), list)
		}
	}
}
