package runtime

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// A server may close a connection while it is idle; the next request must not
// notice, whatever its method, and with a body or without: neither of these may be sent twice.
func TestClosedIdleConnectionIsNotUsed(t *testing.T) {
	for _, body := range []string{"x", ""} {
		t.Run("body="+body, func(t *testing.T) { closeIdle(t, body) })
	}
}

func closeIdle(t *testing.T, body string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	t.Cleanup(s.Close)
	backend := open(t, shortConfig(), s.URL)
	for range 20 {
		resp, err := backend.RoundTrip(request(t, "POST", "/", body))
		if got := readAll(t, resp, err); got != body {
			t.Fatalf("got %q", got)
		}
		s.CloseClientConnections()
	}
}

// A response that nobody asked for, on a connection that is idle, must not be taken for
// the answer to the next request.
func TestBytesOnAnIdleConnectionAreNoAnswer(t *testing.T) {
	idle, written := make(chan struct{}), make(chan struct{})
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for skipHead(r) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
			<-idle
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale")
			written <- struct{}{}
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for i, body := range []string{"", "x", "", ""} {
		resp, err := backend.RoundTrip(request(t, "POST", "/", body))
		if got := readAll(t, resp, err); got != "good" {
			t.Errorf("request %d got %q", i, got)
		}
		idle <- struct{}{}
		<-written
	}
}

// The socket may have no room for a request, which then goes out piece by piece.
func TestRequestThatIsLongerThanTheSocketHolds(t *testing.T) {
	const bytes = 12 << 20
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		for {
			n := 0
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				if n += len(line); line == "\r\n" {
					break
				}
			}
			answer := strconv.FormatBool(n > bytes)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for range 3 { // on a new connection, and on one that was idle
		req := request(t, "GET", "/", "")
		req.Header.Set("X-Long", strings.Repeat("x", bytes))
		resp, err := backend.RoundTrip(req)
		if got := readAll(t, resp, err); got != "true" {
			t.Fatalf("got %q", got)
		}
	}
}

// A connection that dies on its second request, before a byte of the response:
// what can be repeated is, on a new connection; the rest fails, because the
// backend may have acted on it.
func TestDyingConnectionIsRetriedOnce(t *testing.T) {
	var seen atomic.Int32
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		if skipHead(r) {
			seen.Add(1)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
		if skipHead(r) {
			seen.Add(1)
		}
	})
	backend := open(t, shortConfig(), "http://"+addr)
	for i := range 5 {
		resp, err := backend.RoundTrip(request(t, "GET", "/", ""))
		if got := readAll(t, resp, err); got != "ok" {
			t.Fatalf("request %d: got %q", i, got)
		}
	}
	before := seen.Load()
	req := request(t, "POST", "/", "")
	resp, err := backend.RoundTrip(req)
	wantKind(t, resp, err, schema.ErrorKindReset)
	if got := seen.Load() - before; got != 1 {
		t.Errorf("a POST was sent %d times, want once", got)
	}
}

// inTime runs try, which says what went wrong, with a bound that it has to keep. Where a machine
// stands still for longer, it has another try with a longer one; what is wrong fails with each.
func inTime(t *testing.T, bound time.Duration, try func(bound time.Duration) error) {
	t.Helper()
	for most := 25 * bound; ; bound *= 5 {
		err := try(bound)
		if err == nil {
			return
		}
		if bound >= most {
			t.Error(err)
			return
		}
		t.Logf("with a bound of %s: %v", bound, err)
	}
}

// waitFor polls until ok or fails after a minute, which only a test that fails waits.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// countConns returns a server and the number of its open connections.
func countConns(t *testing.T, h http.HandlerFunc) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var conns atomic.Int32
	s := httptest.NewUnstartedServer(h)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			conns.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s, &conns
}

func TestIdleConnectionsAreClosedInTime(t *testing.T) {
	s, conns := countConns(t, func(http.ResponseWriter, *http.Request) {})
	cfg := shortConfig()
	cfg.IdleTimeout = 20 * time.Millisecond
	resp, err := open(t, cfg, s.URL).RoundTrip(request(t, "GET", "/", ""))
	readAll(t, resp, err)
	waitFor(t, "the idle connection to be closed", func() bool { return conns.Load() == 0 })
}

// The story: a version was rolled back and came into force again, as after every rollback of a
// rollback, and from then on its idle connections stayed for as long as the origin liked.
func TestIdleConnectionsAreClosedInTimeAfterAReturn(t *testing.T) {
	s, conns := countConns(t, func(http.ResponseWriter, *http.Request) {})
	cfg := shortConfig()
	cfg.IdleTimeout = 20 * time.Millisecond
	backend, err := newTransport(cfg, s.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backend.close)
	for range 3 {
		resp, err := backend.RoundTrip(request(t, "GET", "/", "")) // which starts the reaper
		readAll(t, resp, err)
		backend.close()
		waitFor(t, "every connection to be closed", func() bool { return conns.Load() == 0 })
		backend.reopen()
		resp, err = backend.RoundTrip(request(t, "GET", "/", ""))
		readAll(t, resp, err)
		waitFor(t, "the idle connection to be closed", func() bool { return conns.Load() == 0 })
	}
}

// A version that leaves the snapshot lets its connections go, and still answers
// whoever picked it a moment before.
func TestUpdateClosesWhatIsNoLongerNamed(t *testing.T) {
	inFlight, release := make(chan struct{}, 1), make(chan struct{})
	s, conns := countConns(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			inFlight <- struct{}{}
			<-release
		}
		_, _ = io.WriteString(w, "ok")
	})
	b, err := New(shortConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	old := b.Update(snapshotOf(s.URL))[versionID]
	if again := b.Update(snapshotOf(s.URL))[versionID]; again != old {
		t.Error("an update that changed nothing opened a new backend")
	}
	slow := make(chan string)
	go func() {
		resp, err := old.RoundTrip(request(t, "GET", "/slow", ""))
		if err != nil {
			slow <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		slow <- string(body)
	}()
	<-inFlight
	if len(putInForce(b, &deploy.Snapshot{Revision: 2})) != 0 {
		t.Error("a snapshot without versions got backends")
	}
	resp, err := old.RoundTrip(request(t, "GET", "/", ""))
	if got := readAll(t, resp, err); got != "ok" {
		t.Errorf("a late request got %q", got)
	}
	close(release)
	if got := <-slow; got != "ok" {
		t.Errorf("the request in flight got %q", got)
	}
	waitFor(t, "every connection to be closed", func() bool { return conns.Load() == 0 })
}

func TestUpdateFollowsAnOrigin(t *testing.T) {
	answer := func(text string) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
		t.Cleanup(s.Close)
		return s
	}
	b, err := New(shortConfig(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	for _, want := range []string{"one", "two"} {
		resp, err := b.Update(snapshotOf(answer(want).URL))[versionID].RoundTrip(request(t, "GET", "/", ""))
		if got := readAll(t, resp, err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
