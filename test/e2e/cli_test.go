package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// cli runs the commands of bin/tidegate in a folder, as a person without a
// terminal.
type cli struct {
	dir string
	env []string
}

// exec runs a program and returns what it wrote and its exit status.
func (c cli) exec(t *testing.T, name string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = c.dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "TIDEGATE_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(append(cmd.Env, "PATH="+bin+string(filepath.ListSeparator)+os.Getenv("PATH")), c.env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			t.Fatal(err)
		}
		status = exit.ExitCode()
	}
	return out.String(), errOut.String(), status
}

// run must succeed without a word on standard error.
func (c cli) run(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, status := c.exec(t, filepath.Join(bin, "tidegate"), args...)
	if status != 0 || stderr != "" {
		t.Fatalf("tidegate %q: status %d\n%s", args, status, stderr)
	}
	if strings.Contains(stdout, "\x1b") {
		t.Errorf("tidegate %q: escape codes without a terminal: %q", args, stdout)
	}
	return stdout
}

// result runs a command with --json and decodes what it prints.
func (c cli) result(t *testing.T, out any, args ...string) {
	t.Helper()
	if err := json.Unmarshal([]byte(c.run(t, append(args, "--json")...)), out); err != nil {
		t.Fatalf("tidegate %q: %v", args, err)
	}
}

// fail must end with the status, nothing on standard output, and the words in
// its message.
func (c cli) fail(t *testing.T, want int, words string, args ...string) {
	t.Helper()
	stdout, stderr, status := c.exec(t, filepath.Join(bin, "tidegate"), args...)
	if status != want || stdout != "" || !strings.Contains(stderr, words) {
		t.Errorf("tidegate %q: got status %d, %q on standard output and\n%s\nwant status %d and %q", args, status, stdout, stderr, want, words)
	}
}

func TestCLI(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data")})
	c := cli{dir: dir}

	t.Run("Documentation", func(t *testing.T) { documentedCommands(t, c, p) })
	t.Run("Deploy", func(t *testing.T) { deployCommands(t, c, p) })
	t.Run("Policy", func(t *testing.T) { policyCommands(t, c) })
	t.Run("Affinity", func(t *testing.T) { affinityCommands(t, c, p) })
	t.Run("Sampling", func(t *testing.T) { samplingCommands(t, c) })
	t.Run("Metrics", func(t *testing.T) { metricsCommands(t, c, p) })
	t.Run("Redaction", func(t *testing.T) { redactionCommands(t, c) })
	t.Run("Jobs", func(t *testing.T) { jobCommands(t, c) })
	t.Run("Token", func(t *testing.T) { tokenCommands(t, c, p) })
	t.Run("Connection", func(t *testing.T) { connections(t, c, p) })
	t.Run("BadInput", func(t *testing.T) { badInput(t, c) })
}

// documentedCommands runs docs/cli.md from top to bottom, and checks that it has
// every command that --help lists.
func documentedCommands(t *testing.T, c cli, p *platform.Platform) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for i, block := range strings.Split(string(text), "```") {
		if commands, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			script.WriteString(commands)
		}
	}
	for _, noun := range helpCommands(t, c) {
		if slices.Contains([]string{"up", "help", "completion"}, noun) {
			continue
		}
		names := []string{"tidegate " + noun}
		if verbs := helpCommands(t, c, noun); len(verbs) > 0 {
			names = nil
			for _, verb := range verbs {
				names = append(names, "tidegate "+noun+" "+verb)
			}
		}
		for _, name := range names {
			if !strings.Contains(script.String(), name+" ") && !strings.Contains(script.String(), name+"\n") {
				t.Errorf("docs/cli.md does not show %q", name)
			}
		}
	}
	example := strings.ReplaceAll(script.String(), "https://logs.example.com", startCollector(t).server.URL)
	stdout, stderr, status := c.exec(t, "bash", "-euo", "pipefail", "-c", example)
	if status != 0 || stderr != "" {
		t.Fatalf("docs/cli.md: status %d\n%s\nafter\n%s", status, stderr, stdout)
	}
	deployments, err := p.Deployments(t.Context(), "basket")
	if err != nil {
		t.Fatal(err)
	}
	var messages []string
	for _, d := range deployments {
		messages = append(messages, d.Annotations.Message)
	}
	if diff := cmp.Diff([]string{"v2 loses carts", "Rollback", "Try v2", ""}, messages); diff != "" {
		t.Errorf("the deployments of docs/cli.md (-want +got)\n%s", diff)
	}
}

