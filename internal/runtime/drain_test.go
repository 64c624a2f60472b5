package runtime

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// A version that leaves finishes what it has in hand, and then holds no connection,
// though the time after which idle ones are closed is far away. The same is so of
// one that stays in the snapshot for its preview, and it keeps connections again
// once it is deployed again.
func TestVersionThatLeavesIsDrained(t *testing.T) {
	for _, protocol := range []string{"http", "https", "https, HTTP/1.1", "h2c"} {
		for what, after := range map[string]func(*deploy.Snapshot){
			"the snapshot":   func(s *deploy.Snapshot) { s.Scripts = nil },
			"the deployment": func(s *deploy.Snapshot) { s.Scripts[0].Splits = nil },
		} {
			t.Run(protocol+" leaves "+what, func(t *testing.T) { testDrain(t, protocol, after) })
		}
	}
}

func testDrain(t *testing.T, protocol string, after func(*deploy.Snapshot)) {
	release := make(chan struct{})
	s, conns := drainServer(t, protocol, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "begin ")
		_ = http.NewResponseController(w).Flush()
		if r.URL.Path == "/slow" {
			<-release
		}
		_, _ = io.WriteString(w, "end")
	})
	o := &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: s, Weight: 1}}}
	cfg := shortConfig()
	cfg.IdleTimeout = time.Hour
	b, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	backend := b.Update(deployedSnapshot(o))[versionID]
	slow, slowErr := backend.RoundTrip(request(t, http.MethodGet, "/slow", ""))
	resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	readAll(t, resp, err)
	gone := deployedSnapshot(o)
	after(gone)
	putInForce(b, gone)
	resp, err = backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	if got := readAll(t, resp, err); got != "begin end" { // by whoever has picked it a moment before
		t.Errorf("a late request got %q", got)
	}
	if conns.Load() == 0 {
		t.Error("the connection of a request in flight was closed")
	}
	close(release)
	if got := readAll(t, slow, slowErr); got != "begin end" {
		t.Errorf("the request in flight got %q", got)
	}
	waitFor(t, "every connection to be closed", func() bool { return conns.Load() == 0 })

	back := b.Update(deployedSnapshot(o))[versionID]
	resp, err = back.RoundTrip(request(t, http.MethodGet, "/", ""))
	readAll(t, resp, err)
	resp, err = back.RoundTrip(request(t, http.MethodGet, "/", ""))
	readAll(t, resp, err)
	if conns.Load() != 1 {
		t.Errorf("%d connections are kept after two requests, want one", conns.Load())
	}
}

// drainServer returns a server's URL and the number of its open connections.
func drainServer(t *testing.T, protocol string, h http.HandlerFunc) (origin string, open *atomic.Int32) {
	t.Helper()
	open = new(atomic.Int32)
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		case http.StateActive, http.StateIdle:
		}
	}
	switch protocol {
	case "https":
		s.EnableHTTP2 = true
		s.Config.Protocols.SetHTTP2(true)
		s.StartTLS()
	case "https, HTTP/1.1":
		s.StartTLS()
	case "h2c":
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
		t.Cleanup(s.Close)
		return "h2c://" + s.Listener.Addr().String(), open
	default:
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.URL, open
}
