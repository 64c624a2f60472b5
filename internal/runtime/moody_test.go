package runtime

import (
	"bufio"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// moodyServer is a server that can be told to misbehave. Its answers name it.
type moodyServer struct {
	t        *testing.T
	addr     string
	name     string
	mood     atomic.Value // a string
	requests atomic.Int32 // whose header was read
	checks   atomic.Int32 // of those, for /health

	mu    sync.Mutex
	l     net.Listener // nil while it is dead
	conns map[net.Conn]bool
	tasks sync.WaitGroup
}

const (
	moodGood  = "good"
	moodHang  = "hang"  // reads, and never answers
	moodReset = "reset" // reads, and hangs up
	moodBad   = "bad"   // answers 503
	moodOdd   = "odd"   // answers what is no HTTP
)

func newMoodyServer(t *testing.T, name string) *moodyServer {
	t.Helper()
	s := &moodyServer{t: t, name: name, addr: "127.0.0.1:" + strconv.Itoa(fixedPort(t)), conns: map[net.Conn]bool{}}
	s.mood.Store(moodGood)
	s.start()
	t.Cleanup(func() { s.kill(); s.tasks.Wait() })
	return s
}

// fixedPort returns a port to which a server can come back: it is below those that systems
// give to connections, one of which would take it while the server is dead.
func fixedPort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(10_000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close() // to be opened again at once
			return port
		}
	}
	t.Fatal("there is no free port from 20000 to 29999")
	return 0
}

func (s *moodyServer) url() string { return "http://" + s.addr }

// start listens, at the same address as before.
func (s *moodyServer) start() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		return
	}
	l, err := net.Listen("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.l = l
	s.tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			if s.l != l {
				_ = c.Close()
			} else {
				s.conns[c] = true
				s.tasks.Go(func() { s.serve(c) })
			}
			s.mu.Unlock()
		}
	})
}

// kill closes the listener and every connection, as the end of a process does.
func (s *moodyServer) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l == nil {
		return
	}
	_ = s.l.Close()
	s.l = nil
	for c := range s.conns {
		_ = c.Close()
	}
}

func (s *moodyServer) serve(c net.Conn) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		_ = c.Close()
	}()
	r := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		s.requests.Add(1)
		if req.URL.Path == "/health" {
			s.checks.Add(1)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		status := "200 OK"
		switch s.mood.Load() {
		case moodHang:
			_, _ = r.Peek(1) // until the other side gives up, or this one is killed
			return
		case moodReset:
			return
		case moodOdd:
			_, _ = io.WriteString(c, "220 mail.example.com ESMTP\r\n")
			return
		case moodBad:
			status = "503 Service Unavailable"
		}
		answer := s.name + string(body)
		if req.Method == http.MethodHead {
			answer = ""
		}
		if _, err := io.WriteString(c, "HTTP/1.1 "+status+"\r\nContent-Length: "+strconv.Itoa(len(answer))+"\r\n\r\n"+answer); err != nil {
			return
		}
	}
}

// firstByteMS is a time-out that a test can wait for, and that a server which is well
// keeps on a busy machine, unless that stands still: see inTime.
const firstByteMS = 250

// quickConfig ejects for so short that a test can wait for it.
func quickConfig() Config {
	cfg := shortConfig()
	cfg.Ejection, cfg.EjectionMax = 20*time.Millisecond, 80*time.Millisecond
	return cfg
}

// openOrigin returns the backend of an origin, deployed.
func openOrigin(t *testing.T, cfg Config, o *deploy.Origin) http.RoundTripper {
	t.Helper()
	b, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b.Update(deployedSnapshot(o))[versionID]
}

func deployedSnapshot(o *deploy.Origin) *deploy.Snapshot {
	return &deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
		AccountID: "a", Subdomain: "dev", Name: "shop", Splits: []deploy.Split{{VersionID: versionID, Percentage: deploy.Full}},
		Versions: []deploy.SnapshotVersion{{ID: versionID, Origin: o}},
	}}}
}

func originOf(servers ...*moodyServer) *deploy.Origin {
	o := &deploy.Origin{}
	for _, s := range servers {
		o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: s.url(), Weight: 1})
	}
	return o
}

func retries(n int) *int { return &n }

// ask sends a GET and returns the answer, which names the server.
func ask(t *testing.T, backend http.RoundTripper) string {
	t.Helper()
	resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
	return readAll(t, resp, err)
}

func outOf(t *testing.T, backend http.RoundTripper) string {
	t.Helper()
	return backend.(interface{ State() deploy.BackendState }).State().Error
}
