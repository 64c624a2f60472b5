package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"io"
	"log"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"tidegate/internal/deploy"
)

// mailServer is a real one, which remembers what it took.
type mailServer struct {
	address string
	roots   *x509.CertPool

	mu     sync.Mutex
	taken  []takenMail
	logins int
}

type takenMail struct {
	from, to, text string
}

const (
	mailUser     = "tidegate"
	mailPassword = "hunter2 hunter2"
)

// newMailServer serves over TLS from the first byte where mode says so, offers STARTTLS
// where it does, and takes mail without a login only over a plain connection.
func newMailServer(t *testing.T, mode MailTLS) *mailServer {
	t.Helper()
	m := new(mailServer)
	certificate, roots := certificateFor(t)
	m.roots = roots
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, secure := c.TLSConnectionState()
		return &mailSession{server: m, secure: secure}, nil
	}))
	server.Domain, server.ErrorLog = "mail.example", log.New(io.Discard, "", 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = listener.Addr().String()
	config := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}
	switch mode {
	case MailTLSOnly:
		listener = tls.NewListener(listener, config)
	case MailStartTLS:
		server.TLSConfig = config
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }() // until it is closed
	t.Cleanup(func() { _ = server.Close(); <-done })
	return m
}

type mailSession struct {
	server   *mailServer
	secure   bool
	loggedIn bool
	mail     takenMail
}

func (s *mailSession) AuthMechanisms() []string {
	if !s.secure {
		return nil
	}
	return []string{sasl.Plain}
}

func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != mailUser || password != mailPassword {
			return smtp.ErrAuthFailed
		}
		s.loggedIn = true
		return nil
	}), nil
}

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.secure && !s.loggedIn {
		return smtp.ErrAuthRequired
	}
	s.mail.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	switch {
	case strings.HasPrefix(to, "nobody"):
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such mailbox"}
	case strings.HasPrefix(to, "full"):
		return &smtp.SMTPError{Code: 452, EnhancedCode: smtp.EnhancedCode{4, 2, 2}, Message: "mailbox full"}
	}
	s.mail.to = to
	return nil
}

func (s *mailSession) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	s.mail.text = string(text)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.taken = append(s.server.taken, s.mail)
	if s.loggedIn {
		s.server.logins++
	}
	return err
}

func (*mailSession) Reset()        {}
func (*mailSession) Logout() error { return nil }

// certificateFor is one of 127.0.0.1, and who vouches for it.
func certificateFor(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, roots
}

func (m *mailServer) client(mode MailTLS) Mail {
	c := Mail{Address: m.address, From: "Tidegate <tidegate@example.com>", TLS: mode, RootCAs: m.roots}
	if mode != MailPlain {
		c.Username, c.Password = mailUser, func() (string, error) { return mailPassword, nil }
	}
	return c
}

func mailTo(address string) deploy.Notification {
	return notificationFor(deploy.NotifyTarget{Type: deploy.NotifyEmail, To: []string{address}})
}

func sendMail(t *testing.T, m Mail, n deploy.Notification) error {
	t.Helper()
	return newService(t, nil, local, func(c *Config) { c.Mail = m }).try(t.Context(), n)
}

func TestEMailsAreSentInEachMode(t *testing.T) {
	for _, mode := range []MailTLS{MailStartTLS, MailTLSOnly, MailPlain} {
		t.Run(string(mode), func(t *testing.T) {
			server := newMailServer(t, mode)
			n := mailTo("Ada <ada@example.org>")
			if err := sendMail(t, server.client(mode), n); err != nil {
				t.Fatal(err, detailOf(err))
			}
			if len(server.taken) != 1 || server.taken[0].from != "tidegate@example.com" || server.taken[0].to != "ada@example.org" || (server.logins == 1) != (mode != MailPlain) {
				t.Fatalf("taken were %+v with %d logins", server.taken, server.logins)
			}
			m, err := netmail.ReadMessage(strings.NewReader(server.taken[0].text))
			if err != nil {
				t.Fatal(err)
			}
			h := m.Header
			if h.Get("Message-Id") != "<"+n.ID+"@example.com>" || h.Get(IDHeader) != n.ID || h.Get("Auto-Submitted") != "auto-generated" || h.Get("Subject") != "[Tidegate] Rolled back shop" {
				t.Errorf("the headers are %v", h)
			}
			parts := partsOf(t, m)
			if plain := parts["text/plain"]; !strings.Contains(plain, n.Decision.Sentence) || !strings.Contains(plain, "Failed: 31 of 312 requests (9.94 %)") || !strings.Contains(plain, "https://tidegate.example.com/") {
				t.Errorf("the text is %q", plain)
			}
			if html := parts["text/html"]; !strings.Contains(html, "<p>"+n.Decision.Sentence) {
				t.Errorf("the HTML is %q", html)
			}
		})
	}
}

