package certs

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"tidegate/internal/certs/certstest"
)

// server greets over TLS those whom its files let in.
func server(t *testing.T, pair certstest.Pair, clientCA string, auth tls.ClientAuthType) (*Files, string) {
	t.Helper()
	files, err := Load([]Pair{Pair(pair)}, testMetrics, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if clientCA != "" {
		if err := files.AskClients(clientCA); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = fmt.Fprintf(w, "%d chains", len(r.TLS.VerifiedChains)) // the test sees what is missing
		}),
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	go func() { _ = s.Serve(files.Listener(l, auth)) }()
	t.Cleanup(func() { _ = s.Close() })
	return files, "https://" + l.Addr().String()
}

// reload reads a new file of authorities as often as it takes.
func reload(t *testing.T, files *Files) {
	t.Helper()
	before := files.clients.current.Load()
	for range 2 {
		files.Reload(t.Context(), time.Now())
	}
	if files.clients.current.Load() == before {
		t.Fatal("the new file of authorities was not loaded")
	}
}

// fetch asks on a connection of its own.
func fetch(c Client, url string) (string, error) {
	transport := c.Transport()
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: time.Minute}
	res, err := client.Get(url)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	return string(text), err
}

// Each way in which the two sides do not trust each other is told with what to do.
func TestMutualTrust(t *testing.T) {
	ca, other := certstest.NewAuthority(t, "ours"), certstest.NewAuthority(t, "another")
	pair, own, foreign := ca.Issue(t, "server", "127.0.0.1"), ca.Issue(t, "router"), other.Issue(t, "stranger")
	_, open := server(t, pair, "", tls.NoClientCert)
	_, asks := server(t, pair, ca.File, tls.VerifyClientCertIfGiven)
	_, demands := server(t, pair, ca.File, tls.RequireAndVerifyClientCert)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	_, misnamed := server(t, ca.Issue(t, "elsewhere", "elsewhere.example"), "", tls.NoClientCert)

	f := func(c Client, url, want string) {
		t.Helper()
		c.Peer = "the peer"
		if got, err := fetch(c, url); err != nil || got != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	}
	f(Client{CAFile: ca.File}, open, "0 chains")
	f(Client{CAFile: ca.File}, asks, "0 chains")
	f(Client{CAFile: ca.File, CertFile: own.Cert, KeyFile: own.Key}, asks, "1 chains")
	f(Client{CAFile: ca.File, CertFile: own.Cert, KeyFile: own.Key}, demands, "1 chains")

	refused := func(c Client, url, want string) {
		t.Helper()
		c.Peer = "the peer"
		if got, err := fetch(c, url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %q, %v, want an error with %q", got, err, want)
		}
	}
	refused(Client{}, open, "name the file of the authority")
	refused(Client{CAFile: other.File}, open, "speak TLS to the peer at 127.0.0.1:")
	refused(Client{CAFile: ca.File}, misnamed, "under a name that its certificate has")
	refused(Client{CAFile: ca.File}, "https"+strings.TrimPrefix(plain.URL, "http"), "does not speak TLS on this port")
	refused(Client{CAFile: ca.File}, demands, "asks for a certificate of the client")
	refused(Client{CAFile: ca.File, CertFile: foreign.Cert, KeyFile: foreign.Key}, demands, "does not take the client's certificate in "+foreign.Cert)
	// One that was not asked for is not shown at all.
	f(Client{CAFile: ca.File, CertFile: foreign.Cert, KeyFile: foreign.Key}, asks, "0 chains")
}

// What is replaced on disk holds from the next connection on, on both sides.
func TestReplacedFiles(t *testing.T) {
	ca, later := certstest.NewAuthority(t, "first"), certstest.NewAuthority(t, "second")
	own, next := ca.Issue(t, "router"), later.Issue(t, "router")
	files, url := server(t, ca.Issue(t, "server", "127.0.0.1"), ca.File, tls.RequireAndVerifyClientCert)
	c := Client{Peer: "the peer", CAFile: ca.File, CertFile: own.Cert, KeyFile: own.Key}
	replace := func(path, by string) {
		t.Helper()
		text, err := os.ReadFile(by)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	works := func(want bool, when string) {
		t.Helper()
		if got, err := fetch(c, url); (err == nil) != want {
			t.Errorf("%s: %q, %v", when, got, err)
		}
	}
	works(true, "at first")
	trusted := t.TempDir() + "/trusted.crt" // so that the client goes on trusting the server
	replace(trusted, ca.File)
	c.CAFile = trusted
	replace(own.Cert, next.Cert)
	replace(own.Key, next.Key)
	works(false, "with a certificate of an authority that the server does not know yet")
	replace(ca.File, later.File)
	files.Reload(t.Context(), time.Now())
	works(false, "after the server has read the new authority once, which may be half of it")
	files.Reload(t.Context(), time.Now())
	works(true, "after the server has read the new authority twice")
	if err := os.WriteFile(ca.File, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		files.Reload(t.Context(), time.Now())
	}
	if loaded, refused := files.reloads[resultLoaded].Load(), files.reloads[resultRefused].Load(); loaded != 1 || refused != 1 {
		t.Errorf("%d files were loaded and %d refused, want one of each", loaded, refused)
	}
	works(true, "with a broken file of the authority, which is refused")
	if err := os.WriteFile(c.KeyFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	works(false, "with a broken key of the client")
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), c.KeyFile) {
		t.Errorf("the check says %v, want it to name %s", err, c.KeyFile)
	}
}

