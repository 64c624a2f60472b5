package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/internal/certs/certstest"
)

var testMetrics = Metrics{Reloads: "tidegate_test_certificate_reloads_total", Expiry: "tidegate_test_certificate_expiry_timestamp_seconds"}

func write(t *testing.T, files Pair, now time.Time, names ...string) {
	t.Helper()
	certstest.SelfSigned(t, certstest.Pair(files), now, names...)
}

func pairIn(dir, name string) Pair {
	return Pair{Cert: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
}

// echoServer serves lines over TLS and returns its address.
func echoServer(t *testing.T, c *Files) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", c.TLS())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return l.Addr().String()
}

func dialTLS(t *testing.T, addr, name string, versionMax uint16) (*tls.Conn, error) {
	t.Helper()
	d := tls.Dialer{Config: &tls.Config{ServerName: name, MaxVersion: versionMax, InsecureSkipVerify: true, NextProtos: []string{"h2"}}} // which name is presented is what is tested
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*tls.Conn), nil
}

func TestCertificateIsChosenByName(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, b := pairIn(dir, "a"), pairIn(dir, "b")
	write(t, a, now, "a.example")
	write(t, b, now, "b.example", "*.b.example")
	c, err := Load([]Pair{a, b}, testMetrics, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	addr := echoServer(t, c)
	f := func(name, want string) {
		t.Helper()
		conn, err := dialTLS(t, addr, name, 0)
		if err != nil {
			t.Fatal(err)
		}
		state := conn.ConnectionState()
		if got := state.PeerCertificates[0].Subject.CommonName; got != want || state.NegotiatedProtocol != "h2" {
			t.Errorf("%q got the certificate of %q with %q, want that of %q", name, got, state.NegotiatedProtocol, want)
		}
	}
	f("a.example", "a.example")
	f("b.example", "b.example")
	f("x.b.example", "b.example")
	f("c.example", "a.example") // the first, as for those that ask for none
	f("", "a.example")
	if _, err := dialTLS(t, addr, "a.example", tls.VersionTLS12); err != nil {
		t.Errorf("TLS 1.2: %v", err)
	}
	if _, err := dialTLS(t, addr, "a.example", tls.VersionTLS11); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
}

func TestBadPairsAtTheStart(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a, b := pairIn(dir, "a"), pairIn(dir, "b")
	write(t, a, now, "a.example")
	write(t, b, now, "b.example")
	f := func(want string, pairs ...Pair) {
		t.Helper()
		if _, err := Load(pairs, testMetrics, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want an error with %q", pairs, err, want)
		}
	}
	f("no such file", pairIn(dir, "c"))
	f("a.crt with the key "+b.Key, Pair{a.Cert, b.Key})
	var log bytes.Buffer
	write(t, a, now.Add(-2*time.Hour), "a.example")
	if _, err := Load([]Pair{a}, testMetrics, slog.New(slog.NewTextHandler(&log, nil))); err != nil || !strings.Contains(log.String(), "valid until") {
		t.Errorf("one that is out of date: %v, logged %q", err, log.String())
	}
}

// A new pair serves new connections and leaves open ones alone; one that does not
// work is refused, told of once, and the old one stays.
func TestReload(t *testing.T) {
	dir, now := t.TempDir(), time.Now()
	a := pairIn(dir, "a")
	write(t, a, now, "first.example")
	var log bytes.Buffer
	c, err := Load([]Pair{a}, testMetrics, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	addr := echoServer(t, c)
	open, err := dialTLS(t, addr, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	step := func(want string, loaded, refused int64) {
		t.Helper()
		c.Reload(context.Background(), now)
		conn, err := dialTLS(t, addr, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := conn.ConnectionState().PeerCertificates[0].Subject.CommonName; got != want {
			t.Errorf("the certificate is that of %q, want %q", got, want)
		}
		if l, r := c.reloads[resultLoaded].Load(), c.reloads[resultRefused].Load(); l != loaded || r != refused {
			t.Errorf("%d were loaded and %d refused, want %d and %d", l, r, loaded, refused)
		}
	}
	step("first.example", 0, 0)
	write(t, a, now, "second.example")
	step("second.example", 1, 0)

	good, err := os.ReadFile(a.Cert)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(a.Cert, good[:len(good)/2])
	step("second.example", 1, 0) // it may be on its way
	step("second.example", 1, 1)
	step("second.example", 1, 1)
	if n := strings.Count(log.String(), "refused"); n != 1 {
		t.Errorf("the refusal was logged %d times:\n%s", n, log.String())
	}
	replace(a.Cert, good)
	step("second.example", 1, 1)
	write(t, a, now.Add(-3*time.Hour), "old.example")
	step("second.example", 1, 1)
	step("second.example", 1, 2)
	if err := os.Remove(a.Key); err != nil {
		t.Fatal(err)
	}
	step("second.example", 1, 2)
	step("second.example", 1, 3)
	write(t, a, now, "third.example")
	step("third.example", 2, 3)

	if _, err := io.WriteString(open, "still there"); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 11)
	if _, err := io.ReadFull(open, got); string(got) != "still there" || err != nil {
		t.Errorf("the connection from before answered %q, %v", got, err)
	}
}

func TestRunReadsTheFilesAgain(t *testing.T) {
	dir := t.TempDir()
	a := pairIn(dir, "a")
	write(t, a, time.Now(), "first.example")
	c, err := Load([]Pair{a}, testMetrics, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	c.interval = time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	write(t, a, time.Now(), "second.example")
	for deadline := time.Now().Add(time.Minute); c.reloads[resultLoaded].Load() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("the new certificate was not loaded")
		}
		select {
		case err := <-ended:
			t.Fatalf("Run ended: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := dialTLS(t, echoServer(t, c), "second.example", 0); err != nil {
		t.Error(err)
	}
}
