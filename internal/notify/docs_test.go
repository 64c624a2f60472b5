package notify

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/signature"
)

// TestTheDocumentedReceiverVerifiesWhatIsSent builds what docs/rollback.md shows to
// receivers, and gives it what one of them got.
func TestTheDocumentedReceiverVerifiesWhatIsSent(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "rollback.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```go\npackage main\n")
	shown, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatal("docs/rollback.md shows no program")
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module receiver\n\ngo 1.26\n",
		"verify.go": "package main\n" + shown,
		"main.go": `package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	body, err := io.ReadAll(os.Stdin)
	if err == nil {
		err = verify(os.Args[1], os.Args[2], body, time.Now())
	}
	fmt.Print(err)
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "receiver", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := func(secret, header, body, want string) {
		t.Helper()
		run := exec.CommandContext(t.Context(), filepath.Join(dir, "receiver"), secret, header)
		run.Stdin = strings.NewReader(body)
		if out, err := run.Output(); err != nil || !bytes.Contains(out, []byte(want)) {
			t.Errorf("the receiver says %q, error %v; want %q", out, err, want)
		}
	}

	r := newReceiver(t, nil)
	n := notificationFor(deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: r.URL, Secret: secret})
	if err := newService(t, nil, local).try(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	got := r.next(t)
	header, body := got.header.Get(signature.Header), string(got.body)
	f(secret, header, body, "<nil>")
	f(secret, header+",v1=00", body, "<nil>")
	f("another", header, body, "does not belong")
	f(secret, header, body+" ", "does not belong")
	old, err := signature.Sign(secret, time.Now().Add(-time.Hour), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	f(secret, old, body, "too old")
}
