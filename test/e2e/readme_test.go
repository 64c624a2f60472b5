package e2e

import (
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

// TestReadme runs the README's first ten minutes as they stand, in one shell,
// beside a fresh platform. Only the addresses are put in place of the defaults,
// so that it can run beside anything else.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(readme), "## First ten minutes")
	if !ok {
		t.Fatal("the README has no section \"First ten minutes\"")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) < 5 {
		t.Fatalf("the section has %d sh blocks", len(blocks))
	}
	var script strings.Builder
	script.WriteString("set -euo pipefail\ntrap 'kill $(jobs -p)' EXIT\n")
	for _, block := range blocks {
		script.WriteString(block[1])
	}

	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data"), Args: []string{"--logpush-interval", "1s"}})
	addresses := strings.NewReplacer(
		"127.0.0.1:8787", hostPort(p.Ready.API),
		"dev.localhost:8080", "dev.localhost:"+port(t, hostPort(p.Gateway)),
		"127.0.0.1:8123", hostPort(p.ClickHouse),
		"9001", freePort(t), "9002", freePort(t))
	command := exec.CommandContext(t.Context(), "bash", "-c", addresses.Replace(script.String()))
	command.Dir = dir
	command.WaitDelay = 5 * time.Second // its background servers end with it
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("the commands fail: %v\n%s", err, out)
	}
	for _, want := range []string{"rolled back", "\"success\":true", "v2 200", " v1"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
	eventually(t, 30*time.Second, "the job has written a file", func() (bool, error) {
		files, err := filepath.Glob(filepath.Join(dir, "data", "logpush", "shop", "*.log.gz"))
		return len(files) > 0, err
	})
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
