package gateway_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

// precedence is a row of the table in docs/extensions.md.
type precedence struct{ where, decision, rule string }

// documentedPrecedence reads the table.
func documentedPrecedence(t *testing.T) (rows []precedence) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "extensions.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| | Where | `Gateway.Decision` | `Gateway.AffinityRule` |\n|---|---|---|---|\n")
	if !ok {
		t.Fatal("docs/extensions.md has no table of what chooses the version")
	}
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || strings.TrimSpace(cells[0]) != strconv.Itoa(len(rows)+1) {
			t.Fatalf("row %d of the table is %q", len(rows)+1, line)
		}
		rows = append(rows, precedence{strings.TrimSpace(cells[1]), strings.Trim(cells[2], " `"), strings.TrimSpace(cells[3])})
	}
	return rows
}

// TestDocumentedPrecedence runs the table of what chooses a version. Each case is one that
// its row and all rows below it apply to; the event and the response say the same.
func TestDocumentedPrecedence(t *testing.T) {
	first := deploy.AffinityRule{Source: deploy.AffinityHeader, Name: "X-User"}
	second := deploy.AffinityRule{Source: deploy.AffinityQuery, Name: "user"}
	third := deploy.AffinityRule{Source: deploy.AffinityClientIP}
	user := []string{"X-User", "7"}
	withKey := append([]string{key, "mine"}, user...)
	withOverride := append([]string{"Cloudflare-Workers-Version-Overrides", `other="x", shop="` + v2 + `"`}, withKey...)
	const preview = "http://bbbbbbbb-shop.dev.localhost"
	cases := [][]struct {
		share   deploy.Percentage // of the old version; the new one has the rest
		rules   []deploy.AffinityRule
		url     string
		headers []string
		rule    int
		version string // "" for either
		cookie  bool
	}{
		{{100_000, []deploy.AffinityRule{first, visitorRule}, preview + "/", withOverride, 0, v2, false}},
		{{100_000, []deploy.AffinityRule{first, visitorRule}, shop + "/", withOverride, 0, v2, false}},
		{{100_000, []deploy.AffinityRule{first, visitorRule}, shop + "/", withKey, 0, v1, false}},
		{{50_000, []deploy.AffinityRule{first, visitorRule}, shop + "/", withKey, 0, "", false}},
		{
			{50_000, []deploy.AffinityRule{first, second, visitorRule}, shop + "/?user=7", user, 1, "", false},
			{50_000, []deploy.AffinityRule{first, second, third}, shop + "/?user=7", nil, 2, "", false},
			{50_000, []deploy.AffinityRule{first, second, visitorRule}, shop + "/", []string{"Cookie", "visitor=x", key, ""}, 3, "", false},
		},
		{{50_000, []deploy.AffinityRule{first, visitorRule}, shop + "/", nil, 2, "", true}},
		{
			{50_000, []deploy.AffinityRule{first, second}, shop + "/", []string{"Cloudflare-Workers-Version-Overrides", `shop="00000000-0000-4000-8000-000000000000"`}, 0, "", false},
			{50_000, nil, shop + "/", nil, 0, "", false},
		},
	}
	rows := documentedPrecedence(t)
	if len(rows) != len(cases) {
		t.Fatalf("the table has %d rows, and there are %d cases", len(rows), len(cases))
	}
	origins := []string{origin(t, says("one")), origin(t, says("two"))}
	for i, row := range rows {
		for _, c := range cases[i] {
			sc := script(origins, c.share, deploy.Full-c.share)
			sc.Affinity = c.rules
			e := start(t, snapshot(1, sc), showVersion)
			a := e.get(t, c.url, c.headers...)
			event := e.events.nth(1)
			rule := ""
			if c.rule != 0 {
				rule = strconv.Itoa(c.rule)
			}
			if event.Gateway.Decision != row.decision || a.Header.Get("Tidegate-Decision") != row.decision {
				t.Errorf("%d, %s: decided by %q, shown as %q, documented as %q", i+1, row.where, event.Gateway.Decision, a.Header.Get("Tidegate-Decision"), row.decision)
			}
			if event.Gateway.AffinityRule != c.rule || a.Header.Get("Tidegate-Affinity-Rule") != rule || (row.rule != "") != (c.rule != 0) {
				t.Errorf("%d, %s: by rule %d, shown as %q, want %d; documented as %q", i+1, row.where, event.Gateway.AffinityRule, a.Header.Get("Tidegate-Affinity-Rule"), c.rule, row.rule)
			}
			if version := event.ScriptVersion.ID; a.Header.Get("Tidegate-Version") != version || c.version != "" && version != c.version {
				t.Errorf("%d, %s: on %s, shown as %s, want %q", i+1, row.where, version, a.Header.Get("Tidegate-Version"), c.version)
			}
			if got := len(setCookies(a, "visitor")) != 0; got != c.cookie {
				t.Errorf("%d, %s: a cookie is set: %t", i+1, row.where, got)
			}
		}
	}
}