// The library writes host and port with a colon between, which is no address of IPv6.
func TestAMailServerMayHaveAnIPv6Address(t *testing.T) {
	listener, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 here: %v", err)
	}
	server := newMailServer(t, MailPlain)
	var open sync.WaitGroup
	open.Go(func() {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		defer func() { _ = from.Close() }()
		to, err := net.Dial("tcp", server.address)
		if err != nil {
			t.Error(err)
			return
		}
		open.Go(func() { _, _ = io.Copy(to, from); _ = to.Close() })
		_, _ = io.Copy(from, to)
	})
	defer open.Wait()
	defer func() { _ = listener.Close() }()
	m := server.client(MailPlain)
	m.Address = listener.Addr().String()
	if err := sendMail(t, m, mailTo("ada@example.org")); err != nil {
		t.Fatal(err, detailOf(err))
	}
	if len(server.taken) != 1 {
		t.Errorf("taken were %+v", server.taken)
	}
}

// partsOf decodes a mail's parts by type.
func partsOf(t *testing.T, m *netmail.Message) map[string]string {
	t.Helper()
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	reader := multipart.NewReader(m.Body, params["boundary"])
	for {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return parts
		}
		if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = part
		switch part.Header.Get("Content-Transfer-Encoding") {
		case "quoted-printable":
			body = quotedprintable.NewReader(part)
		case "base64":
			body = base64.NewDecoder(base64.StdEncoding, part)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(part.Header.Get("Content-Type"), ";")
		parts[kind] = string(text)
	}
}

func TestEMailsThatCannotBeSentSayWhy(t *testing.T) {
	secure, plain := newMailServer(t, MailStartTLS), newMailServer(t, MailPlain)
	f := func(m Mail, to, text string, permanent bool) {
		t.Helper()
		n := mailTo(to)
		err := sendMail(t, m, n)
		if err == nil || !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "127.0.0.1") || strings.Contains(err.Error(), mailPassword) {
			t.Errorf("the error is %v (%v), want %q", err, detailOf(err), text)
			return
		}
		if after, _ := settled(n, err, n.CreatedOn); (after.State == deploy.NotificationFailed) != permanent {
			t.Errorf("%q: the message is %s", text, after.State)
		}
	}
	good := secure.client(MailStartTLS)
	f(Mail{}, "a@example.org", "--smtp-address is not set", false)
	f(Mail{Address: "127.0.0.1:1"}, "a@example.org", "--smtp-from is not set", false)
	f(good, "nobody@example.org", "refused the message with 550", true)
	f(good, "full@example.org", "refused the message with 452", false)
	f(good, "not an address", "address is none", true)
	f(good, "a@example.org\r\nBcc: b@example.org", "address is none", true)
	f(good, "a@example.org, b@example.org", "address is none", true)
	f(plain.client(MailStartTLS), "a@example.org", "offers no STARTTLS", false)

	wrong := good
	wrong.Password = func() (string, error) { return "guess", nil }
	f(wrong, "a@example.org", "refused the login", false)
	unread := good
	unread.Password = func() (string, error) { return "", io.ErrUnexpectedEOF }
	f(unread, "a@example.org", "as it is configured", false)
	stranger := good
	stranger.RootCAs = x509.NewCertPool()
	f(stranger, "a@example.org", "certificate of the mail server is not trusted", false)
	away := plain.client(MailPlain)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away.Address = listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	f(away, "a@example.org", "cannot be reached", false)
	if len(secure.taken)+len(plain.taken) != 0 {
		t.Errorf("taken were %+v %+v", secure.taken, plain.taken)
	}
}

