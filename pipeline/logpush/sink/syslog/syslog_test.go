package syslog

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/certs/certstest"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

var loopback = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true}}

func open(t *testing.T, conf string, options Options) logpush.Sink {
	t.Helper()
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) }, conf)
}

func batch(texts ...string) logpush.Object {
	o := logpush.Object{Name: "a", Records: len(texts), JobID: 7, BatchID: "7-0-100", Dataset: "workers_trace_events"}
	for i, text := range texts {
		o.Items = append(o.Items, logpush.Item{Text: []byte(text + "\n"), Time: time.UnixMilli(1714878560011 + int64(i)),
			Script: "shop", Version: "v1", Outcome: []string{"ok", "exception", "canceled"}[i%3], EventType: "fetch"})
	}
	return o
}

// messages of batch("one", "two").
var messages = []string{
	`<134>1 2024-05-05T03:09:20.011Z tidegate shop - fetch [tidegate@32473 batch="7-0-100" record="0" version="v1" outcome="ok"] one`,
	`<131>1 2024-05-05T03:09:20.012Z tidegate shop - fetch [tidegate@32473 batch="7-0-100" record="1" version="v1" outcome="exception"] two`,
}

// receiver reads frames until its connections end.
type receiver struct {
	net.Listener
	mu   sync.Mutex
	got  []string
	read sync.WaitGroup
	over chan struct{} // closed at the end of the test
}

