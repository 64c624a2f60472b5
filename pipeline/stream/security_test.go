package stream

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	realkafka "tidegate/test/real/kafka"
)

// requireClients has every kind of client do its work in a topic of its own.
func requireClients(t *testing.T, b *broker) {
	cfg := b.topic(2)
	if err := Ping(testContext(t), cfg); err != nil {
		t.Errorf("Ping: %v", err)
	}
	followed, since := make(chan string, 1), time.Now() // before the event, however late Follow begins
	run(t, func(ctx context.Context) error {
		return Follow(ctx, FollowConfig{
			Config: cfg, Since: since, Handle: func(r *Record) { followed <- string(r.Value) }, Outage: func(error) {}, Late: func(bool) {}, Logger: quiet,
		})
	})
	p := newProducer(t, testProducer(t, cfg, t.TempDir()))
	run(t, p.Run)
	p.Emit("acme", []byte("secret"))
	consume(t, cfg).requireEach(t, 1, p)
	reader, err := NewReader(cfg, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	read := 0
	for id := range 2 {
		batches, err := reader.FetchBatches(testContext(t), id, 0, false)
		var records []Record
		if err == nil {
			records, err = recordsOf(batches, 0)
		}
		if err != nil {
			t.Errorf("Reader: %v", err)
		}
		read += len(records)
	}
	if read != 1 {
		t.Errorf("the reader found %d records, want 1", read)
	}
	select {
	case value := <-followed:
		if value != "secret" {
			t.Errorf("followed %q", value)
		}
	case <-time.After(time.Minute):
		t.Error("Follow got nothing within a minute")
	}
}

func TestEveryClientLogsInByEveryMechanism(t *testing.T) {
	external, isExternal := realkafka.ExternalAccess(t)
	for _, mechanism := range Mechanisms {
		t.Run(mechanism, func(t *testing.T) {
			if isExternal {
				requireClients(t, &broker{t: t, addrs: external.SASL, security: loginOverTLS(external, mechanism)})
				return
			}
			requireClients(t, startSecureBroker(t, mechanism))
		})
	}
}

func TestEveryClientShowsItsCertificate(t *testing.T) {
	if external, ok := realkafka.ExternalAccess(t); ok {
		requireClients(t, &broker{t: t, addrs: external.MutualTLS, security: mutualTLS(external)})
		return
	}
	b, access := startMutualBroker(t)
	b.security = mutualTLS(access)
	requireClients(t, b)
}

func mutualTLS(a realkafka.Access) Security {
	return Security{TLS: true, CAFile: a.CAFile, CertFile: a.CertFile, KeyFile: a.KeyFile}
}

// writeFile returns a file of the test's own.
func writeFile(t testing.TB, content string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// Whoever cannot get in is told what to look at, and never the password.
func TestErrorsOfConnectionsSayWhatToDo(t *testing.T) {
	access, isExternal := realkafka.ExternalAccess(t)
	if !isExternal {
		secure := startSecureBroker(t, "SCRAM-SHA-512")
		var mutual *broker
		mutual, access = startMutualBroker(t)
		access.MutualTLS, access.Plaintext, access.SASL = mutual.addrs, startOwnBroker(t).addrs, secure.addrs
		access.Username, access.PasswordFile = secure.security.Username, secure.security.PasswordFile
		_ = os.WriteFile(access.CAFile, append(read(t, access.CAFile), read(t, secure.security.CAFile)...), 0o600)
	}
	stranger, _, err := realkafka.WriteCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	login := loginOverTLS(access, "SCRAM-SHA-512")
	f := func(what string, addrs []string, change func(*Security), base Security, want string) {
		t.Helper()
		change(&base)
		cfg := Config{Brokers: addrs, Topic: "events", Security: base}
		for name, err := range map[string]error{
			"Ping": Ping(testContext(t), cfg), "EnsureTopic": EnsureTopic(testContext(t), cfg, 1, 1, 0),
		} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %s returned %v, want it to say %q", what, name, err, want)
			} else if strings.Contains(err.Error(), "guess") || strings.Count(err.Error(), want) > 1 {
				t.Errorf("%s: %s says too much: %v", what, name, err)
			}
		}
	}
	f("a wrong password", access.SASL, func(s *Security) { s.PasswordFile = writeFile(t, "guess") }, login, `refused the login as "tidegate" by SCRAM-SHA-512: check`)
	f("a wrong user", access.SASL, func(s *Security) { s.Username = "nobody" }, login, `refused the login as "nobody"`)
	f("an untrusted broker", access.SASL, func(s *Security) { s.CAFile = stranger.CAFile }, login, "the authority that signed its certificate")
	f("the system's authorities", access.SASL, func(s *Security) { s.CAFile = "" }, login, "the authority that signed its certificate")
	f("another name", access.SASL, func(s *Security) { s.ServerName = "kafka.example.com" }, login, "set the server name")
	f("TLS where there is none", access.Plaintext, func(*Security) {}, login, "which of TLS and a login this listener expects")
	f("no certificate", access.MutualTLS, func(s *Security) { s.CertFile, s.KeyFile = "", "" }, mutualTLS(access), "asks for a certificate of the client")
	f("a stranger's certificate", access.MutualTLS, func(s *Security) { s.CertFile, s.KeyFile = stranger.CertFile, stranger.KeyFile }, mutualTLS(access), "check that the broker trusts its authority")
	f("no TLS", access.SASL, func(s *Security) { *s = Security{} }, login, "which of TLS and a login this listener expects")
	web := []string{startWeb(t)}
	f("a web server", web, func(s *Security) { *s = Security{} }, login, "the port of a web server")
	f("a login to a web server", web, func(s *Security) { s.TLS = false }, login, "the port of a web server")
	f("no login", access.SASL, func(s *Security) { s.Mechanism = "" }, login, "which of TLS and a login this listener expects")
	f("a missing file", access.SASL, func(s *Security) { s.PasswordFile = "/nowhere/password" }, login, "/nowhere/password")
	if isExternal { // the embedded broker takes anybody's login where it asks for none
		f("a login where there is none", access.Plaintext, func(s *Security) { s.TLS = false }, login, "does not ask for a login")
	}
}

