package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programs are a folder of shell scripts, for PATH.
func programs(t *testing.T, scripts map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, script := range scripts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir + string(os.PathListSeparator) + os.Getenv("PATH")
}

// The libraries that browsers get are scanned as the engines are. What could not be looked up passes, and is said, unless a scan is required.
func TestWhatIsPublishedIsScanned(t *testing.T) {
	const clean, found, away = `echo '{"auditReportVersion": 2}'`, `echo '{"auditReportVersion": 2}'; exit 1`, `echo 'npm error audit endpoint returned an error' >&2; exit 1`
	f := func(deps, web, required string, passes bool, want string) {
		t.Helper()
		scan := exec.CommandContext(t.Context(), "bash", filepath.Join(root, ".ci", "vulnerabilities"))
		scan.Env = append(os.Environ(), "TIDEGATE_REQUIRE_SCAN="+required, "PATH="+programs(t, map[string]string{
			"go":  `printf '#!/bin/sh\n' >"$GOBIN/govulncheck"; chmod +x "$GOBIN/govulncheck"`,
			"npm": `case "$*:$PWD" in audit*--omit=dev*/dashboards/web) ` + web + `;; audit*--omit=dev*/deps) ` + deps + `;; *) exit 9;; esac`,
		}))
		out, err := scan.CombinedOutput()
		if (err == nil) != passes || !strings.Contains(string(out), want) {
			t.Errorf("%q, %q, required %s: %v, %s", deps, web, required, err, out)
		}
	}
	f(clean, clean, "1", true, "no known vulnerabilities in dashboards/web")
	f(clean, found, "0", false, "vulnerable packages in dashboards/web/package-lock.json")
	f(found, clean, "0", false, "vulnerable packages in deps/package-lock.json")
	f(clean, away, "0", true, "NOT SCANNED: npm packages of dashboards/web")
	f(clean, away, "1", false, "a scan that could not be made is a failure")
}

// A release asks for the scan of what it releases, and without one there is nothing to publish.
func TestAReleaseIsScanned(t *testing.T) {
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, ".ci"), 0o700); err != nil {
		t.Fatal(err)
	}
	f := func(required bool, script, want string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, ".ci", "vulnerabilities"), []byte(script), 0o600); err != nil {
			t.Fatal(err)
		}
		err := scan(required)(t.Context(), &source{folder: folder, version: "v1"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("required %v, %s: %v, want %q", required, script, err, want)
		}
	}
	const unreachable = `exit "$TIDEGATE_REQUIRE_SCAN"`
	f(true, unreachable, "-unscanned")
	f(false, unreachable, "")
	f(true, "exit 1", "scan v1 for vulnerabilities")
	f(false, "exit 1", "scan v1 for vulnerabilities")
	f(true, "exit 0", "")

	out, refused := filepath.Join(t.TempDir(), "dist"), errors.New("vulnerable")
	err := release(t.Context(), root, "HEAD", out, platforms, func(_ context.Context, s *source) error {
		if _, err := os.Stat(filepath.Join(s.folder, ".ci", "vulnerabilities")); err != nil {
			t.Errorf("what is released has no scan: %v", err)
		}
		return refused
	})
	if entries, readErr := os.ReadDir(out); !errors.Is(err, refused) || readErr != nil || len(entries) != 0 {
		t.Errorf("the release: %v; it left %v, %v", err, entries, readErr)
	}
}
