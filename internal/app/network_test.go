package app

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"tidegate/internal/certs"
	"tidegate/internal/certs/certstest"
	"tidegate/internal/clickhouse"
	"tidegate/internal/store"
	"tidegate/internal/telemetry"
	"tidegate/schema/control"
)

func TestTLSByHalfIsRefused(t *testing.T) {
	f := func(want string, flags ...string) {
		t.Helper()
		c := DefaultConfig(RoleAPI, RoleGateway)
		set := pflag.NewFlagSet("test", pflag.ContinueOnError)
		c.Bind(set)
		if err := set.Parse(append([]string{"--kafka", "127.0.0.1:9092", "--clickhouse", "http://127.0.0.1:8123", "--database", "x", "--secrets-key-file", "keys"}, flags...)); err != nil {
			t.Fatal(err)
		}
		err := c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	f("", "--api-tls-cert", "a", "--api-tls-key", "b", "--api-client-ca-file", "c", "--routers-need-certificate")
	f("", "--ops-addr", ":1", "--ops-tls-cert", "a", "--ops-tls-key", "b", "--ops-client-ca-file", "c")
	f("", "--api-url", "https://control:1", "--api-ca-file", "a", "--api-cert-file", "b", "--api-key-file", "c")
	const server = "https://clickhouse:8443"
	f("", "--clickhouse", server, "--clickhouse-ca-file", "a", "--clickhouse-user", "u", "--clickhouse-password-file", "p")
	f("", "--clickhouse", server, "--clickhouse-cert-file", "a", "--clickhouse-key-file", "b", "--clickhouse-user", "u")
	f("", "--clickhouse-user", "u", "--clickhouse-password-file", "p")
	f("begins with https://", "--clickhouse-ca-file", "a")
	f("--clickhouse-key-file", "--clickhouse", server, "--clickhouse-cert-file", "a")
	f("needs --clickhouse-user", "--clickhouse", server, "--clickhouse-password-file", "p")
	f("without --clickhouse-password-file", "--clickhouse", server, "--clickhouse-user", "u")
	f("name one of them", "--clickhouse", "https://u:p@clickhouse:8443", "--clickhouse-user", "u", "--clickhouse-password-file", "p")
	if err := validateClickHouse("", clickhouse.Access{User: "u"}); err == nil || !strings.Contains(err.Error(), "need --clickhouse") {
		t.Errorf("without a server: %v", err)
	}
	f("--api-tls-key", "--api-tls-cert", "a")
	f("--api-tls-cert", "--api-tls-key", "a")
	f("--ops-tls-key", "--ops-addr", ":1", "--ops-tls-cert", "a")
	f("needs --ops-addr", "--ops-tls-cert", "a", "--ops-tls-key", "b")
	f("needs --ops-addr", "--ops-pprof")
	f("needs --ops-tls-cert", "--ops-addr", ":1", "--ops-client-ca-file", "c")
	f("needs --api-tls-cert", "--api-client-ca-file", "c")
	f("needs --api-client-ca-file", "--api-tls-cert", "a", "--api-tls-key", "b", "--routers-need-certificate")
	f("begins with https://", "--api-url", "http://control:1", "--api-ca-file", "a")
	f("begins with https://", "--api-cert-file", "a", "--api-key-file", "b")
	f("", "--api-ca-file", "a")
	f("--api-key-file", "--api-url", "https://control:1", "--api-cert-file", "a")
}

// Nobody has to correct one fault to learn of the next.
func TestEveryFaultOfTheNetworkIsNamed(t *testing.T) {
	c := NetworkConfig{APICert: "a", OpsKey: "b", ControlCert: "c", OpsClientCA: "d", RoutersNeedCertificate: true}
	if got := each(c.validate("", true, "http://control:1")); len(got) != 7 {
		t.Errorf("%d faults: %q", len(got), got)
	}
	a := clickhouse.Access{PasswordFile: "p", TLS: certs.Client{CertFile: "a"}}
	if got := each(validateClickHouse("http://clickhouse:8123", a)); len(got) != 3 {
		t.Errorf("%d faults: %q", len(got), got)
	}
}

// What speaks TLS is named so, in ready.json too, and lets in whom it should.
func TestListenersSpeakTLS(t *testing.T) {
	ca := certstest.NewAuthority(t, "test")
	pair, client := ca.Issue(t, "server", "127.0.0.1"), ca.Issue(t, "prometheus")
	config := DefaultConfig(RoleAPI)
	config.API.Addr, config.OpsAddr = "127.0.0.1:0", "127.0.0.1:0"
	config.Network = NetworkConfig{APICert: pair.Cert, APIKey: pair.Key, OpsCert: pair.Cert, OpsKey: pair.Key, OpsClientCA: ca.File}
	p := &process{config: config, log: slog.New(slog.DiscardHandler)}
	var err error
	if p.tel, err = telemetry.Start(t.Context(), "tidegate", Version); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.tel.Stop(context.Background()) })
	if err := p.listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.secureListeners(); err != nil {
		t.Fatal(err)
	}
	p.serve(listenAPI, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, r.Proto) })})
	p.addOps()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- runServices(ctx, p.log, p.stopGrace(), p.services) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
	get := func(c certs.Client, url string) (string, error) {
		transport := c.Transport()
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Get(url)
		if err != nil {
			return "", err
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		return strings.TrimSpace(string(text)), err
	}
	api, ops := p.baseURL(listenAPI), p.baseURL(listenOps)
	if text, err := get(certs.Client{CAFile: ca.File}, api); err != nil || text != "HTTP/1.1" {
		t.Errorf("%s answered %q, %v", api, text, err)
	}
	if text, err := get(certs.Client{CAFile: ca.File, CertFile: client.Cert, KeyFile: client.Key}, ops+"/healthz"); err != nil || text != "ok" {
		t.Errorf("%s answered %q, %v", ops, text, err)
	}
	if text, err := get(certs.Client{CAFile: ca.File}, ops+"/healthz"); err == nil {
		t.Errorf("%s answered a client without a certificate %q", ops, text)
	}
	for _, url := range []string{api, ops} {
		if text, err := get(certs.Client{}, "http"+strings.TrimPrefix(url, "https")); err == nil && !strings.Contains(text, "HTTPS server") {
			t.Errorf("%s answered in clear text: %q", url, text)
		}
	}
}

