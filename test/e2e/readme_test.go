package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestReadme runs the README's first ten minutes as they stand.
func TestReadme(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data"), Args: []string{"--logpush-interval", "1s"}})
	out := runReadme(t, p, dir, "First ten minutes", 5)
	for _, want := range []string{"rolled back", "\"success\":true", "v2 200", " v1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
	eventually(t, 30*time.Second, "the job has written a file", func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(dir, "data", "logpush", "shop", "*.log.gz"))
		return len(files) > 0, err
	})
}

// TestReadmeWrangler runs the README's way with wrangler as it stands. npm and npx
// are commands that lead to what test/wrangler has installed.
func TestReadmeWrangler(t *testing.T) {
	t.Parallel()
	dir, tools := t.TempDir(), t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data")})
	newest := wranglers[len(wranglers)-1]
	api := record(t, p)
	project := newProject(t, newest, p, api, "readme")
	node := modules(t, newest.node)
	for name, script := range map[string]string{
		"npm": fmt.Sprintf("#!/bin/sh\n[ \"$1\" = create ] || exit 0\nshift 4\nexec %s %s \"$@\" --no-auto-update\n", node, modules(t, "create-cloudflare/bin/c3.js")),
		"npx": fmt.Sprintf("#!/bin/sh\nshift\nexec %s %s \"$@\"\n", node, modules(t, newest.folder, "bin/wrangler.js")),
	} {
		if err := os.WriteFile(filepath.Join(tools, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	env := append(project.env, "CI=1", "CREATE_CLOUDFLARE_TELEMETRY_DISABLED=1", "PATH="+tools+":"+os.Getenv("PATH"))
	p.Ready.API = api.server.URL // what the section calls the API's address
	out := runReadme(t, p, dir, "With wrangler", 3, env...)
	for _, want := range []string{"Hello World!", "Hello again!", "once was enough"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}

// runReadme runs the sh blocks of a section in one shell, beside p, in dir. Only
// the addresses are put in place of the defaults, so that it can run beside
// anything else. It returns all that the commands wrote.
func runReadme(t *testing.T, p *platform.Platform, dir, title string, blocksMin int, env ...string) string {
	t.Helper()
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "## "+title)
	if !ok {
		t.Fatalf("the README has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) < blocksMin {
		t.Fatalf("the section has %d sh blocks", len(blocks))
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n")
	for _, block := range blocks {
		script.WriteString(block[1])
	}
	addresses := strings.NewReplacer(
		"127.0.0.1:8787", hostPort(p.Ready.API),
		"dev.localhost:8080", "dev.localhost:"+port(t, hostPort(p.Gateway)),
		"127.0.0.1:8123", hostPort(p.ClickHouse),
		"9001", freePort(t), "9002", freePort(t))
	command := exec.CommandContext(t.Context(), "bash", "-c", addresses.Replace(script.String()))
	command.Dir, command.Env = dir, append(os.Environ(), env...)
	command.WaitDelay = 5 * time.Second // its background servers end with it
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("the commands fail: %v\n%s", err, out)
	}
	return string(out)
}

func port(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// freePort finds a port that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return port(t, listener.Addr().String())
}
