package e2e

import (
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/test/platform"
)

// On a laptop destinations may be on loopback. A job whose destination was the
// embedded engine could once run a statement there, and read the operator's token
// from the engine's error message.
func TestADestinationMustNotBeThePlatformItself(t *testing.T) {
	p := start(t, platform.Options{})
	steal := "INSERT INTO trace_events_quarantine (detail) SELECT toString(toUInt64(file('" + p.TokenFile + "'))) FROM input('content String') FORMAT JSONEachRow"
	for _, own := range []string{p.ClickHouse + "/?database=tidegate&query=" + url.QueryEscape(steal), p.Ready.API + "/", p.Gateway + "/", "http://" + p.Kafka + "/"} {
		for _, address := range []string{own, strings.Replace(own, "127.0.0.1", "localhost", 1), strings.Replace(own, "127.0.0.1", "[::ffff:127.0.0.1]", 1)} {
			err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
				"name": "steal", "dataset": "workers_trace_events", "destination_conf": address, "enabled": true,
			}, nil)
			if err == nil {
				t.Errorf("a job to %s was accepted", address)
				continue
			}
			if strings.Contains(err.Error(), p.Token) {
				t.Fatalf("the refusal of %s tells the operator's token", address)
			}
			if !strings.Contains(err.Error(), "platform's own addresses") {
				t.Errorf("the refusal of %s is %q", address, err)
			}
		}
	}
}

// The engine answers whoever reaches its port on this machine. It must not hand
// out the files of the platform, nor take statements from a web page.
func TestTheEngineKeepsToItself(t *testing.T) {
	p := start(t, platform.Options{})
	for _, statement := range []string{
		"SELECT file('" + p.TokenFile + "')",
		"SELECT * FROM file('" + p.TokenFile + "', 'LineAsString')",
		"SELECT * FROM url('" + p.Ready.API + "/healthz', 'LineAsString')",
		"SELECT 1 // '\n INTO OUTFILE '" + filepath.Join(t.TempDir(), "out") + "'",
	} {
		if answer, err := p.Query(t.Context(), statement); err == nil {
			t.Errorf("%s answers %q", statement, answer)
		} else if strings.Contains(err.Error(), p.Token) {
			t.Errorf("the refusal of %s tells the token", statement)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.ClickHouse+"/?query=SELECT+1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "evil.example:8123"
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("a request for another host's name is answered %s", res.Status)
	}
}

// An empty account in the path once stood for every account.
func TestAnEmptyAccountIsNoAccount(t *testing.T) {
	p := start(t, platform.Options{})
	bound := *p
	bound.Token = scopedToken(t, p)
	bound.AccountID = ""
	for _, path := range []string{"/workers/scripts", "/logpush/jobs", "/tokens", "/routing/snapshot"} {
		if err := bound.API(t.Context(), http.MethodGet, "/accounts/{account}"+path, nil, nil); err == nil {
			t.Errorf("GET /accounts/%s is answered", path)
		}
	}
}
