package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestStartAndStop holds the contract of "tidegate up": the files that it
// leaves, what answers when it is ready, and a clean stop on SIGTERM.
func TestStartAndStop(t *testing.T) {
	p := start(t, platform.Options{})
	token, err := os.Stat(p.TokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if token.Mode().Perm() != 0o600 {
		t.Errorf("the admin token has the mode %o, not 600", token.Mode().Perm())
	}
	if p.AccountID != "00000000000000000000000000000001" {
		t.Errorf("the account is %s", p.AccountID)
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.yaml", "/"} {
		res, err := http.Get(p.Ready.API + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("GET %s answers %s", path, res.Status)
		}
	}
	if one, err := p.Query(t.Context(), "SELECT 1"); err != nil || one != "1" {
		t.Errorf("ClickHouse answers %q, %v", one, err)
	}
	serve(t, p, "shop", okHandler)
	traffic := startLoad(t, p, "shop", 200)
	eventually(t, 20*time.Second, "requests are under way", func() (bool, error) { return traffic.answered.Load() > 100, nil })

	if err := p.Stop(); err != nil {
		t.Fatalf("SIGTERM: %v", err)
	}
	traffic.stop()
	if _, err := os.Stat(filepath.Join(p.DataDir, "ready.json")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ready.json is still there after the stop: %v", err)
	}

	// What was answered before the stop is there after the next start.
	ops := "127.0.0.1:" + freePort(t)
	again := start(t, platform.Options{DataDir: p.DataDir, Args: []string{"--ops-addr", ops}})
	for address, want := range map[string]int{again.Ready.API + "/metrics": http.StatusNotFound, "http://" + ops + "/metrics": http.StatusOK} {
		if status, text, err := fetch(t.Context(), http.DefaultTransport, address); err != nil || status != want {
			t.Errorf("%s answers %d %.200s, %v; want %d, as there is --ops-addr", address, status, text, err, want)
		}
	}
	if again.Token != p.Token {
		t.Error("a second start made another token")
	}
	eventually(t, 30*time.Second, "every event is counted", func() (bool, error) {
		counts, err := again.Counts(t.Context())
		return err == nil && counts.Agree() && counts.Rows >= traffic.answered.Load(), err
	})
	if status, _, err := again.Visit(t.Context(), http.DefaultClient, "shop", nil); err != nil || status != http.StatusOK {
		t.Errorf("shop answers %d after the restart, %v", status, err)
	}
}

// TestRouterAlone runs the gateway as a process of its own, takes the control
// plane away, and restarts the router without it.
func TestRouterAlone(t *testing.T) {
	p := start(t, platform.Options{})
	serve(t, p, "shop", okHandler)
	dir := t.TempDir()
	gateway := "127.0.0.1:" + freePort(t)
	ops := "127.0.0.1:" + freePort(t)
	run := func() *platform.Process {
		router, err := platform.StartProcess(logOf(t, "router"), nil, filepath.Join(bin, "router"),
			"--api-url", p.Ready.API, "--api-token-file", p.TokenFile, "--kafka", p.Kafka,
			"--gateway-addr", gateway, "--ops-addr", ops, "--data-dir", dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(router.Kill)
		return router
	}
	// The router on its own is reached like the one inside the platform.
	far := *p
	far.Gateway = "http://" + gateway
	answers := func() (bool, error) {
		status, _, err := far.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return status == http.StatusOK, err
	}
	router := run()
	eventually(t, 20*time.Second, "the router serves", answers)
	eventually(t, 20*time.Second, "the router is ready", func() (bool, error) {
		res, err := http.Get("http://" + ops + "/readyz")
		if err != nil {
			return false, err
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK, nil
	})

	eventually(t, 20*time.Second, "the router keeps its snapshot", func() (bool, error) {
		kept, err := os.ReadFile(filepath.Join(dir, "snapshot.json"))
		return strings.Contains(string(kept), `"shop"`), err
	})

	p.Process().Kill()
	if ok, err := answers(); !ok {
		t.Fatalf("the router does not answer without the control plane: %v", err)
	}
	router.Kill()
	router = run()
	eventually(t, 20*time.Second, "a router that starts without the control plane serves its last snapshot", answers)
	if err := router.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop the router: %v", err)
	}
}

// TestBadCommandLines names the flag, the value and the way out, with exit
// status 2.
func TestBadCommandLines(t *testing.T) {
	f := func(want string, name string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), filepath.Join(bin, name), args...).CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 2 {
			t.Errorf("%s %v: %v, want exit status 2\n%s", name, args, err, out)
		}
		if !strings.Contains(string(out), want) {
			t.Errorf("%s %v says %q, which has no %q", name, args, out, want)
		}
	}
	f("--kafka is not set", "router", "--api-url", "http://127.0.0.1:1")
	f("--api-url is not set", "router", "--kafka", "127.0.0.1:1")
	f("--clickhouse is not set", "ingest", "--kafka", "127.0.0.1:1", "--database", "x.db")
	f("unknown role", "ingest", "--roles", "ingest,cook")
	f("unknown flag: --colour", "jobs-api", "--colour")
	f("unknown command", "router", "extra")
	f("too many arguments", "tidegate", "up", "extra")
	f("--topic-partitions (0)", "tidegate", "up", "--topic-partitions", "0", "--data-dir", filepath.Join(t.TempDir(), "never-made"))
	f(`--api-addr is "8787"`, "jobs-api", "--api-addr", "8787", "--database", "x.db", "--clickhouse", "http://127.0.0.1:1")
	f("--log-level is \"loud\"", "tidegate", "up", "--log-level", "loud", "--data-dir", t.TempDir())
}

