package e2e

import (
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
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

// An origin may be on loopback, and who edits scripts names it. A version whose origin was the
// embedded engine once answered any client with the events of all accounts, and its health
// monitor asked there, too.
func TestAnOriginMustNotBeThePlatformItself(t *testing.T) {
	ops := "127.0.0.1:" + freePort(t)
	p := start(t, platform.Options{Args: []string{"--ops-addr", ops}})
	serve(t, p, "shop", okHandler) // an ordinary one, on loopback
	var scripts int
	for name, own := range map[string]string{"engine": p.ClickHouse, "api": p.Ready.API, "ops": "http://" + ops, "broker": "http://" + p.Kafka} {
		for form, address := range map[string]string{
			"": own, "-name": strings.Replace(own, "127.0.0.1", "localhost", 1), "-mapped": strings.Replace(own, "127.0.0.1", "[::ffff:127.0.0.1]", 1),
			"-http2": strings.Replace(own, "http://", "h2c://", 1),
		} {
			scripts++
			askOrigin(t, p, name+form, "127.0.1."+strconv.Itoa(scripts), map[string]any{"url": address})
		}
		scripts++
		monitor := map[string]string{"path": "/healthz"}
		if name == "engine" {
			monitor["path"] = "/ping"
		}
		askOrigin(t, p, name+"-monitor", "127.0.1."+strconv.Itoa(scripts), map[string]any{"url": own, "monitor": monitor})
		eventually(t, time.Minute, "the monitor of the "+name+" reaches nothing", func() (bool, error) {
			var list struct {
				Deployments []struct {
					VersionStatus []struct{ Error string } `json:"version_status"`
				}
			}
			err := p.API(t.Context(), http.MethodGet, "/accounts/{account}/workers/scripts/"+name+"-monitor/deployments", nil, &list)
			if err != nil || len(list.Deployments[0].VersionStatus) == 0 {
				return false, err
			}
			return list.Deployments[0].VersionStatus[0].Error == "1 of 1 endpoints are out: "+own+" (monitor: connect)", nil
		})
	}
	eventually(t, time.Minute, "the event of each request says that there was no connection", func() (bool, error) {
		n, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE script_name != 'shop' AND error_kind = 'connect'")
		return n == int64(scripts), err
	})
}

// askOrigin deploys an origin and asks for it once, at a host that the embedded engine takes for its own.
func askOrigin(t *testing.T, p *platform.Platform, script, host string, origin map[string]any) {
	t.Helper()
	var version struct{ ID string }
	path := "/accounts/{account}/workers/scripts/" + script
	if err := p.API(t.Context(), http.MethodPost, path+"/versions", map[string]any{"metadata": map[string]any{"origin": origin}}, &version); err != nil {
		t.Fatal(err)
	}
	if err := p.API(t.Context(), http.MethodPut, path+"/routes", []map[string]string{{"pattern": host + "/*"}}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Deploy(t.Context(), script, deploy.Split{VersionID: version.ID, Percentage: deploy.Full}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, script+" is served", func() (bool, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Gateway+"/?query=SELECT+name+FROM+system.tables", nil)
		if err != nil {
			return false, err
		}
		req.Host = host
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil || strings.HasPrefix(string(body), "Nothing is served") || strings.HasPrefix(string(body), "This script has no deployment") {
			return false, err
		}
		if res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s answers %d %.200q", script, res.StatusCode, body)
		}
		return true, nil
	})
}
