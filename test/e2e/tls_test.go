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

// TestOperationsTLS runs what docs/operations says of TLS as it stands, but for the
// ports, and renews the certificate in between.
func TestOperationsTLS(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## TLS, HTTP/2 and balancers")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(section, -1)
	if len(blocks) != 3 {
		t.Fatalf("the section has %d sh blocks, want 3", len(blocks))
	}
	dir := t.TempDir()
	run := func(script string) string {
		t.Helper()
		command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", script)
		command.Dir = dir
		out, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("the commands fail: %v\n%s", err, out)
		}
		return string(out)
	}
	run(blocks[0][1])
	flags, ok := strings.CutPrefix(strings.TrimSpace(blocks[1][1]), "bin/tidegate up ")
	if !ok {
		t.Fatalf("the second block is %q", blocks[1][1])
	}
	flags = strings.NewReplacer("127.0.0.1:8443", "127.0.0.1:0", "gateway.crt", filepath.Join(dir, "gateway.crt"), "gateway.key", filepath.Join(dir, "gateway.key")).Replace(flags)
	p := start(t, platform.Options{Args: strings.Fields(flags)})
	serve(t, p, "shop", okHandler)

	visit := strings.NewReplacer(":8443", ":"+port(t, strings.TrimPrefix(p.GatewayTLS, "https://")), ":8080", ":"+port(t, hostPort(p.Gateway))).Replace(blocks[2][1])
	if out := run(visit); out != "ok HTTP/2\nok HTTP/2\n" {
		t.Errorf("the commands wrote %q", out)
	}
	run(blocks[0][1]) // curl trusts the new one alone
	eventually(t, 30*time.Second, "the new certificate is presented", func() (bool, error) {
		command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", visit)
		command.Dir = dir
		out, err := command.Output()
		return string(out) == "ok HTTP/2\nok HTTP/2\n", err
	})
}