// TestAPIErrorsStoreNothing sends what must be refused through the front door; the
// whole list is in internal/api.
func TestAPIErrorsStoreNothing(t *testing.T) {
	p := start(t, platform.Options{})
	id := serve(t, p, "shop", okHandler)
	f := func(method, path, body string, status, code int, words ...string) {
		t.Helper()
		err := p.API(t.Context(), method, "/accounts/{account}"+path, body, nil)
		refusal, ok := errors.AsType[*platform.APIError](err)
		if !ok || refusal.Status != status || (code != 0 && refusal.Code != code) {
			t.Errorf("%s %s %s: %v, want HTTP %d, code %d", method, path, body, err, status, code)
			return
		}
		for _, word := range words {
			if !strings.Contains(refusal.Message, word) {
				t.Errorf("%s %s %s: %q does not name %q", method, path, body, refusal.Message, word)
			}
		}
	}
	const deployments, jobs = "/workers/scripts/shop/deployments", "/logpush/jobs"
	f("POST", deployments, `{"strategy":"percentage","versions":[{"version_id":"`+id+`","percentage":99}]}`, 400, 0, "99%", "100%")
	f("POST", deployments, `{"strategy":"percentage","versions":[{"version_id":"6d5c1c36-0000-4000-8000-000000000000","percentage":100}]}`, 400, 0, "6d5c1c36")
	f("POST", deployments, `{"strategy":"percentage","colour":"red","versions":[]}`, 400, 0, "colour")
	f("POST", deployments, `{"strategy":"percentage","versions":[{"version_id":"`+id+`","percentage":"all"}]}`, 400, 0, "percentage")
	f("POST", jobs, `{"dataset":"workers_trace_events","destination_conf":"https://127.0.0.1:1/","output_options":{"field_names":["Colour"]}}`, 403, 1004, "Colour")
	f("POST", jobs, `{"dataset":"workers_trace_events","destination_conf":"ftp://example/","enabled":true}`, 400, 1002, "ftp")
	f("POST", jobs, `{"dataset":"workers_trace_events","destination_conf":"http://127.0.0.1:1/","filter":"{\"where\":{\"key\":\"Outcome\",\"operator\":\"like\",\"value\":\"x\"}}"}`, 403, 1004, "like", "Outcome")
	f("POST", jobs, `{"dataset":"workers_trace_events","destination_conf":"http://127.0.0.1:1/gone"}`, 400, 0, "error validating destination")
	f("PUT", "/workers/scripts/shop/rollback-policy", `{"enabled":true,"max_failure_rate":7}`, 400, 0, "max_failure_rate", "7")
	f("PUT", "/workers/scripts/shop/rollback-policy", `{"enabled":true,"confidence":99.9}`, 400, 0, "confidence", "99.9")
	f("GET", "/workers/scripts/nobody/deployments", "", 404, 10007)
	f("GET", "/workers/colours", "", 404, 7003, "/workers/colours")

	foreign := *p
	foreign.AccountID = "00000000000000000000000000000002"
	foreign.Token = scopedToken(t, p)
	if err := foreign.API(t.Context(), "GET", "/accounts/{account}/workers/scripts", nil, nil); err == nil {
		t.Error("a token of one account opens another")
	}
	foreign.Token = ""
	if err := foreign.API(t.Context(), "GET", "/accounts/{account}/workers/scripts", nil, nil); err == nil {
		t.Error("no token opens an account")
	}

	var stored []json.RawMessage
	if err := p.API(t.Context(), "GET", "/accounts/{account}/logpush/jobs", nil, &stored); err != nil || len(stored) != 0 {
		t.Errorf("refused jobs were stored: %d, %v", len(stored), err)
	}
	if list, err := p.Deployments(t.Context(), "shop"); err != nil || len(list) != 1 {
		t.Errorf("refused deployments were stored: %d, %v", len(list), err)
	}
}

// scopedToken makes a token that is bound to p's account.
func scopedToken(t *testing.T, p *platform.Platform) string {
	t.Helper()
	var token struct{ Value string }
	body := map[string]any{"name": "reader", "scopes": []string{"scripts:read"}}
	if err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/tokens", body, &token); err != nil {
		t.Fatal(err)
	}
	if token.Value == "" {
		t.Fatal("the new token has no value")
	}
	return token.Value
}