// A new file of authorities ends what those that are gone vouched for, also on connections that
// are open. Clients that it vouches for, or that presented nothing, keep theirs.
func TestConnectionsEndWithTheirAuthority(t *testing.T) {
	ca, later := certstest.NewAuthority(t, "first"), certstest.NewAuthority(t, "second")
	files, url := server(t, ca.Issue(t, "server", "127.0.0.1"), ca.File, tls.VerifyClientCertIfGiven)
	address := strings.TrimPrefix(url, "https://")
	trusted := t.TempDir() + "/trusted.crt" // so that the clients go on trusting the server
	load := func(path string, from ...string) {
		t.Helper()
		var all []byte
		for _, file := range from {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, text...)
		}
		if err := os.WriteFile(path, all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load(trusted, ca.File)
	own, next := ca.Issue(t, "router"), later.Issue(t, "router")
	load(ca.File, ca.File, later.File)
	reload(t, files)

	connect := func(pair certstest.Pair) net.Conn {
		t.Helper()
		c, err := Client{Peer: "the peer", CAFile: trusted, CertFile: pair.Cert, KeyFile: pair.Key}.DialTLS(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ask := func(c net.Conn) error {
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, res.Body)
		return errors.Join(err, res.Body.Close())
	}
	old, renewed, nobody := connect(own), connect(next), connect(certstest.Pair{})
	for _, c := range []net.Conn{old, renewed, nobody} {
		if err := ask(c); err != nil {
			t.Fatal(err)
		}
	}
	load(ca.File, later.File)
	reload(t, files)
	if err := ask(old); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection outlives the authority of its certificate: %v", err)
	}
	for name, c := range map[string]net.Conn{"of the new authority": renewed, "without a certificate": nobody} {
		if err := ask(c); err != nil {
			t.Errorf("a client %s was cut off: %v", name, err)
		}
		_ = c.Close()
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		files.peers.mu.Lock()
		open := len(files.peers.open)
		files.peers.mu.Unlock()
		if open == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d connections that are closed are remembered", open)
		}
	}
}

// A handshake that began before the authorities were replaced does not slip through after: not
// where they were replaced before it came to its end, and not where that was at the same time.
func TestHandshakeDuringAReload(t *testing.T) {
	ca, later := certstest.NewAuthority(t, "first"), certstest.NewAuthority(t, "second")
	files, _ := server(t, ca.Issue(t, "server", "127.0.0.1"), ca.File, tls.RequireAndVerifyClientCert)
	text, err := os.ReadFile(ca.Issue(t, "router").Cert)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	open := func() *peerConn {
		near, far := net.Pipe()
		t.Cleanup(func() { _, _ = near.Close(), far.Close() })
		c := &peerConn{Conn: near, peers: &files.peers}
		files.peers.add(c)
		return c
	}
	early, late := open(), open()
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{certificate}}
	began := files.clients.current.Load()
	if err := early.presented(state, files.clients, began); err != nil {
		t.Fatalf("with the authority of the certificate: %v", err)
	}
	if text, err = os.ReadFile(later.File); err == nil {
		err = os.WriteFile(ca.File, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	reload(t, files)
	if err := early.SetDeadline(time.Now()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("a connection whose certificate came just before the reload is open: %v", err)
	}
	if err := late.presented(state, files.clients, began); err == nil {
		t.Error("a certificate of the authority before is taken after the reload")
	}
}

// A file of authorities counts as a whole: none is left out without a word.
func TestBrokenAuthorityIsRefused(t *testing.T) {
	good, err := os.ReadFile(certstest.NewAuthority(t, "good").File)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n"
	broken := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("broken")}))
	other := string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("a list")}))
	file := t.TempDir() + "/authorities.pem"
	f := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := Client{Peer: "the peer", CAFile: file}.Check()
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), file+" "+want)) {
			t.Errorf("the error is %v, want one with %q", err, want)
		}
	}
	f("our authority:\n"+string(good)+other, "")
	f(string(good)+broken, "cannot be used, because of certificate 2 in it")
	f(string(good)+begin+"no base64!\n"+end, "cannot be used: 2 certificates begin in it, and 1 of them are whole")
	f(string(good)+strings.TrimSuffix(string(good), end), "cannot be used: 2 certificates begin in it, and 1 of them are whole")
	f(strings.TrimSuffix(string(good), end)+string(good), "cannot be used: 2 certificates begin in it, and 1 of them are whole")
	f(other, "holds no certificate")
	f("", "holds no certificate")
}