// The end of a try ends the wait for a mail server that says nothing.
func TestAMailServerThatHangsHoldsNothingUp(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for _, mode := range []MailTLS{MailPlain, MailTLSOnly} {
		accepted := make(chan net.Conn, 1)
		go func() {
			if conn, err := listener.Accept(); err == nil {
				accepted <- conn
			}
		}()
		outbox := newWorld(t, deploy.NotifyTarget{Type: deploy.NotifyEmail, To: []string{"a@example.org"}})
		stop := start(t, newService(t, outbox, local, func(c *Config) {
			c.Mail = Mail{Address: listener.Addr().String(), From: "tidegate@example.com", TLS: mode}
		}))
		outbox.decide(t)
		conn := <-accepted
		began := time.Now()
		stop()
		if waited := time.Since(began); waited >= mailStageTimeout {
			t.Errorf("%s: a stop waited %s", mode, waited)
		}
		_ = conn.Close()
	}
}

// No text from outside becomes a header, a second recipient or markup.
func FuzzMailHeaders(f *testing.F) {
	f.Add("shop", "rolled back", "a@example.org")
	f.Add("shop\r\nBcc: evil@example.org", "x\r\n.\r\nMAIL FROM:<evil@example.org>", "a@example.org\r\nRCPT TO:<b@example.org>")
	f.Add("\u2028=?utf-8?q?=0d=0aBcc:_b@x?=", "<script>alert(1)</script>", `"a\r\nb"@example.org`)
	f.Add(strings.Repeat("é", 1000), "{{.Title}}", "ä@example.org")
	f.Fuzz(func(t *testing.T, script, sentence, to string) {
		n := mailTo(to)
		n.Script, n.Decision.Sentence = script, sentence
		msg, err := mailOf("tidegate@example.com", n, messageOf(n, Links{}))
		if err != nil {
			return
		}
		var text strings.Builder
		if _, err := msg.WriteTo(&text); err != nil {
			t.Fatal(err)
		}
		m, err := netmail.ReadMessage(strings.NewReader(text.String()))
		if err != nil {
			t.Fatalf("%q is no message: %v", text.String(), err)
		}
		known := map[string]bool{"Date": true, "Mime-Version": true, "Message-Id": true, "Subject": true, "From": true, "To": true, "Auto-Submitted": true, "Content-Type": true,
			IDHeader: true, "Content-Transfer-Encoding": true}
		for name, values := range m.Header {
			if !known[name] || len(values) != 1 {
				t.Fatalf("the header %s is %q", name, values)
			}
		}
		if list, err := m.Header.AddressList("To"); err != nil || len(list) != 1 {
			t.Fatalf("it goes to %v, error %v", list, err)
		}
		if html := partsOf(t, m)["text/html"]; strings.Contains(html, "<script") {
			t.Fatalf("the HTML is %q", html)
		}
	})
}

// An address that is taken is one mailbox, stands on one line, and is read again as itself: it goes into the envelope.
func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{"a@b.example", "A B <a@b.example>", `"a b"@c`, "a@b, c@d", "a@[127.0.0.1]", "=?utf-8?q?a?= <a@b>", "a@b\r\nBcc: c@d", `"\""@a`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		address, err := parseAddress(text)
		if err != nil {
			return
		}
		if strings.ContainsFunc(address, unicode.IsControl) {
			t.Fatalf("%q is the address %q", text, address)
		}
		again, err := parseAddress((&netmail.Address{Address: address}).String())
		if err != nil || again != address {
			t.Fatalf("%q is %q, which is read as %q, %v", text, address, again, err)
		}
	})
}
