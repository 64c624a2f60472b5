package listen

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/certs"
	"tidegate/internal/certs/certstest"
)

// authority stands for one that issues what it is asked for, or fails. The real
// protocol is spoken in test/e2e.
type authority struct {
	asked    atomic.Int64
	fails    atomic.Bool
	lifetime time.Duration
	hold     chan struct{} // nil answers at once
}

func (ca *authority) issue(a *ACME, now func() time.Time) {
	a.now = now
	a.ask = func(ctx context.Context, host string) (*tls.Certificate, error) {
		ca.asked.Add(1)
		if ca.hold != nil {
			select {
			case <-ca.hold:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if ca.fails.Load() {
			return nil, errors.New("the name does not lead here")
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(ca.asked.Load()), DNSNames: []string{host},
			NotBefore: now(), NotAfter: now().Add(ca.lifetime), KeyUsage: x509.KeyUsageDigitalSignature,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
		if err != nil {
			return nil, err
		}
		return a.folder.keep(host, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
}

// clock is moved by the test.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time           { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(by time.Duration) { c.at.Add(int64(by)) }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}

// newTestACME serves shop.example.com and what begins with "s".
func newTestACME(t *testing.T, dir string, ca *authority, now func() time.Time, hosts ...string) *ACME {
	t.Helper()
	a, err := NewACME(ACMEConfig{
		Directory: "https://ca.example.com/directory", Dir: dir, Hosts: hosts, Logger: slog.New(slog.DiscardHandler),
		Allowed: func(host string) bool { return strings.HasPrefix(host, "s") },
	})
	if err != nil {
		t.Fatal(err)
	}
	ca.issue(a, now)
	t.Cleanup(func() { a.stop(); a.work.Wait() })
	return a
}

// visit makes a handshake with what the certificates say and returns the leaf.
func visit(t *testing.T, c *Certificates, name string, protocols ...string) (*x509.Certificate, error) {
	t.Helper()
	server, client := pipe(t)
	ended := make(chan error, 1)
	go func() { ended <- tls.Server(server, c.TLS()).HandshakeContext(t.Context()) }()
	conn := tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: protocols}) // what is presented is what is tested
	err := conn.HandshakeContext(t.Context())
	if served := <-ended; err == nil && served != nil {
		t.Errorf("the server's side: %v", served)
	}
	if err != nil {
		return nil, err
	}
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestThereIsACertificate(t *testing.T) {
	if _, err := LoadCertificates(nil, nil, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "one at least") {
		t.Errorf("neither files nor ACME: %v", err)
	}
}

func loadWith(t *testing.T, a *ACME, files ...certs.Pair) *Certificates {
	t.Helper()
	c, err := LoadCertificates(files, a, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACMEAsksOnceForAHostThatIsServed(t *testing.T) {
	ca := &authority{lifetime: time.Hour, hold: make(chan struct{})}
	a := newTestACME(t, t.TempDir(), ca, time.Now)
	c := loadWith(t, a)
	var visitors sync.WaitGroup
	for range 20 {
		visitors.Go(func() {
			if leaf, err := visit(t, c, "Shop.example.com"); err != nil || leaf.VerifyHostname("shop.example.com") != nil {
				t.Errorf("got %v, %v", leaf, err)
			}
		})
	}
	close(ca.hold)
	visitors.Wait()
	if n := ca.asked.Load(); n != 1 {
		t.Errorf("the authority was asked %d times for 20 visitors at once", n)
	}
}

func TestACMEAsksForNobodyElse(t *testing.T) {
	ca := &authority{lifetime: time.Hour}
	a := newTestACME(t, t.TempDir(), ca, time.Now)
	c := loadWith(t, a)
	for _, name := range []string{"blog.example.com", "s", "s..example.com", "s/../../x.example.com", "*.s.example.com"} {
		if leaf, err := visit(t, c, name); err == nil {
			t.Errorf("%q got a certificate for %v", name, leaf.DNSNames)
		}
	}
	if n := ca.asked.Load(); n != 0 {
		t.Errorf("the authority was asked %d times", n)
	}
	if n := a.counts.refused[refusedHost].Load(); n != 1 {
		t.Errorf("%d refusals of unknown hosts are counted, want the one of a host's name", n)
	}
}

func TestCertificatesFromFilesComeFirst(t *testing.T) {
	dir := t.TempDir()
	files := certs.Pair{Cert: filepath.Join(dir, "shop.crt"), Key: filepath.Join(dir, "shop.key")}
	certstest.SelfSigned(t, certstest.Pair(files), time.Now(), "shop.example.com")
	ca := &authority{lifetime: time.Hour}
	c := loadWith(t, newTestACME(t, dir, ca, time.Now), files)
	f := func(name, want string) {
		t.Helper()
		if leaf, err := visit(t, c, name); err != nil || leaf.DNSNames[0] != want {
			t.Errorf("%s: %v, %v", name, leaf, err)
		}
	}
	f("shop.example.com", "shop.example.com")
	if n := ca.asked.Load(); n != 0 {
		t.Errorf("the authority was asked %d times for a name that a file has", n)
	}
	f("second.example.com", "second.example.com")
	f("unknown.example.com", "shop.example.com") // as without ACME
	ca.fails.Store(true)
	f("sad.example.com", "shop.example.com")
}

func TestACMERemembersFailures(t *testing.T) {
	at := newClock()
	ca := &authority{lifetime: time.Hour}
	ca.fails.Store(true)
	a := newTestACME(t, t.TempDir(), ca, at.now)
	c := loadWith(t, a)
	f := func(want int64) {
		t.Helper()
		if _, err := visit(t, c, "shop.example.com"); err == nil {
			t.Error("there is a certificate")
		}
		if n := ca.asked.Load(); n != want {
			t.Errorf("the authority was asked %d times, want %d", n, want)
		}
	}
	f(1)
	f(1)
	at.advance(retryAfterMin - time.Second)
	f(1)
	at.advance(time.Second)
	f(2)
	at.advance(retryAfterMin)
	f(2)
	at.advance(retryAfterMin)
	f(3)
	if n := a.counts.refused[refusedFailed].Load(); n != 3 {
		t.Errorf("%d handshakes are counted that had to do without, want 3", n)
	}
	ca.fails.Store(false)
	at.advance(retryAfterMax)
	if _, err := visit(t, c, "shop.example.com"); err != nil {
		t.Error(err)
	}
}

func TestACMEAsksForNoMoreThanAFewAtOnce(t *testing.T) {
	ca := &authority{lifetime: time.Hour, hold: make(chan struct{})}
	a := newTestACME(t, t.TempDir(), ca, time.Now)
	for _, host := range []string{"s1.example.com", "s2.example.com", "s3.example.com", "s4.example.com"} {
		if _, err := a.begin(host, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := a.begin("s5.example.com", time.Now()); !errors.Is(err, errTooMany) {
		t.Errorf("the fifth at once: %v", err)
	}
	close(ca.hold)
	a.work.Wait()
	a.orders.SetBurst(0)
	if _, err := visit(t, loadWith(t, a), "s6.example.com"); err == nil {
		t.Error("an order was made beyond the rate")
	}
	if n := a.counts.refused[refusedTooMany].Load(); n != 1 {
		t.Errorf("%d are counted, want 1", n)
	}
}

func TestACMERenewsAndKeepsWhatItHas(t *testing.T) {
	at := newClock()
	dir := t.TempDir()
	ca := &authority{lifetime: 90 * time.Hour}
	a := newTestACME(t, dir, ca, at.now, "shop.example.com")
	c := loadWith(t, a)
	serial := func() int64 {
		t.Helper()
		leaf, err := visit(t, c, "shop.example.com")
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	step := func(by time.Duration) {
		at.advance(by)
		a.renew(at.now())
		a.work.Wait()
	}
	step(0)
	if n := ca.asked.Load(); n != 1 {
		t.Fatalf("a host that is named was asked for %d times at the start", n)
	}
	step(59 * time.Hour)
	if n := serial(); n != 1 {
		t.Errorf("certificate %d is presented before two thirds of the life of the first", n)
	}
	step(2 * time.Hour)
	if n := serial(); n != 2 {
		t.Errorf("certificate %d is presented, want the second", n)
	}

	ca.fails.Store(true)
	step(61 * time.Hour)
	if n := serial(); n != 2 {
		t.Errorf("certificate %d is presented while renewal fails", n)
	}
	if n := a.counts.results[resultFailed].Load(); n != 1 {
		t.Errorf("%d failures are counted", n)
	}
	step(40 * time.Hour)
	if n := serial(); n != 2 {
		t.Errorf("certificate %d is presented once the last one has run out", n)
	}

	ca.fails.Store(false)
	b := newTestACME(t, dir, ca, at.now) // a restart: what has run out is asked for again
	c = loadWith(t, b)
	before := ca.asked.Load()
	if n := serial(); n != before+1 {
		t.Errorf("certificate %d is presented, want %d", n, before+1)
	}
	c = loadWith(t, newTestACME(t, dir, ca, at.now))
	if n := serial(); n != before+1 || ca.asked.Load() != before+1 {
		t.Errorf("certificate %d is presented after a restart, and %d were asked for", n, ca.asked.Load())
	}
	_ = b
}

// Two routers that share a folder ask once, and a certificate that has run out goes
// with its host.
func TestACMEFolderIsShared(t *testing.T) {
	at := newClock()
	dir := t.TempDir()
	ca := &authority{lifetime: time.Hour}
	first, second := newTestACME(t, dir, ca, at.now), newTestACME(t, dir, ca, at.now)
	for _, a := range []*ACME{first, second} {
		if _, err := visit(t, loadWith(t, a), "shop.example.com"); err != nil {
			t.Fatal(err)
		}
	}
	if n := ca.asked.Load(); n != 1 {
		t.Errorf("the authority was asked %d times", n)
	}
	first.cfg.Allowed = func(string) bool { return false }
	first.renew(at.now().Add(50 * time.Minute))
	if _, err := first.folder.certificate("shop.example.com"); err != nil {
		t.Errorf("a certificate that is valid is gone: %v", err)
	}
	first.renew(at.now().Add(2 * time.Hour))
	if _, err := first.folder.certificate("shop.example.com"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a certificate that has run out and belongs to nobody is still there: %v", err)
	}
}

// The story: two routers failed for a name that did not lead to them. It did later, and
// one of them got a certificate; the other one had none for up to six hours.
func TestCertificateOfAnotherRouterEndsAFailure(t *testing.T) {
	at := newClock()
	dir := t.TempDir()
	ca := &authority{lifetime: 24 * time.Hour}
	first, second := newTestACME(t, dir, ca, at.now), newTestACME(t, dir, ca, at.now)
	c := loadWith(t, second)
	ca.fails.Store(true)
	if _, err := visit(t, c, "shop.example.com"); err == nil {
		t.Fatal("there is a certificate")
	}
	ca.fails.Store(false)
	if _, err := visit(t, loadWith(t, first), "shop.example.com"); err != nil {
		t.Fatal(err)
	}
	second.renew(at.now())
	if _, err := visit(t, c, "shop.example.com"); err != nil {
		t.Error(err)
	}
	if n := ca.asked.Load(); n != 2 {
		t.Errorf("the authority was asked %d times", n)
	}
}

// pipe is a connection over loopback: a pipe in memory would stop a handshake that
// both sides end at once.
func pipe(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = server.Close(), client.Close() })
	return server, client
}

// The story: --gateway-acme-challenges= is an empty list and not nil, which left no
// challenge at all, and every order failed.
func TestNoChallengesNamedAreAll(t *testing.T) {
	for _, named := range [][]string{nil, {}} {
		a, err := NewACME(ACMEConfig{Directory: "https://ca.example.com/directory", Dir: t.TempDir(), Challenges: named})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(a.client().ChallengeSolvers); n != len(acmeChallenges) {
			t.Errorf("%#v: %d challenges can be answered", named, n)
		}
	}
}