// startWeb returns the address of a web server that refuses a bad method at its first byte,
// as nginx does.
func startWeb(t testing.TB) string {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() }) // nobody connects any more
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the test has ended
			}
			go func() {
				_, _ = conn.Read(make([]byte, 1<<10))
				_, _ = io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 4096\r\n\r\n"+strings.Repeat("x", 4096))
				_ = conn.Close() // which the client sees
			}()
		}
	}()
	return listener.Addr().String()
}

// A client that is given another server's address tries again and again. It must not
// make room for what the answers seem to announce.
func TestAnswersOfOthersTakeNoMemory(t *testing.T) {
	cfg := Config{Brokers: []string{startWeb(t)}, Topic: "events"}
	client := newClient(cfg)
	defer closeClient(client)
	before := allocated()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := topicPartitions(ctx, client, cfg.Topic); err == nil {
		t.Error("a web server has the topic")
	}
	conns := fetchConns{security: cfg.Security}
	defer conns.close()
	if _, err := conns.fetch(ctx, cfg.Brokers[0], cfg.Topic, 0, 0, 1, time.Second); err == nil {
		t.Error("a web server has events")
	}
	if grown := allocated() - before; grown > 64<<20 {
		t.Errorf("%d bytes were allocated for answers in HTTP", grown)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// What is renewed on disk holds from the next connection on, without a restart.
func TestFilesAreReadForEachConnection(t *testing.T) {
	b := startSecureBroker(t, "SCRAM-SHA-256")
	right := b.security
	b.security.PasswordFile, b.security.CAFile = writeFile(t, "old"), writeFile(t, "not yet there")
	ping := func() error { return Ping(testContext(t), b.config("events")) }
	if err := ping(); err == nil || !strings.Contains(err.Error(), "holds no certificate in PEM") {
		t.Errorf("without an authority: %v", err)
	}
	replace := func(file string, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(b.security.CAFile, read(t, right.CAFile))
	if err := ping(); err == nil || !strings.Contains(err.Error(), "refused the login") {
		t.Errorf("with the old password: %v", err)
	}
	replace(b.security.PasswordFile, append(read(t, right.PasswordFile), '\n'))
	b.topic(1)
}

func TestCheckNamesTheFile(t *testing.T) {
	access, pair, err := realkafka.WriteCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(mutualTLS(access).Check(), loginOverTLS(access, "PLAIN").Check(), Security{}.Check()); err != nil {
		t.Errorf("good files: %v", err)
	}
	f := func(s Security, want ...string) {
		t.Helper()
		err := s.Check()
		for _, w := range want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("%+v: the error is %v, want one with %q", s, err, w)
			}
		}
	}
	empty := writeFile(t, "\n")
	f(Security{TLS: true, CAFile: empty}, empty, "no certificate in PEM")
	f(Security{TLS: true, CAFile: "/nowhere"}, "/nowhere")
	f(Security{TLS: true, CertFile: access.CertFile, KeyFile: pair}, access.CertFile, pair, "private key does not match")
	f(Security{Mechanism: "PLAIN", Username: "u", PasswordFile: empty}, empty, "is empty")
	f(Security{Mechanism: "GSSAPI", Username: "u", PasswordFile: access.PasswordFile}, "GSSAPI", "SCRAM-SHA-512")
}

// A broker that takes the connection and says nothing more holds nobody up.
func TestLoginIsBounded(t *testing.T) {
	silent := listenSilently(t)
	for _, s := range []Security{{TLS: true}, {Mechanism: "PLAIN", Username: "u", PasswordFile: writeFile(t, "p")}} {
		started := time.Now()
		if conn, err := s.dial(testContext(t), "tcp", silent); err == nil {
			_ = conn.Close()
			t.Error("a silent broker was connected to")
		} else if waited := time.Since(started); waited > 2*dialTimeout {
			t.Errorf("%+v: it took %s: %v", s, waited, err)
		}
	}
}

func listenSilently(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener.Addr().String() // the kernel accepts
}