func receive(t *testing.T, l net.Listener, serve func(r *receiver, c net.Conn)) *receiver {
	t.Helper()
	r := &receiver{Listener: l, over: make(chan struct{})}
	r.read.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.read.Go(func() {
				defer c.Close()
				serve(r, c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		close(r.over)
		r.read.Wait()
	})
	return r
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// readFrames reads octet-counted messages to the end.
func readFrames(r *receiver, c net.Conn) {
	in := bufio.NewReader(c)
	for {
		length, err := in.ReadString(' ')
		if err != nil {
			return
		}
		n, err := strconv.Atoi(strings.TrimSuffix(length, " "))
		if err != nil {
			return
		}
		message := make([]byte, n)
		if _, err := io.ReadFull(in, message); err != nil {
			return
		}
		r.mu.Lock()
		r.got = append(r.got, string(message))
		r.mu.Unlock()
	}
}

func TestEachRecordIsAMessageOverTCP(t *testing.T) {
	r := receive(t, listen(t), readFrames)
	s := open(t, "syslog://"+r.Addr().String()+"?transport=tcp", loopback)
	if !logpush.TraitsOf(s).Records {
		t.Fatal("the sink does not ask for records")
	}
	if err := s.Put(t.Context(), batch("one", "two")); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock() // no need to wait: the receiver ended the connection
	defer r.mu.Unlock()
	if diff := cmp.Diff(messages, r.got); diff != "" {
		t.Error(diff)
	}
}

// A large batch is taken whole.
func TestALargeBatch(t *testing.T) {
	r := receive(t, listen(t), readFrames)
	texts := make([]string, 20_000)
	for i := range texts {
		texts[i] = strings.Repeat("x", 500)
	}
	if err := open(t, "syslog://"+r.Addr().String()+"?transport=tcp", loopback).Put(t.Context(), batch(texts...)); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) != len(texts) {
		t.Errorf("%d messages arrived, want %d", len(r.got), len(texts))
	}
}

func TestTLSNeedsATrustedCertificate(t *testing.T) {
	pair := certstest.NewAuthority(t, "another").Issue(t, "receiver", "127.0.0.1")
	certificate, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	r := receive(t, tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}), readFrames)
	err = open(t, "syslog://"+r.Addr().String(), loopback).Put(t.Context(), batch("one"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || !strings.Contains(e.Text, "certificate") {
		t.Fatalf("put returned %+v", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.got) > 0 {
		t.Errorf("it got %q", r.got)
	}
}

func TestDatagrams(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := open(t, "syslog://"+c.LocalAddr().String()+"?transport=udp", loopback)
	err = s.Put(t.Context(), batch("one", "two", strings.Repeat("x", 70_000)))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || !e.Permanent || !cmp.Equal(e.Records, []int{2}) {
		t.Fatalf("put returned %+v", err)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, want := range messages {
		b := make([]byte, 1000)
		n, _, err := c.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(b[:n])); diff != "" {
			t.Error(diff)
		}
	}
}

// What the receiver did not read is not taken as delivered.
func TestReceiversThatFail(t *testing.T) {
	hurried := loopback
	hurried.Egress.NoProgress = 2 * time.Second
	f := func(what string, options Options, serve func(r *receiver, c net.Conn), want string) {
		t.Helper()
		r := receive(t, listen(t), serve)
		texts := make([]string, 20_000) // more than socket buffers hold
		for i := range texts {
			texts[i] = strings.Repeat("x", 500)
		}
		err := open(t, "syslog://"+r.Addr().String()+"?transport=tcp", options).Put(t.Context(), batch(texts...))
		if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || !strings.Contains(e.Text, want) {
			t.Errorf("%s: put returned %+v, want an error with %q", what, err, want)
		}
	}
	some := func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 1000) }
	f("leaves in the middle", loopback, func(_ *receiver, c net.Conn) { some(c) }, "connection broke")
	f("reads no further", hurried, func(r *receiver, c net.Conn) {
		some(c)
		<-r.over
	}, "timeout")
	f("never ends", hurried, func(r *receiver, c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		<-r.over
	}, "confirm=none")
	r := receive(t, listen(t), func(r *receiver, c net.Conn) {
		_, _ = io.Copy(io.Discard, c)
		<-r.over
	})
	if err := open(t, "syslog://"+r.Addr().String()+"?transport=tcp&confirm=none", loopback).Put(t.Context(), batch("one")); err != nil {
		t.Errorf("confirm=none: %v", err)
	}
	err := open(t, "syslog://127.0.0.1:1?transport=tcp", loopback).Put(t.Context(), batch("one"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || !strings.Contains(e.Text, "connection failed") {
		t.Errorf("nobody there: %+v", err)
	}
}

// A batch that fits into socket buffers is written without an error to a receiver that has hung up. Its end must not pass
// for the one that comes after the last message.
func TestAReceiverThatHangsUpAtOnce(t *testing.T) {
	// Who shakes hands may have read what follows, and then nobody can tell that it was not taken.
	shaken := make(chan struct{})
	overShaken := func(c net.Conn) net.Conn {
		c = tls.Client(c, &tls.Config{ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12})
		if err := c.(*tls.Conn).HandshakeContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-shaken
		return c
	}
	shake := func(c net.Conn) {
		_ = c.(*tls.Conn).HandshakeContext(t.Context()) // the client's fails, too
		shaken <- struct{}{}
	}
	for _, c := range []struct {
		what  string
		over  func(net.Conn) net.Conn
		l     net.Listener
		serve func(c net.Conn)
	}{
		{"TCP", nil, listen(t), func(net.Conn) {}},
		{"TCP, before the first byte", func(c net.Conn) net.Conn { <-shaken; return c }, listen(t), func(c net.Conn) {
			_ = c.Close()
			shaken <- struct{}{}
		}},
		{"TCP, after the first bytes", nil, listen(t), func(c net.Conn) { _, _ = io.CopyN(io.Discard, c, 10) }},
		{"TLS, with a farewell", overShaken, tls.NewListener(listen(t), trusted), shake},
		{"TLS", overShaken, tls.NewListener(listen(t), trusted), func(c net.Conn) {
			shake(c)
			_ = c.(*tls.Conn).NetConn().Close()
		}},
	} {
		r := receive(t, c.l, func(_ *receiver, conn net.Conn) { c.serve(conn) })
		for range 200 { // whose packet comes first differs
			if err := deliver(t, r, c.over, "one"); err == nil {
				t.Errorf("%s: a batch that nobody read counts as taken", c.what)
				break
			}
		}
	}
}

func TestEachRecordIsAMessageOverTLS(t *testing.T) {
	r := receive(t, tls.NewListener(listen(t), trusted), readFrames)
	if err := open(t, "syslog://"+r.Addr().String(), loopback).Put(t.Context(), batch("one", "two")); err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(messages, r.got); diff != "" {
		t.Error(diff)
	}
}

// deliver sends a batch to a receiver over a connection that over wraps, if it is not nil.
func deliver(t *testing.T, r *receiver, over func(net.Conn) net.Conn, texts ...string) error {
	t.Helper()
	conn, err := loopback.Egress.Dial(t.Context(), "tcp", r.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if over != nil {
		conn = over(conn)
	}
	o := batch(texts...)
	s, ok := open(t, "syslog://"+r.Addr().String()+"?transport=tcp", loopback).(*sink)
	if !ok {
		t.Fatal("the sink is another one")
	}
	return s.deliver(conn, &o)
}

func TestAnEndedContext(t *testing.T) {
	r := receive(t, listen(t), func(r *receiver, _ net.Conn) { <-r.over })
	s := open(t, "syslog://"+r.Addr().String()+"?transport=tcp", loopback)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Put(ctx, batch("one")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("put returned %v", err)
	}
}

func TestMessages(t *testing.T) {
	u, err := url.Parse(`syslog://h?facility=audit&hostname=edge-1&sd-id=x@1`)
	if err != nil {
		t.Fatal(err)
	}
	f, err := newForm(u.Query())
	if err != nil {
		t.Fatal(err)
	}
	o := logpush.Object{Items: []logpush.Item{{Text: []byte("{\"a\":\"ü\"}"), Time: time.UnixMilli(0), Script: "my wörker" + strings.Repeat("x", 60),
		Version: `a"b\c]` + strings.Repeat("ü", 100), Outcome: ""}}}
	want := `<110>1 1970-01-01T00:00:00.000Z edge-1 my_w_rker` + strings.Repeat("x", 39) + ` - - [x@1 record="0" version="a\"b\\c\]` +
		strings.Repeat("ü", 61) + `"] {"a":"ü"}`
	if diff := cmp.Diff(want, string(f.append(nil, &o, 0))); diff != "" {
		t.Error(diff)
	}
}

func TestBadSettings(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("syslog:///", "syslog://<host>:<port>")
	f("syslog://h/path", "without a path")
	f("syslog://h?format=3164", `"format" is not known`)
	f("syslog://h?transport=tls&transport=tcp", "given twice")
	f("syslog://h?transport=relp", "tls, tcp and udp")
	f("syslog://h?transport=tcp", "not allowed here")
	f("syslog://h?facility=local9", "local7")
	f("syslog://h?confirm=yes", "close and none")
	f("syslog://h?hostname=a%20b", "printable ASCII")
	f("syslog://h?sd-id=abc", "enterprise number")
}

// FuzzMessage holds every message to the grammar of RFC 5424.
func FuzzMessage(f *testing.F) {
	f.Add("shop", "v1", "ok", "fetch", "{}", int64(1714878560011))
	f.Add("0", "", "", "[", "", int64(0))
	f.Add("", "\xff\"]\\", "exception", "a b", "line\nline", int64(-1))
	f.Fuzz(func(t *testing.T, script, version, outcome, eventType, text string, at int64) {
		m := time.UnixMilli(at).UTC()
		if m.Year() < 0 || m.Year() > 9999 {
			return
		}
		form, err := newForm(url.Values{})
		if err != nil {
			t.Fatal(err)
		}
		o := logpush.Object{BatchID: "7-0-1", Items: []logpush.Item{{Text: []byte(text), Time: m, Script: script, Version: version, Outcome: outcome, EventType: eventType}}}
		message := string(form.append(nil, &o, 0))
		fields := strings.SplitN(message, " ", 7)
		if len(fields) != 7 || len(fields[3]) > maxAppName || len(fields[5]) > maxMsgID || fields[6][0] != '[' {
			t.Fatalf("the message is %q", message)
		}
		rest := fields[6]
		escaped, end := false, -1
		for i := range len(rest) {
			if !escaped && rest[i] == ']' {
				end = i
				break
			}
			escaped = !escaped && rest[i] == '\\'
		}
		if end < 0 || !strings.HasPrefix(rest[end:], "] ") || rest[end+2:] != strings.TrimSuffix(text, "\n") {
			t.Fatalf("the message is %q", message)
		}
		if len(message)-len(text) > maxHead {
			t.Fatalf("%d bytes come before the record", len(message)-len(text))
		}
	})
}

// The receiver that TIDEGATE_TEST_SYSLOG names, host:port,file, writes what it gets by TCP into the file.
func TestRealReceiver(t *testing.T) {
	address, file, ok := strings.Cut(os.Getenv("TIDEGATE_TEST_SYSLOG"), ",")
	if !ok {
		t.Skip("TIDEGATE_TEST_SYSLOG is not set: `make test-real` starts an rsyslog and sets it")
	}
	marker := strconv.FormatInt(time.Now().UnixNano(), 36)
	texts := make([]string, 2000)
	for i := range texts {
		texts[i] = `{"marker":"` + marker + `","n":` + strconv.Itoa(i) + `}`
	}
	if err := open(t, "syslog://"+address+"?transport=tcp", loopback).Put(t.Context(), batch(texts...)); err != nil {
		t.Fatal(err)
	}
	missing := texts
	for deadline := time.Now().Add(30 * time.Second); len(missing) > 0 && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		written, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		missing = nil
		for _, text := range texts {
			if strings.Count(string(written), text) != 1 {
				missing = append(missing, text)
			}
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d of %d records are not in the file once, the first %s", len(missing), len(texts), missing[0])
	}
}
