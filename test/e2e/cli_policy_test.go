package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func policyCommands(t *testing.T, c cli) {
	const defaults = `"confidence": 0.999, "grace_seconds": 0, "count": "any", "evidence": "requests", "look_back_seconds": 300, `
	f := func(revision int, want string, args ...string) {
		t.Helper()
		var set, got, expected map[string]any
		c.result(t, &set, append([]string{"policy", "set", "cart"}, args...)...)
		c.result(t, &got, "policy", "get", "cart")
		if err := json.Unmarshal([]byte("{"+defaults+want+"}"), &expected); err != nil {
			t.Fatal(err)
		}
		expected["source"], expected["revision"] = "script", float64(revision)
		expected["modified_by"], expected["modified_on"] = got["modified_by"], got["modified_on"]
		if diff := cmp.Diff([]any{expected, expected}, []any{set, got}); diff != "" || got["modified_by"] == "" {
			t.Errorf("policy set %q, its answer and what get shows (-want +got)\n%s", args, diff)
		}
	}
	shows := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("%q is not shown:\n%s", w, text)
			}
		}
	}
	c.fail(t, 1, "no rollback policy", "policy", "get", "cart")
	c.fail(t, 1, "no rollback policy", "policy", "evidence", "cart")
	c.fail(t, 1, "no rollback policy", "policy", "backtest", "cart")
	c.fail(t, 1, "nothing to replay", "policy", "backtest", "cart", "--since", "10s", "--max-failure-ratio", "2")
	c.fail(t, 2, "--since", "policy", "backtest", "cart", "--since", "next week", "--max-failure-ratio", "2")
	c.fail(t, 2, "confidence", "policy", "backtest", "cart", "--confidence", "2")
	c.fail(t, 1, "nowhere", "policy", "backtest", "nowhere", "--max-failure-ratio", "2")
	f(1, `"enabled": true, "max_failure_rate": 0.02, "max_failure_ratio": 3, "min_requests": 50, "action": "rollback",
		"ramp": [{"percentage": 5, "bake_seconds": 300}, {"percentage": 25, "bake_seconds": 90, "gate": "proven"}, {"percentage": 100, "bake_seconds": 0}]`,
		"--max-failure-rate", "2%", "--max-failure-ratio", "3", "--min-requests", "50", "--look-back", "5m", "--action", "rollback", "--ramp", "5%:5m,25%:90s:proven,100%")
	f(2, `"enabled": false, "max_failure_rate": 0.02, "max_p99_wall_ms": 1500, "min_requests": 50, "action": "notify",
		"notify": [{"type": "slack", "url": "http://127.0.0.1:9/***a94bb7e8"}]`,
		"--enabled=false", "--max-failure-ratio", "none", "--max-p99-wall-ms", "1.5s", "--ramp", "none", "--action", "notify", "--notify", "slack:http://127.0.0.1:9/hook")
	shows(c.run(t, "policy", "get", "cart"), "max-failure-rate  2%\n", "look-back         5m0s\n", "notify            slack:http://127.0.0.1:9/***a94bb7e8\n", "revision 2")
	path := filepath.Join(t.TempDir(), "policy.json")
	write(t, path, c.run(t, "policy", "get", "cart", "--json")) // what is printed can be set
	c.run(t, "policy", "set", "cart", "--file", path)           // which changes nothing
	shows(c.run(t, "policy", "backtest", "cart", "--since", "2d"), "max-failure-rate 2%", "action notify", "on trial in this time")
	shows(c.run(t, "policy", "backtest", "cart", "--file", path), "max-failure-rate 2%")
	shows(c.run(t, "policy", "evidence", "cart"), "the script's own, revision 2", "Enabled  no")
	var tried struct {
		Trials []any
		Policy map[string]any
		Since  string
	}
	if c.result(t, &tried, "policy", "backtest", "cart", "--max-failure-ratio", "2.5"); tried.Trials == nil || tried.Policy["max_failure_ratio"] != 2.5 || tried.Since == "" {
		t.Errorf("policy backtest --json prints %+v", tried)
	}
	write(t, path, `{"enabled": true, "max_failure_rate": 0.5}`)
	f(3, `"enabled": true, "max_failure_rate": 0.5, "min_requests": 20, "action": "rollback"`, "--file", path)
	write(t, path, `{"enabled": true, "max_failure_rat": 0.5}`)
	c.fail(t, 1, "max_failure_rat", "policy", "set", "cart", "--file", path)
	c.fail(t, 2, "confidence 0.1", "policy", "set", "cart", "--confidence", "0.1")
	c.fail(t, 1, "notify[0].url", "policy", "set", "cart", "--notify", "slack:https://10.1.2.3/x")
	shows(c.run(t, "policy", "history", "cart"), "max-failure-rate 2% -> 50%", "action rollback -> notify", "set: enabled true")

	c.fail(t, 1, "no default", "policy", "default", "get")
	shows(c.run(t, "policy", "default", "set", "--max-failure-ratio", "2", "--confidence", "99%"), "max-failure-ratio  2\n", "confidence         0.99\n", "the account's default, revision ")
	shows(c.run(t, "policy", "delete", "cart"), "cart has no rollback policy of its own.")
	shows(c.run(t, "policy", "get", "cart"), "the account's default, revision ")
	// A script's own begins as a copy of the default.
	shows(c.run(t, "policy", "set", "cart", "--min-requests", "7"), "confidence         0.99\n", "min-requests       7\n", "the script's own, revision 5")
	shows(c.run(t, "policy", "default", "history"), "max-failure-ratio 2")
	shows(c.run(t, "policy", "default", "delete"), "no default rollback policy")
	c.run(t, "policy", "delete", "cart")

	c.fail(t, 1, "no ramp", "policy", "ramp", "show", "cart")
	for _, action := range []string{"pause", "hold", "resume", "skip", "abort"} {
		c.fail(t, 1, "no ramp", "policy", "ramp", action, "cart")
	}
	for _, args := range [][]string{{"policy", "decisions", "cart"}, {"policy", "decisions"}} {
		if text := c.run(t, append(args, "--json")...); strings.TrimSpace(text) != "[]" {
			t.Errorf("%q prints %s", args, text)
		}
	}
	c.fail(t, 1, "no decision", "policy", "decision", "00000000")
}
