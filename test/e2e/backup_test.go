package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// A platform goes back to a backup that was taken while it ran, under a router that has
// gone on since: the router takes what was restored, though its own snapshot is later than
// the backup, and then what is deployed after the restore.
func TestRestoreUnderARunningRouter(t *testing.T) {
	dir := t.TempDir()
	c := cli{dir: dir}
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data")})
	gateway := "127.0.0.1:" + freePort(t)
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(p.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	router, err := platform.StartProcess(logOf(t, "router"), nil, filepath.Join(bin, "router"),
		"--api-url", p.Ready.API, "--api-token-file", token, "--kafka", p.Kafka, "--gateway-addr", gateway, "--data-dir", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Kill)
	deployed := func(p *platform.Platform, text string) {
		t.Helper()
		origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
		t.Cleanup(origin.Close)
		version, err := p.UploadOrigin(t.Context(), "shop", origin.URL, text, "")
		if err == nil {
			_, err = p.Deploy(t.Context(), "shop", deploy.Split{VersionID: version, Percentage: deploy.Full})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	serves := func(p *platform.Platform, text string) {
		t.Helper()
		far := *p
		far.Gateway = "http://" + gateway
		for name, reached := range map[string]*platform.Platform{"the router": &far, "the platform's own gateway": p} {
			eventually(t, 30*time.Second, name+" serves "+text, func() (bool, error) {
				status, body, err := reached.Visit(t.Context(), http.DefaultClient, "shop", nil)
				return status == http.StatusOK && body == text, err
			})
		}
	}

	deployed(p, "v1")
	serves(p, "v1")
	_, message, status := c.exec(t, filepath.Join(bin, "tidegate"), "backup", "control.backup")
	if info, err := os.Stat(filepath.Join(dir, "control.backup")); status != 0 || err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the backup: status %d, %s, %v, %v", status, message, info, err)
	}
	deployed(p, "v2")
	deployed(p, "v3")
	serves(p, "v3")
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	c.fail(t, 1, "only --replace", "restore", "control.backup")
	if said := c.run(t, "restore", "--replace", "control.backup"); !strings.Contains(said, "restored") {
		t.Errorf("the restore said %q", said)
	}
	again := start(t, platform.Options{DataDir: p.DataDir, Args: addresses(p)})
	serves(again, "v1")
	list, err := again.Deployments(t.Context(), "shop")
	if err != nil || len(list) != 1 {
		t.Errorf("%d deployments were restored, %v", len(list), err)
	}
	deployed(again, "v4")
	serves(again, "v4")
	c.fail(t, 1, "is in use by tidegate (process ", "restore", "--replace", "control.backup")
}
