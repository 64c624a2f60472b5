package clickhouse

import (
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/certs"
	"tidegate/internal/certs/certstest"
)

// secureServer is the engine as a server that is reached over TLS and asks who comes.
func secureServer(t *testing.T, ca *certstest.Authority, demands bool, admits func(http.Header) bool) string {
	t.Helper()
	inner, err := url.Parse(serverAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	pair := certs.Pair(ca.Issue(t, "server", "127.0.0.1"))
	files, err := certs.Load([]certs.Pair{pair}, certs.Metrics{}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if demands {
		if err := files.AskClients(ca.File); err != nil {
			t.Fatal(err)
		}
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(inner)
		for _, name := range []string{"User", "Key", "SSL-Certificate-Auth"} { // which the embedded engine knows nothing of
			r.Out.Header.Del("X-ClickHouse-" + name)
		}
	}}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !admits(r.Header) || r.Header.Get("Authorization") != "" { // ClickHouse takes one way to log in at a time
			w.Header().Set("X-ClickHouse-Exception-Code", "516")
			http.Error(w, "Code: 516. DB::Exception: Authentication failed", http.StatusForbidden)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	s.Listener = files.Listener(s.Listener, tls.RequireAndVerifyClientCert)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.Start()
	t.Cleanup(s.Close)
	return "https://" + s.Listener.Addr().String()
}

func TestServerOverTLSWithAPasswordInAFile(t *testing.T) {
	ca := certstest.NewAuthority(t, "test")
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s3cret\n")
	addr := secureServer(t, ca, false, func(h http.Header) bool {
		return h.Get("X-ClickHouse-User") == "tidegate" && h.Get("X-ClickHouse-Key") == "s3cret" && h.Get("X-ClickHouse-SSL-Certificate-Auth") == ""
	})
	for _, parameters := range []string{"", "?compress=lz4"} {
		cfg := DefaultConfig(addr + parameters)
		cfg.Database = "secured"
		cfg.Access = Access{TLS: certs.Client{CAFile: ca.File}, User: "tidegate", PasswordFile: file}
		if err := cfg.Access.Check(); err != nil {
			t.Fatal(err)
		}
		db := openWith(t, cfg)
		if err := db.Ping(t.Context()); err != nil {
			t.Error(err)
		}
		if err := db.Migrate(t.Context()); err != nil {
			t.Error(err)
		}
		write("another\n")
		if err := db.Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "Authentication failed") {
			t.Errorf("with a password that is replaced by a wrong one: %v", err)
		}
		write("s3cret")
		if err := db.Ping(t.Context()); err != nil {
			t.Errorf("with the right one again: %v", err)
		}
	}
	cfg := DefaultConfig(addr)
	cfg.Access = Access{User: "tidegate", PasswordFile: file}
	if err := openWith(t, cfg).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "speak TLS to ClickHouse at "+strings.TrimPrefix(addr, "https://")) ||
		!strings.Contains(err.Error(), "name the file of the authority") {
		t.Errorf("without its authority: %v", err)
	}
	for path, want := range map[string]string{filepath.Join(t.TempDir(), "none"): "read the password", ca.File: ""} {
		err := Access{TLS: certs.Client{CAFile: ca.File}, User: "tidegate", PasswordFile: path}.Check()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestUserKnownByACertificate(t *testing.T) {
	ca := certstest.NewAuthority(t, "test")
	own := ca.Issue(t, "tidegate")
	addr := secureServer(t, ca, true, func(h http.Header) bool {
		return h.Get("X-ClickHouse-User") == "tidegate" && h.Get("X-ClickHouse-Key") == "" && h.Get("X-ClickHouse-SSL-Certificate-Auth") == "on"
	})
	cfg := DefaultConfig(addr)
	cfg.Access = Access{TLS: certs.Client{CAFile: ca.File, CertFile: own.Cert, KeyFile: own.Key}, User: "tidegate"}
	if err := openWith(t, cfg).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	cfg.Access.TLS = certs.Client{CAFile: ca.File}
	if err := openWith(t, cfg).Ping(t.Context()); err == nil || !strings.Contains(err.Error(), "asks for a certificate of the client") {
		t.Errorf("without a certificate: %v", err)
	}
}
