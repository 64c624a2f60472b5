package main

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file that is none was sent as a token, and the server was blamed for what no header can carry.
func TestFilesThatHoldNoToken(t *testing.T) {
	api := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.URL) })
	f := func(content string) {
		t.Helper()
		path := filepath.Join(t.TempDir(), "README.md")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := output(t, api, "token", "list", "--token-file", path); err == nil || !strings.HasPrefix(err.Error(), path+" holds no token") {
			t.Errorf("%q: error %v", content, err)
		}
	}
	f("# Tidegate\n\nA platform\n")
	f("two words")
	f("escape\x1b[31m")
	f("\n")
	root := clientOf(t, api, "token", "list")
	t.Setenv("TIDEGATE_TOKEN", "two words")
	if err := root.ExecuteContext(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "TIDEGATE_TOKEN holds no token") {
		t.Errorf("error %v", err)
	}
}

// The port of the gateway is one digit from that of the API, and its answer was told as bad JSON.
func TestWhatIsNotTheAPI(t *testing.T) {
	f := func(status int, body, want string, args ...string) {
		t.Helper()
		api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
		_, err := output(t, api, args...)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--api") {
			t.Errorf("%d %q, %q: error %v", status, body, args, err)
		}
	}
	list := []string{"token", "list"}
	const other = " is not Tidegate's API: status 404 without its envelope"
	f(404, "No such host\n", other+"; name the address", list...)
	f(404, "", other, list...)
	f(404, `"not found"`, other, list...)
	f(404, "No such host\n", other, "policy", "backtest", "shop")
	f(404, "No such host\n", other, "tail", "shop")
	f(404, "No such host\n", other, "jobs", "dead-letters", "show", "3", "l1", "--content")
	f(503, "<html>", "is not Tidegate's API: status 503", list...)
}
