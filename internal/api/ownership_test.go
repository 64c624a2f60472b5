package api_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// owner is a caller who works on one account.
type owner struct {
	*platform
	account, token string
}

func (p *platform) owner(t *testing.T, accountID string) owner {
	t.Helper()
	_, secret, err := p.CreateToken(t.Context(), control.Token{AccountID: accountID, Name: "logs", Scopes: []control.Scope{control.LogsEdit}})
	if err != nil {
		t.Fatal(err)
	}
	return owner{p, accountID, secret}
}

func (o owner) post(t *testing.T, path string, members map[string]string) answer {
	t.Helper()
	body, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return o.do(t, http.MethodPost, "/client/v4/accounts/"+o.account+"/logpush"+path, bearer(o.token), string(body))
}

type ownership struct {
	Filename, Message  string
	Valid              bool
	OwnershipChallenge string `json:"ownership_challenge"`
}

// challenge asks for a challenge and reads it where it was written.
func (o owner) challenge(t *testing.T, conf string) (challenge string, told ownership) {
	t.Helper()
	a := o.post(t, "/ownership", map[string]string{"destination_conf": conf})
	if err := json.Unmarshal(a.Result, &told); err != nil || !told.Valid || told.Message != "" {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	name := told.Filename[strings.LastIndex(told.Filename, "/")+1:]
	if !regexp.MustCompile(`^logs/ownership-challenge-[0-9a-f]{8}\.txt$`).MatchString(told.Filename) {
		t.Errorf("the file is %q", told.Filename)
	}
	return o.written[name], told
}

const lake = "gs://lake/workers/{DATE}"

func (o owner) newJob(t *testing.T, conf, challenge string) answer {
	t.Helper()
	return o.post(t, "/jobs", map[string]string{"dataset": "workers_trace_events", "destination_conf": conf, "ownership_challenge": challenge})
}

// TestOwnershipIsProved before a job writes with the operator's credentials.
func TestOwnershipIsProved(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	p := newPlatformWith(t, api.Config{Now: func() time.Time { return now }})
	o := p.owner(t, account)
	o.newJob(t, lake, "").want(t, http.StatusBadRequest, 1002, "ownership_challenge is missing")
	// To try it would write there.
	o.post(t, "/validate/destination", map[string]string{"destination_conf": lake}).ok(t, `"valid":false`, "operator's credentials")
	owner{p, account, p.token}.post(t, "/validate/destination", map[string]string{"destination_conf": lake}).ok(t, `"valid":true`)
	challenge, told := o.challenge(t, lake)
	if told.OwnershipChallenge != "" {
		t.Fatal("the challenge is in the answer, so that nothing would be proved")
	}
	if !regexp.MustCompile(`^[a-zA-Z0-9/+._-]+$`).MatchString(challenge) || len(challenge) > 4096 {
		t.Errorf("the challenge %q is not of the published form", challenge)
	}
	claims, err := base64.RawURLEncoding.DecodeString(strings.Split(challenge, ".")[1])
	if err != nil || strings.Contains(string(claims), "lake") || !strings.Contains(string(claims), account) {
		t.Errorf("it claims %s, error %v", claims, err)
	}
	o.newJob(t, lake, challenge).ok(t, `"destination_conf":"`+lake)

	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(challenge, ".")
	claim := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	refused := func(o owner, conf, challenge, why string) {
		t.Helper()
		o.newJob(t, conf, challenge).want(t, http.StatusBadRequest, 1002, why)
		o.post(t, "/ownership/validate", map[string]string{"destination_conf": conf, "ownership_challenge": challenge}).ok(t, `"valid":false`, why)
	}
	refused(p.owner(t, other.ID), lake, challenge, "another account")
	refused(o, lake+"/x", challenge, "another destination_conf")
	refused(o, lake, "nonsense", "not what a challenge file holds")
	refused(o, lake, parts[0]+"."+parts[1]+".", "wrong signature")
	refused(o, lake, parts[0]+"."+claim(strings.Replace(string(claims), account, other.ID, 1))+"."+parts[2], "wrong signature")
	refused(o, lake, claim(`{"alg":"none","typ":"JWT"}`)+"."+parts[1]+".", "not what a challenge file holds")

	check := func() answer {
		return o.post(t, "/ownership/validate", map[string]string{"destination_conf": lake, "ownership_challenge": challenge + "\n"})
	}
	check().ok(t, `"valid":true`)
	now = now.Add(7*24*time.Hour - time.Second)
	check().ok(t, `"valid":true`)
	now = now.Add(time.Second)
	refused(o, lake, challenge, "expired")
}

// TestOwnershipIsProvedAgainForAnotherDestination, and only then.
func TestOwnershipIsProvedAgainForAnotherDestination(t *testing.T) {
	p := newPlatform(t)
	o := p.owner(t, account)
	challenge, _ := o.challenge(t, lake)
	o.newJob(t, lake, challenge).ok(t)
	put := func(body string) answer {
		return p.do(t, http.MethodPut, "/client/v4/accounts/"+account+"/logpush/jobs/1", bearer(o.token), body)
	}
	put(`{"enabled": true}`).ok(t)
	put(`{"destination_conf": "` + lake + `"}`).ok(t)
	put(`{"destination_conf": "gs://pond/"}`).want(t, http.StatusBadRequest, 1002, "ownership_challenge is missing")
	put(`{"destination_conf": "gs://pond/", "ownership_challenge": "`+challenge+`"}`).want(t, http.StatusBadRequest, 1002, "another destination_conf")
	fresh, _ := o.challenge(t, "gs://pond/")
	put(`{"destination_conf": "gs://pond/", "ownership_challenge": "`+fresh+`"}`).ok(t, "gs://pond/")
}

// TestTheOperatorProvesNothing: the credentials are theirs. They may also hand the
// challenge on, so that nobody has to fetch a file between two calls.
func TestTheOperatorProvesNothing(t *testing.T) {
	p := newPlatform(t)
	operator := owner{p, account, p.token}
	operator.newJob(t, lake, "").ok(t)
	_, told := operator.challenge(t, "gs://pond/")
	p.owner(t, account).newJob(t, "gs://pond/", told.OwnershipChallenge).ok(t)
}

func TestNoChallengeIsWrittenInVain(t *testing.T) {
	p := newPlatform(t)
	o := p.owner(t, account)
	for conf, why := range map[string]string{
		"https://logs.example.com/": "this https destination needs no challenge",
		"gs://refused/":             "error validating destination",
		"gs://silent/":              "error validating destination: context deadline exceeded",
		"nonsense":                  "destination_conf",
	} {
		o.post(t, "/ownership", map[string]string{"destination_conf": conf}).ok(t, `"valid":false`, `"filename":""`, why)
	}
}
