package e2e

import (
	"encoding/json"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// redactionCommands sets rules by flags and by a file, of a script and of the account.
func redactionCommands(t *testing.T, c cli) {
	const rules = `{"headers":["X-Customer","X-Other"],"query_parameters":["email"],"paths":["/users/*"],"patterns":["SSN-[0-9]+, [a-z]"],"built_ins":["emails","tokens"]}`
	path := filepath.Join(t.TempDir(), "rules.json")
	write(t, path, rules)
	var want, byFlags, byFile, got any
	if err := json.Unmarshal([]byte(rules), &want); err != nil {
		t.Fatal(err)
	}
	for _, whose := range []string{"cart", "--all-scripts"} {
		c.result(t, &byFlags, "redaction", "set", whose, "--header", "X-Customer", "--header", "X-Other", "--query-parameter", "email", "--path", "/users/*",
			"--pattern", "SSN-[0-9]+, [a-z]", "--built-in", "emails", "--built-in", "tokens")
		c.run(t, "redaction", "delete", whose)
		c.fail(t, 1, "no redaction rules", "redaction", "get", whose)
		c.result(t, &byFile, "redaction", "set", whose, "--file", path)
		c.result(t, &got, "redaction", "get", whose)
		if diff := cmp.Diff([]any{want, want, want}, []any{byFlags, byFile, got}); diff != "" {
			t.Errorf("rules of %s by flags, by a file, and as get shows them (-want +got)\n%s", whose, diff)
		}
		c.run(t, "redaction", "delete", whose)
	}
	write(t, path, `{"headers": ["a"], "cookies": ["b"]}`)
	c.fail(t, 2, `"cookies", which is not known here`, "redaction", "set", "cart", "--file", path)
}
