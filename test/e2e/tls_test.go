package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// startWithTLS starts a platform as docs/operations says, but for the ports. It returns
// the section's blocks: how the certificate is made, what is started, how it is visited.
func startWithTLS(t *testing.T, dir string) (*platform.Platform, []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## TLS, HTTP/2 and balancers")
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, block[1])
	}
	if len(blocks) != 3 {
		t.Fatalf("the section has %d sh blocks, want 3", len(blocks))
	}
	if out, err := shell(t, dir, blocks[0]); err != nil {
		t.Fatalf("make a certificate: %v\n%s", err, out)
	}
	flags, ok := strings.CutPrefix(strings.TrimSpace(blocks[1]), "bin/tidegate up ")
	if !ok {
		t.Fatalf("the second block is %q", blocks[1])
	}
	flags = strings.NewReplacer("127.0.0.1:8443", "127.0.0.1:0", "gateway.crt", filepath.Join(dir, "gateway.crt"), "gateway.key", filepath.Join(dir, "gateway.key")).Replace(flags)
	return start(t, platform.Options{Args: strings.Fields(flags)}), blocks
}

func shell(t *testing.T, dir, script string) (string, error) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
	command.Dir = dir
	out, err := command.CombinedOutput()
	return string(out), err
}

// TestOperationsTLS visits a script as docs/operations says, and renews the
// certificate in between.
func TestOperationsTLS(t *testing.T) {
	dir := t.TempDir()
	p, blocks := startWithTLS(t, dir)
	serve(t, p, "shop", okHandler)
	visit := strings.NewReplacer(":8443", ":"+port(t, hostPort(p.GatewayTLS)), ":8080", ":"+port(t, hostPort(p.Gateway))).Replace(blocks[2])
	const want = "ok HTTP/2\nok HTTP/2\n"
	if out, err := shell(t, dir, visit); out != want || err != nil {
		t.Errorf("the commands wrote %q, %v", out, err)
	}
	if out, err := shell(t, dir, blocks[0]); err != nil { // curl trusts the new one alone
		t.Fatalf("make another certificate: %v\n%s", err, out)
	}
	eventually(t, 30*time.Second, "the new certificate is presented", func() (bool, error) {
		out, err := shell(t, dir, visit)
		return out == want, err
	})
}

// TestHTTP2Spec runs test/h2spec, a module of its own, against both listeners.
func TestHTTP2Spec(t *testing.T) {
	p, _ := startWithTLS(t, t.TempDir())
	for _, env := range [][]string{
		{"TIDEGATE_TEST_GATEWAY=" + hostPort(p.Gateway)},
		{"TIDEGATE_TEST_GATEWAY=" + hostPort(p.GatewayTLS), "TIDEGATE_TEST_TLS=1"},
	} {
		command := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", ".")
		command.Dir = filepath.Join("..", "h2spec")
		command.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
		command.WaitDelay = 5 * time.Second
		if out, err := command.CombinedOutput(); err != nil || !strings.Contains(string(out), "checks passed") {
			t.Errorf("%v: %v\n%s", env, err, out)
		}
	}
}
