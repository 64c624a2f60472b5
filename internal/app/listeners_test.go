package app

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestListenerFlagsThatDoNotFit(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := DefaultConfig(RoleGateway)
		c.Kafka, c.Gateway.APIURL = []string{"127.0.0.1:9092"}, "http://127.0.0.1:8787"
		change(&c)
		err := c.Validate()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("got %v, want an error with %q", err, want)
		}
	}
	pairs := func(c *Config) {
		c.Gateway.TLSCert, c.Gateway.TLSKey = []string{"a.crt", "b.crt"}, []string{"a.key", "b.key"}
	}
	f("", func(c *Config) { pairs(c); c.Gateway.TLSAddr = ":8443" })
	f("is needed together", pairs)
	f("is needed together", func(c *Config) { c.Gateway.TLSAddr = ":8443" })
	acme := func(c *Config) { c.Gateway.TLSAddr, c.Gateway.ACME.Agree = ":8443", true }
	f("", acme)
	f("", func(c *Config) { acme(c); pairs(c) })
	f("is needed together", func(c *Config) { c.Gateway.ACME.Agree = true })
	f("need --gateway-acme-agree", func(c *Config) { c.Gateway.ACME.Hosts = []string{"a.example.com"} })
	f("must be an https:// URL", func(c *Config) { acme(c); c.Gateway.ACME.Directory = "http://ca.example.com" })
	f("without a wildcard", func(c *Config) { acme(c); c.Gateway.ACME.Hosts = []string{"*.example.com"} })
	f("is not known here", func(c *Config) { acme(c); c.Gateway.ACME.Challenges = []string{"dns-01"} })
	f("are needed together", func(c *Config) { acme(c); c.Gateway.ACME.EABKeyID = "kid-1" })
	f("2 files and --gateway-tls-key 1", func(c *Config) { pairs(c); c.Gateway.TLSAddr, c.Gateway.TLSKey = ":8443", c.Gateway.TLSKey[:1] })
	f("must be host:port", func(c *Config) { pairs(c); c.Gateway.TLSAddr = "8443" })
	f("a port is from 0 to 65535", func(c *Config) { pairs(c); c.Gateway.TLSAddr = ":84430" }) // seen when brokers and engines ran already
	f("", func(c *Config) { c.TakeOver = true })
	f("for a router alone", func(c *Config) {
		c.TakeOver, c.Roles, c.ClickHouse = true, []Role{RoleGateway, RoleIngest}, "http://127.0.0.1:8123"
	})
	f("do not go together", func(c *Config) { c.TakeOver, c.Workers.DurableObjects = true, true })
	f("must be positive", func(c *Config) { c.DrainTimeout = 0 })
	f("needs --trusted-proxies", func(c *Config) { c.Gateway.ProxyProtocol = true })
	f("must not be negative", func(c *Config) { c.Gateway.MaxConnections = -1 })
	f("must not be negative", func(c *Config) { c.Gateway.SendTimeout = -1 })
	f("", func(c *Config) { c.Gateway.MaxConnections, c.Gateway.BodyTimeout = 1000, 0 })
	f("", func(c *Config) { c.Gateway.ProxyProtocol, c.TrustedProxies = true, []string{"10.0.0.0/8"} })
}

// Both listeners lead to the handler, and on both the PROXY header comes first.
func TestGatewayListeners(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	made := httptest.NewTLSServer(nil) // for its certificate
	made.Close()
	pair := made.TLS.Certificates[0]
	pkcs8, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config := DefaultConfig(RoleGateway)
	config.Gateway.Addr, config.Gateway.TLSAddr = "127.0.0.1:0", "127.0.0.1:0"
	config.Gateway.TLSCert, config.Gateway.TLSKey = []string{cert}, []string{key}
	config.Gateway.ProxyProtocol = true
	p := &process{config: config, log: slog.New(slog.DiscardHandler)}
	if err := p.listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, closeIt := range p.closers {
			if err := closeIt(); err != nil {
				t.Error(err)
			}
		}
	})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr+" "+r.Proto) })
	if err := p.serveGateway(handler, nil, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}); err != nil {
		t.Fatal(err)
	}
	stop := runUntilStopped(t, p)
	for _, base := range []string{p.ready.Gateway, p.ready.GatewayTLS} {
		transport := &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true, // the name is an address
		}
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err == nil {
				_, err = io.WriteString(c, "PROXY TCP4 203.0.113.9 127.0.0.1 4711 443\r\n")
			}
			return c, err
		}
		resp, err := (&http.Client{Transport: transport}).Get(base)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		want := "203.0.113.9:4711 HTTP/1.1"
		if strings.HasPrefix(base, "https:") {
			want = "203.0.113.9:4711 HTTP/2.0"
		}
		if string(body) != want || err != nil {
			t.Errorf("%s answered %q, %v, want %q", base, body, err, want)
		}
		transport.CloseIdleConnections()
	}
	stop()
}

// runUntilStopped runs the services of p as a process would.
func runUntilStopped(t *testing.T, p *process) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- runServices(ctx, p.log, stopGrace, p.services) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the stop: %v", err)
		}
	}
}
