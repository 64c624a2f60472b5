package runtime

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"tidegate/internal/addresses/rebind"
	"tidegate/internal/certs/certstest"
	"tidegate/schema"
)

func TestWhereOriginsMayBe(t *testing.T) {
	f := func(o OriginAddresses, want bool, list ...string) {
		t.Helper()
		for _, addr := range list {
			if err := o.Check(netip.AddrPortFrom(netip.MustParseAddr(addr), 80)); (err == nil) != want {
				t.Errorf("%+v: %s: %v", o, addr, err)
			}
		}
	}
	public, private := []string{"8.8.8.8", "2606:4700::1"}, []string{"10.0.0.1", "127.0.0.1", "::1", "fd12::1", "::ffff:192.168.0.1"}
	linkLocal := []string{"169.254.169.254", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254"}
	f(OriginAddresses{}, true, append(public, private...)...)
	f(OriginAddresses{}, false, linkLocal...)
	f(OriginAddresses{AllowLinkLocal: true}, true, linkLocal...)
	f(OriginAddresses{DenyPrivate: true}, true, public...)
	f(OriginAddresses{DenyPrivate: true}, false, append(private, linkLocal...)...)
	f(OriginAddresses{DenyPrivate: true, AllowLinkLocal: true}, true, linkLocal...)
	f(OriginAddresses{DenyPrivate: true, AllowLinkLocal: true}, false, private...)
}

// A name that led to a server of its owner first, and then to where credentials are, gets
// no connection there, however the origin is spoken to. Of several addresses those that
// are allowed are used.
func TestOriginThatIsReboundIsRefused(t *testing.T) {
	ca := certstest.NewAuthority(t, "test")
	pair := ca.Issue(t, "origin", rebind.Name)
	certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(text)

	here, metadata := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("169.254.169.254")
	for _, scheme := range []string{"http", "https", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			server.Config.Protocols = new(http.Protocols)
			server.Config.Protocols.SetHTTP1(true)
			server.Config.Protocols.SetUnencryptedHTTP2(true)
			if scheme == "https" {
				server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
				server.StartTLS()
			} else {
				server.Start()
			}
			t.Cleanup(server.Close)
			_, port, err := net.SplitHostPort(server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			cfg := DefaultConfig()
			cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			way, err := newTransport(cfg, scheme+"://"+net.JoinHostPort(rebind.Name, port))
			if err != nil {
				t.Fatal(err)
			}
			ask := func(answer ...netip.Addr) error {
				rebind.Resolve(t, answer) // however often it is looked up
				way.close()               // so that each request has a connection of its own
				resp, err := way.RoundTrip(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
				if err == nil {
					err = resp.Body.Close()
				}
				return err
			}
			if err := ask(here); err != nil {
				t.Errorf("at first: %v", err)
			}
			if err := ask(metadata, here); err != nil {
				t.Errorf("with another address beside it: %v", err)
			}
			if err := ask(metadata); err == nil || !strings.Contains(err.Error(), "no origin may be at 169.254.169.254") {
				t.Errorf("rebound: %v", err)
			}
		})
	}
}

// The platform's own addresses are no origin, however it is spoken to, and no monitor asks there.
func TestNoOriginIsThePlatform(t *testing.T) {
	var reached atomic.Int64
	listen := func() string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateNew {
				reached.Add(1)
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	own, other := listen(), listen()
	cfg := DefaultConfig()
	cfg.Origins.Own = func(at netip.AddrPort) bool { return at.String() == own }
	for _, scheme := range []string{"http", "https", "h2c"} {
		way, err := newTransport(cfg, scheme+"://"+own)
		if err != nil {
			t.Fatal(err)
		}
		for _, upgrade := range []string{"", "websocket"} {
			req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
			if upgrade != "" {
				req.Header.Set("Connection", "Upgrade")
				req.Header.Set("Upgrade", upgrade)
			}
			resp, err := way.RoundTrip(req)
			if err == nil {
				_ = resp.Body.Close()
				t.Errorf("%s %s: it answers %d", scheme, upgrade, resp.StatusCode)
				continue
			}
			failed, ok := errors.AsType[*Error](err)
			if !ok || failed.Kind != schema.ErrorKindConnect || !strings.Contains(err.Error(), "no origin may be at "+own+", which is the platform's own (--origins-refuse)") {
				t.Errorf("%s %s: %v", scheme, upgrade, err)
			}
		}
	}
	m, err := newMonitor(healthMonitor(nil))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{own: schema.ErrorKindConnect, other: ""} {
		c, err := newEndpointMonitor(m, cfg, "http://"+address)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.try(t.Context()); got != want {
			t.Errorf("the monitor of %s says %q, want %q", address, got, want)
		}
	}
	if n := reached.Load(); n != 1 { // the other one's monitor
		t.Errorf("%d connections came, want 1", n)
	}
}