// helpCommands are the names below "Available Commands:".
func helpCommands(t *testing.T, c cli, noun ...string) []string {
	t.Helper()
	_, after, found := strings.Cut(c.run(t, append(noun, "--help")...), "Available Commands:\n")
	if !found {
		return nil
	}
	list, _, _ := strings.Cut(after, "\n\n")
	var names []string
	for line := range strings.Lines(list) {
		names = append(names, strings.Fields(line)[0])
	}
	return names
}

// upload makes a version of cart and returns its id.
func (c cli) upload(t *testing.T, origin, tag string) string {
	t.Helper()
	var version struct{ ID string }
	c.result(t, &version, "versions", "upload", "cart", "--origin", origin, "--tag", tag, "--message", "about "+tag)
	return version.ID
}

// answering serves one answer while the test runs, and returns its URL.
func answering(t *testing.T, answer string) string {
	t.Helper()
	return serving(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
}

// serving is answering by a handler.
func serving(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

func deployCommands(t *testing.T, c cli, p *platform.Platform) {
	first, second := c.upload(t, answering(t, "one"), "v1"), c.upload(t, answering(t, "two"), "v2")

	// current reads the deployment back over the API.
	current := func(want string, splits ...deploy.Split) {
		t.Helper()
		deployments, err := p.Deployments(t.Context(), "cart")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(splits, deployments[0].Versions); diff != "" || deployments[0].Annotations.Message != want {
			t.Errorf("message %q, want %q; splits (-want +got)\n%s", deployments[0].Annotations.Message, want, diff)
		}
	}
	c.run(t, "versions", "deploy", "cart", "v1", "-y")
	c.run(t, "versions", "deploy", "cart", first+"@90", second[:8]+"@10%", "-y", "-m", "by id and prefix")
	current("by id and prefix", deploy.Split{VersionID: first, Percentage: 90_000}, deploy.Split{VersionID: second, Percentage: 10_000})

	var status deploy.Deployment
	c.result(t, &status, "deployments", "status", "cart")
	if status.Annotations.Message != "by id and prefix" || len(status.Versions) != 2 {
		t.Errorf("status is %+v", status)
	}
	if text := c.run(t, "deployments", "status", "cart"); !strings.Contains(text, "90% v1 ("+first[:8]+"), 10% v2 ("+second[:8]+")") {
		t.Errorf("status shows\n%s", text)
	}
	if text := c.run(t, "versions", "view", "cart", second[:13]); !strings.Contains(text, second) || !strings.Contains(text, "about v2") {
		t.Errorf("view shows\n%s", text)
	}
	if text := c.run(t, "versions", "list", "cart"); strings.Index(text, second) > strings.Index(text, first) || !strings.Contains(text, first) {
		t.Errorf("list shows not the newest first:\n%s", text)
	}

	c.run(t, "versions", "deploy", "cart", "v2", "-m", "no terminal, so no question")
	c.run(t, "versions", "deploy", "cart", "v1@12.346", "v2")
	current("", deploy.Split{VersionID: first, Percentage: 12_346}, deploy.Split{VersionID: second, Percentage: 87_654})
	c.run(t, "rollback", "cart")
	current("Rollback", deploy.Split{VersionID: second, Percentage: deploy.Full})
	eventually(t, 20*time.Second, "traffic is back on v2", func() (bool, error) {
		_, body, err := p.Visit(t.Context(), http.DefaultClient, "cart", nil)
		return body == "two", err
	})
	c.run(t, "rollback", "cart", "v1", "-y", "-m", "further back")
	current("further back", deploy.Split{VersionID: first, Percentage: deploy.Full})
	eventually(t, 20*time.Second, "traffic is back on v1", func() (bool, error) {
		_, body, err := p.Visit(t.Context(), http.DefaultClient, "cart", nil)
		return body == "one", err
	})
}

func samplingCommands(t *testing.T, c cli) {
	if text := c.run(t, "sampling", "get", "cart"); text != "cart keeps every trace event.\n" {
		t.Errorf("before anything was set get shows\n%s", text)
	}
	const sampled = "cart keeps the trace events of failures, and of 7% of its other requests.\n"
	for _, text := range []string{c.run(t, "sampling", "set", "cart", "7%"), c.run(t, "sampling", "get", "cart")} {
		if text != sampled {
			t.Errorf("shown is\n%s", text)
		}
	}
	var got struct {
		Rate float64 `json:"head_sampling_rate"`
	}
	c.result(t, &got, "sampling", "get", "cart")
	if got.Rate != 0.07 {
		t.Errorf("the rate is %v", got.Rate)
	}
	c.run(t, "sampling", "set", "cart", "1")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func jobCommands(t *testing.T, c cli) {
	const secret = "correct-horse"
	destination := startCollector(t).server.URL + "/cli?header_Authorization=" + secret
	var made struct {
		ID            int64
		Enabled       bool
		OutputOptions struct {
			FieldNames []string `json:"field_names"`
			OutputType string   `json:"output_type"`
		} `json:"output_options"`
	}
	c.result(t, &made, "jobs", "create", "--name", "cli", "--destination", destination, "--fields", "Event,Outcome", "--output-type", "csv")
	if made.ID == 0 || made.Enabled || made.OutputOptions.OutputType != "csv" || len(made.OutputOptions.FieldNames) != 2 {
		t.Errorf("made %+v", made)
	}
	text := c.run(t, "jobs", "create", "--name", "running", "--destination", destination, "--enabled")
	if !strings.Contains(text, "delivers from now on") || strings.Contains(text, secret) {
		t.Errorf("create shows\n%s", text)
	}
	text = c.run(t, "jobs", "list")
	if !strings.Contains(text, "cli") || !strings.Contains(text, "running") || strings.Contains(text, secret) {
		t.Errorf("list shows\n%s", text)
	}
	c.fail(t, 1, "make the job to http://127.0.0.1:1/***: error validating destination", "jobs", "create", "--destination", "http://127.0.0.1:1/nobody")
	c.fail(t, 1, "Nonsense", "jobs", "create", "--destination", destination, "--fields", "Event,Nonsense")
	c.fail(t, 1, "filter", "jobs", "create", "--destination", destination, "--filter", "{")
}

func tokenCommands(t *testing.T, c cli, p *platform.Platform) {
	var made struct {
		Value  string
		Scopes []string
		Expiry time.Time `json:"expires_on"`
	}
	c.result(t, &made, "token", "create", "--name", "ci", "--scope", "scripts:edit,logs:read", "--expires-in", "1h")
	if diff := cmp.Diff([]string{"scripts:edit", "logs:read"}, made.Scopes); diff != "" || made.Expiry.IsZero() {
		t.Errorf("expires %s, scopes (-want +got)\n%s", made.Expiry, diff)
	}
	var short struct{ Value string }
	c.result(t, &short, "token", "create", "--name", "reader", "--scope", "scripts:read")

	// The variable comes before the ready file, and the flag before the variable.
	reader := cli{dir: c.dir, env: []string{"TIDEGATE_TOKEN=" + short.Value}}
	reader.run(t, "versions", "list", "cart")
	reader.fail(t, 1, "scripts:edit", "versions", "upload", "cart", "--origin", "http://127.0.0.1:1")
	reader.run(t, "versions", "upload", "cart", "--origin", "http://127.0.0.1:1", "--token-file", p.TokenFile)
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, made.Value+"\n")
	file := cli{dir: c.dir, env: []string{"TIDEGATE_TOKEN_FILE=" + path}}
	file.run(t, "versions", "upload", "cart", "--origin", "http://127.0.0.1:1")
	file.fail(t, 1, "policy:edit", "policy", "set", "cart", "--min-requests", "5")
	c.fail(t, 1, "a scope is", "token", "create", "--name", "x", "--scope", "everything")
	if text := c.run(t, "token", "create", "--name", "shown", "--scope", "admin"); !strings.Contains(text, "shown only now") {
		t.Errorf("create shows\n%s", text)
	}
	if list := c.run(t, "token", "list"); !strings.Contains(list, "AUTHOR") || !strings.Contains(list, "admin@localhost") {
		t.Errorf("the list has no authors:\n%s", list)
	}
	operatorCommands(t, c)
}

// operatorCommands are about tokens of no account. That of the platform stays.
func operatorCommands(t *testing.T, c cli) {
	var made struct{ ID, Value string }
	c.result(t, &made, "token", "create", "--operator", "--name", "ann", "--expires-in", "1h")
	ann := cli{dir: c.dir, env: []string{"TIDEGATE_TOKEN=" + made.Value}}
	if list := ann.run(t, "token", "list", "--operator"); !strings.Contains(list, "operator") || !strings.Contains(list, made.ID) {
		t.Errorf("the list shows\n%s", list)
	}
	var secret string
	ann.result(t, &secret, "token", "roll", made.ID)
	ann.fail(t, 1, "refuses the token from TIDEGATE_TOKEN", "token", "list", "--operator")
	ann.env = []string{"TIDEGATE_TOKEN=" + secret}
	ann.run(t, "token", "list", "--operator")
	c.run(t, "token", "delete", "--operator", made.ID)
	ann.fail(t, 1, "refuses the token from TIDEGATE_TOKEN", "token", "list", "--operator")
	c.fail(t, 2, "do not go together", "token", "create", "--operator", "--name", "x", "--scope", "admin")
}

// connections are commands far from the platform's folder.
func connections(t *testing.T, c cli, p *platform.Platform) {
	far := cli{dir: t.TempDir()}
	far.run(t, "versions", "list", "cart", "--data-dir", p.DataDir)
	far.run(t, "versions", "list", "cart", "--api", p.Ready.API+"/", "--token-file", p.TokenFile) // the account is looked up
	far.fail(t, 1, "no API token for http://127.0.0.1:8787", "versions", "list", "cart")
	far.env = []string{"TIDEGATE_API=" + p.Ready.API, "TIDEGATE_TOKEN=" + p.Token, "TIDEGATE_ACCOUNT=" + p.AccountID}
	far.run(t, "versions", "list", "cart")
	far.fail(t, 2, "must be an http:// or https:// URL", "versions", "list", "cart", "--api", "127.0.0.1:8787")
	far.fail(t, 1, "does not exist", "versions", "list", "cart", "--account", strings.Repeat("9", 32))
	far.env = []string{"TIDEGATE_API=" + p.Ready.API, "TIDEGATE_TOKEN=wrong"}
	far.fail(t, 1, "refuses the token from TIDEGATE_TOKEN", "versions", "list", "cart")
	far.env = []string{"TIDEGATE_JSON=maybe"}
	far.fail(t, 2, "TIDEGATE_JSON", "versions", "list", "cart")

	// The platform's token stays with the platform.
	c.fail(t, 1, "no API token for http://127.0.0.1:1", "versions", "list", "cart", "--api", "http://127.0.0.1:1")
	c.env = []string{"TIDEGATE_TOKEN=any"}
	c.fail(t, 1, "the API at http://127.0.0.1:1 does not answer", "versions", "list", "cart", "--api", "http://127.0.0.1:1", "--account", p.AccountID)
}

func badInput(t *testing.T, c cli) {
	twice := []string{"versions", "upload", "empty", "--origin", "http://127.0.0.1:1", "--tag", "same"}
	c.run(t, twice...)
	if out, note, status := c.exec(t, filepath.Join(bin, "tidegate"), twice...); status != 0 || !strings.Contains(out, "Uploaded version 2") || !strings.Contains(note, "The tag same is that of 2 versions now") {
		t.Errorf("a tag twice: status %d, %q and %q", status, out, note)
	}
	c.fail(t, 1, "means 2 versions", "versions", "deploy", "empty", "same", "-y")
	for _, bad := range []struct {
		status  int
		words   string
		command string
	}{
		{2, `tidegate has no command "verions": it has`, "verions list"},
		{2, "; did you mean versions?", "verions list"},
		{2, `tidegate versions has no command "lst": it has deploy, list, upload, view`, "versions lst cart"},
		{2, "unknown flag: --jsn; did you mean --json?\nSee tidegate versions list --help.", "versions list cart --jsn"},
		{2, `--for is "soon": it must be a duration, such as 90s`, "tail cart --for soon"},
		{2, "needs SCRIPT: tidegate versions list SCRIPT", "versions list"},
		{2, "too many arguments: tidegate deployments status", "deployments status cart shop"},
		{2, "needs --origin: URL of", "versions upload cart"},
		{1, "must be absolute", "versions upload cart --origin ftp://127.0.0.1"},
		{1, `script "nobody" does not exist`, "versions list nobody"},
		{1, `"v9" is neither the tag of a deployable version nor the first 8 or more hex digits of its id; "tidegate versions list SCRIPT" shows both`, "versions view cart v9"},
		{2, "name the versions", "versions deploy cart"},
		{2, "name the versions", "versions deploy cart -y"},
		{2, "sum to 110%", "versions deploy cart v1@90 v2@20"},
		{2, `"ten" is not a percentage`, "versions deploy cart v1@ten v2"},
		{2, "repeated", "versions deploy cart v1 v1"},
		{1, `"v9" is neither`, "versions deploy cart v1@90 v9@10"},
		{1, "is not a version of script", "versions deploy cart 00000000-0000-4000-8000-000000000000"},
		{1, `"v9" is neither`, "rollback cart v9"},
		{1, "no earlier deployment", "rollback empty"},
		{1, "has never been deployed", "deployments status empty"},
		{2, "See tidegate policy set --help.", "policy set cart"},
		{1, `script "nobody" does not exist`, "policy set nobody --action notify"},
		{2, "but not with both", "policy set cart --file policy.json --action notify"},
		{1, "no such file", "policy set cart --file nowhere.json"},
		{2, `--max-failure-rate "much"`, "policy set cart --max-failure-rate much"},
		{2, "max_failure_rate 2 must be above 0 and below 1", "policy set cart --max-failure-rate 2"},
		{2, "such as 90s or 5m", "policy set cart --look-back 300"},
		{2, `action "explode"`, "policy set cart --action explode"},
		{2, "must be above 25%", "policy set cart --ramp 25%,5%"},
		{2, "say what to set", "affinity set cart"},
		{2, "but not with both", "affinity set cart client_ip --file rules.json"},
		{2, "but not with both", "affinity set cart --forward --file rules.json"},
		{2, "goes with --set-cookie", "affinity set cart cookie:a --cookie-path /a"},
		{2, "set.secure must be", "affinity set cart cookie:a --set-cookie --cookie-same-site none"},
		{1, "no such file", "affinity set cart --file nowhere.json"},
		{2, `source is "moon"`, "affinity set cart moon:x"},
		{2, "end with a slash", "affinity set cart path:/carts"},
		{1, `script "nobody" does not exist`, "affinity set nobody client_ip"},
		{1, `script "nobody" does not exist`, "affinity delete nobody"},
		{2, "at most 1", "sampling set cart 101%"},
		{2, "must be a share", "sampling set cart few"},
		{1, `script "nobody" does not exist`, "sampling get nobody"},
		{1, `script "nobody" does not exist`, "sampling set nobody 1%"},
		{2, `--since is "yesterday"`, "metrics show cart --since yesterday"},
		{1, `script "nobody" does not exist`, "metrics show nobody"},
		{1, `"v9" is neither`, "metrics compare cart v1 v9"},
		{1, "name two versions", "metrics compare cart v1 v1"},
		{1, "confidence is", "metrics compare cart v1 v2 --confidence 2"},
		{1, "limit", "metrics overview --limit 1001"},
		{1, `status "6xx1"`, "events list cart --status 6xx1"},
		{1, `"v9" is neither`, "events list cart --version v9"},
		{1, `script "nobody" does not exist`, "events list nobody"},
		{1, "16 hex digits", "events view 7"},
		{2, "go together", "events exceptions cart --new-in v1"},
		{1, `script "nobody" does not exist`, "tail nobody --for 10s"},
		{2, "say whose rules", "redaction get"},
		{2, "but not with both", "redaction delete cart --all-scripts"},
		{2, "say what to take out", "redaction set cart"},
		{2, "but not with both", "redaction set cart --header a --file rules.json"},
		{2, `built_ins[0] is "passports"`, "redaction set cart --built-in passports"},
		{1, "no redaction rules", "redaction get cart"},
		{1, `script "nobody" does not exist`, "redaction set nobody --header a"},
		{2, "say what to delete", "data delete --yes"},
		{2, "but not with both", "data delete cart --all-scripts --yes"},
		{2, "say --yes", "data delete cart"},
		{2, "--before", "data delete cart --before soon --yes"},
		{1, "is in the future", "data delete cart --before 2999-01-01T00:00:00Z --yes"},
		{1, `no deletion "none"`, "data deletions none"},
		{1, `no entry "none"`, "audit none"},
		{2, "--since", "audit --since soon"},
		{2, "needs --destination", "jobs create --name x"},
		{2, "needs --scope", "token create --name x"},
		{2, "must be above 0", "token create --name x --scope admin --expires-in -1h"},
	} {
		c.fail(t, bad.status, bad.words, strings.Fields(bad.command)...)
	}
}
