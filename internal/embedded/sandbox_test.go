package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// needSandbox skips a test of what only the sandbox keeps the engine from.
func needSandbox(t *testing.T) {
	t.Helper()
	if _, err := landlockVersion(); err != nil {
		t.Skipf("nothing but a sandbox refuses this, and there is none here: %v", err)
	}
}

// runSandboxProbe enters the sandbox and then tries what it is given: pairs of a deed and what to do it to. It
// prints those that succeed on any of its threads.
func runSandboxProbe(args []string) int {
	dir, deeds := args[0], args[1:]
	if i := slices.Index(deeds, "--sandbox"); i >= 0 {
		deeds = deeds[:i]
	} else {
		fmt.Println(enterSandbox("--sandbox", dir, filepath.Join(dir, "library")))
		return 1
	}
	deed := map[string]func(string) error{
		"read":   func(path string) error { _, err := os.ReadFile(path); return err },
		"write":  func(path string) error { return os.WriteFile(path, []byte("x"), 0o600) },
		"list":   func(path string) error { _, err := os.ReadDir(path); return err },
		"remove": os.Remove,
		"rename": func(path string) error { return os.Rename(path, path+".renamed") },
		"run":    func(path string) error { return exec.Command(path).Run() },
		"dial": func(addr string) error {
			conn, err := net.Dial("tcp", addr)
			return errors.Join(err, closed(conn))
		},
		"listen": func(addr string) error {
			var lc net.ListenConfig
			lc.SetMultipathTCP(false) // Go's default, over which Landlock has no say
			ln, err := lc.Listen(context.Background(), "tcp", addr)
			return errors.Join(err, closed(ln))
		},
	}
	var threads sync.WaitGroup
	var mu sync.Mutex
	done := map[string]bool{}
	for range 8 {
		threads.Go(func() {
			runtime.LockOSThread() // a thread of its own, which ends with it
			for i := 0; i+1 < len(deeds); i += 2 {
				if deed[deeds[i]](deeds[i+1]) == nil {
					mu.Lock()
					done[deeds[i]+" "+deeds[i+1]] = true
					mu.Unlock()
				}
			}
		})
	}
	threads.Wait()
	for what := range done {
		fmt.Println(what)
	}
	for _, variable := range os.Environ() {
		fmt.Println(variable)
	}
	return 0
}

func closed(c interface{ Close() error }) error {
	switch v := c.(type) {
	case *net.TCPConn:
		return v.Close()
	case *net.TCPListener:
		return v.Close()
	}
	return nil
}

func TestSandboxHoldsOnEveryThread(t *testing.T) {
	needSandbox(t)
	t.Setenv("A_SECRET", "of the parent")
	root := t.TempDir()
	dir := filepath.Join(root, "clickhouse")
	secret, inside := filepath.Join(root, "admin-token"), filepath.Join(dir, "inside")
	for _, path := range []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{secret, inside, filepath.Join(dir, "a", "old"), filepath.Join(dir, "script")} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil { // #nosec G306 -- to be run
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(secret, link); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()

	probe := exec.CommandContext(t.Context(), os.Args[0], "sandbox-probe", dir,
		"read", inside, "write", filepath.Join(dir, "new"), "list", dir, "rename", filepath.Join(dir, "a", "old"), "write", "/dev/null", "read", "/proc/self/status",
		"read", secret, "read", link, "read", "/etc/passwd", "read", fmt.Sprintf("/proc/%d/cmdline", os.Getpid()), "write", secret, "write", filepath.Join(root, "new"), "remove", secret, "list", root, "list", "/",
		"run", "/bin/true", "run", filepath.Join(dir, "script"), "dial", ln.Addr().String(), "listen", "127.0.0.1:0")
	probe.Env = append(os.Environ(), "GORACE=")
	out, err := probe.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got := strings.Split(strings.TrimSpace(string(out)), "\n")
	slices.Sort(got)
	want := []string{
		"TMPDIR=" + dir, "TZ=UTC", "list " + dir, "read " + inside, "read /proc/self/status",
		"rename " + filepath.Join(dir, "a", "old"), "write " + filepath.Join(dir, "new"), "write /dev/null",
	}
	slices.Sort(want)
	if version, _ := landlockVersion(); version < 4 { // it has no say over TCP
		want = append(want, "dial "+ln.Addr().String(), "listen 127.0.0.1:0")
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		t.Errorf("in the sandbox these can be done:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// The files of the platform lie around the engine's directory: the operator's token, the control state.
func TestEngineReadsAndWritesItsDirectoryAlone(t *testing.T) {
	needSandbox(t)
	root := t.TempDir()
	token := filepath.Join(root, "admin-token")
	if err := os.WriteFile(token, []byte("the secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "clickhouse")
	script := filepath.Join(dir, "user_scripts", "run.sh")
	if err := os.MkdirAll(filepath.Dir(script), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho the secret\n"), 0o700); err != nil { // #nosec G306 -- to be run
		t.Fatal(err)
	}
	e := startEngine(t, dir)
	for _, query := range []string{
		"SELECT file('" + token + "')",
		"SELECT file('../admin-token')",
		"SELECT file('/proc/1/environ')",
		"SELECT file('/etc/passwd')",
		"SELECT * FROM sqlite('" + filepath.Join(root, "control.db") + "', 't')",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := ask(t, e, method, "", "query", query)
			if a.status == http.StatusOK || strings.Contains(a.body, "the secret") {
				t.Errorf("%s %s: status %d, %s", method, query, a.status, a.body)
			}
		}
	}
	// What cannot be run gives no rows.
	if a := ask(t, e, http.MethodPost, "SELECT * FROM executable('run.sh', 'TSV', 'a String')"); a.body != "" && !strings.HasPrefix(a.body, "Code: ") {
		t.Errorf("a program was run: %s", a.body)
	}
	for _, engine := range []string{"EmbeddedRocksDB(0, '%s/x') PRIMARY KEY a", "EmbeddedRocksDB(0, '%s/x', 1) PRIMARY KEY a"} {
		a := ask(t, e, http.MethodPost, "CREATE TABLE rocks (a String) ENGINE = "+fmt.Sprintf(engine, root))
		if a.status == http.StatusOK {
			t.Errorf("%s: status %d, %s", engine, a.status, a.body)
		}
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "files around the engine's directory", len(entries), 2)
}

func TestEngineKnowsNothingOfItsParentsEnvironment(t *testing.T) {
	t.Setenv("A_SECRET", "of the parent")
	e := startEngine(t, t.TempDir())
	if a := ask(t, e, http.MethodPost, "SELECT file('/proc/self/environ')"); a.status != http.StatusOK || strings.Contains(a.body, "A_SECRET") {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}
