package e2e

import (
	"encoding/json"
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/test/platform"
)

// affinityCommands sets rules, and sees the gateway follow them.
func affinityCommands(t *testing.T, c cli, p *platform.Platform) {
	c.fail(t, 1, "no affinity rules", "affinity", "get", "cart")
	c.run(t, "affinity", "set", "cart", "client_ip")
	var set, got, expected any
	c.result(t, &set, "affinity", "set", "cart", "cookie:user_id", "query:user", "path:/carts/")
	c.result(t, &got, "affinity", "get", "cart")
	if err := json.Unmarshal([]byte(`{"rules": [{"source": "cookie", "name": "user_id"}, {"source": "query", "name": "user"},
		{"source": "path", "prefix": "/carts/"}]}`), &expected); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]any{expected, expected}, []any{set, got}); diff != "" {
		t.Errorf("what set answers and what get shows (-want +got)\n%s", diff)
	}
	if text := c.run(t, "affinity", "get", "cart"); !strings.Contains(text, "1       cookie:user_id\n2       query:user\n3       path:/carts/\n") {
		t.Errorf("get shows\n%s", text)
	}
	// Forty draws meet both versions but in one of 2^39 runs. Until the gateway has the
	// deployment and the rules, a user may be anywhere.
	c.upload(t, answering(t, "north"), "north")
	c.upload(t, answering(t, "south"), "south")
	c.run(t, "versions", "deploy", "cart", "north@50", "south@50", "-y")
	cookie := http.Header{"Cookie": {"theme=dark; user_id=7"}}
	eventually(t, 20*time.Second, "one user stays on one version while others are on both", func() (bool, error) {
		_, first, err := p.Visit(t.Context(), http.DefaultClient, "cart", cookie)
		drawn := map[string]bool{}
		for range 40 {
			_, body, sent := p.Visit(t.Context(), http.DefaultClient, "cart", cookie)
			_, other, drew := p.Visit(t.Context(), http.DefaultClient, "cart", nil)
			if err = errors.Join(err, sent, drew); err != nil || body != first {
				return false, err
			}
			drawn[other] = true
		}
		return drawn["north"] && drawn["south"], err
	})
	cookieCommands(t, c, p)
	if text := c.run(t, "affinity", "delete", "cart"); text != "cart has no affinity rules.\n" {
		t.Errorf("delete shows\n%s", text)
	}
	c.run(t, "affinity", "delete", "cart") // may have none
	c.fail(t, 1, "no affinity rules", "affinity", "get", "cart")
}

// cookieCommands has clients of cart given a cookie, by flags and by a file.
func cookieCommands(t *testing.T, c cli, p *platform.Platform) {
	const rules = `{"rules": [{"source": "header", "name": "X-User", "forward": true}, {"source": "cookie", "name": "visitor", "set": {"max_age": 3600}}]}`
	path := filepath.Join(t.TempDir(), "rules.json")
	write(t, path, rules)
	var byFile, byFlags, got, expected any
	if err := json.Unmarshal([]byte(rules), &expected); err != nil {
		t.Fatal(err)
	}
	c.result(t, &byFile, "affinity", "set", "cart", "--file", path)
	c.result(t, &got, "affinity", "get", "cart")
	if diff := cmp.Diff([]any{expected, expected}, []any{byFile, got}); diff != "" {
		t.Errorf("what a file sets and what get shows (-want +got)\n%s", diff)
	}
	if text := c.run(t, "affinity", "get", "cart"); !strings.Contains(text, "1       header:X-User   --forward\n2       cookie:visitor  --set-cookie --cookie-max-age 1h0m0s\n") {
		t.Errorf("get shows\n%s", text)
	}
	eventually(t, 20*time.Second, "a new client is given the cookie", func() (bool, error) {
		header, err := visit(t, p, "cart")
		cookie := header.Get("Set-Cookie")
		return strings.HasPrefix(cookie, "visitor=tg-") && strings.Contains(cookie, "; Max-Age=3600; HttpOnly; SameSite=Lax"), err
	})
	c.result(t, &byFlags, "affinity", "set", "cart", "cookie:visitor", "--set-cookie", "--cookie-max-age", "60s", "--cookie-secure", "always", "--forward=false")
	if err := json.Unmarshal([]byte(`{"rules": [{"source": "cookie", "name": "visitor", "forward": false, "set": {"max_age": 60, "secure": "always"}}]}`), &expected); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(expected, byFlags); diff != "" {
		t.Errorf("what flags set (-want +got)\n%s", diff)
	}
}

// visit gets the page of a script, and returns the header of the response.
func visit(t *testing.T, p *platform.Platform, script string) (http.Header, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Gateway+"/", nil)
	if err != nil {
		return nil, err
	}
	req.Host = p.Host(script)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	return res.Header, res.Body.Close()
}