// The token that a control plane leaves for routers stays as long as it opens something.
func TestTokenForRoutersIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, "control.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	config := DefaultConfig(RoleAPI)
	config.API.AdminTokenFile, config.API.RouterTokenFile = filepath.Join(dir, "admin"), filepath.Join(dir, "router")
	p := &process{config: config, log: slog.New(slog.DiscardHandler), store: db}
	if err := p.bootstrap(t.Context()); err != nil {
		t.Fatal(err)
	}
	start := func() control.Token {
		t.Helper()
		if err := p.routerToken(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(config.API.RouterTokenFile)
		if err != nil {
			t.Fatal(err)
		}
		token, err := db.Authenticate(t.Context(), strings.TrimSpace(string(text)))
		if err != nil || !token.Rights().Routes() || token.Rights().Operator() || token.Rights().AllowSomewhere(control.ScriptsRead) {
			t.Fatalf("the token is %+v, %v", token, err)
		}
		return token
	}
	first := start()
	if again := start(); again.ID != first.ID {
		t.Errorf("a second start made another token")
	}
	if err := db.DeleteToken(t.Context(), first.AccountID, first.ID); err != nil {
		t.Fatal(err)
	}
	if next := start(); next.ID == first.ID {
		t.Errorf("the token that was deleted is %+v", next)
	}
	_, other, err := db.CreateToken(t.Context(), control.Token{AccountID: first.AccountID, Name: "other", Scopes: []control.Scope{control.Admin}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(config.API.RouterTokenFile, []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.routerToken(t.Context()); err == nil || !strings.Contains(err.Error(), "has not the scope") {
		t.Errorf("a file with another token: %v", err)
	}
}
