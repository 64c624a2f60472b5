package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// versionHeader is on every answer of an origin, and on no other.
const versionHeader = "X-Version"

// services are what versions and jobs of this program lead to, on one address: origins
// that answer with their name, or fail half of their requests; a receiver of Logpush; and
// one of notifications.
type services struct {
	url    string
	server *http.Server
	served chan error

	mu       sync.Mutex
	requests int
	lines    map[string]int            // of Logpush by ray
	told     map[string]map[string]int // notifications by version and id
	broken   error                     // the first delivery that cannot be read
}

func startServices(ctx context.Context, addr netip.Addr) (*services, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return nil, err
	}
	s := &services{url: "http://" + l.Addr().String(), served: make(chan error, 1), lines: map[string]int{}, told: map[string]map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("/origin/{name}/", s.answer)
	mux.HandleFunc("POST /logs", s.taking(s.takeLogs))
	mux.HandleFunc("POST /told", s.taking(s.takeNotification))
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { s.served <- s.server.Serve(l) }()
	return s, nil
}

func (s *services) close() {
	_ = s.server.Close() // nobody is there any more
	<-s.served
}

// origin is the address of a version. A name that begins with "bad" fails.
func (s *services) origin(name string) string { return s.url + "/origin/" + name }

func (s *services) answer(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	w.Header().Set(versionHeader, name)
	s.mu.Lock()
	s.requests++
	failing := strings.HasPrefix(name, "bad") && s.requests%2 == 0
	s.mu.Unlock()
	if failing {
		w.WriteHeader(http.StatusInternalServerError)
	}
	_, _ = io.WriteString(w, name)
}

func (s *services) taking(take func(r *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := take(r); err != nil {
			if s.broken == nil {
				s.broken = fmt.Errorf("%s %s: %w", r.Method, r.URL.Path, err)
			}
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}
}

func (s *services) takeLogs(r *http.Request) error {
	unzipped, err := gzip.NewReader(r.Body)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(unzipped)
	if err != nil || bytes.HasPrefix(body, []byte(`{"content":`)) { // the test at a job's creation
		return err
	}
	return countRays(body, s.lines)
}

func (s *services) takeNotification(r *http.Request) error {
	var message struct {
		ID, Type string
		Decision struct {
			VersionID string `json:"version_id"`
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		return err
	}
	of := s.told[message.Decision.VersionID]
	if of == nil {
		of = map[string]int{}
		s.told[message.Decision.VersionID] = of
	}
	of[message.Type+" "+message.ID]++
	return nil
}

// notifications about a version, by kind and id.
func (s *services) notifications(version string) map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.told[version])
}

// delivered returns the lines that the receiver has, by ray.
func (s *services) delivered() (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.lines), s.broken
}

// countRays adds the lines of a batch to their rays.
func countRays(body []byte, rays map[string]int) error {
	for line := range bytes.Lines(body) {
		var record struct{ Event struct{ RayID string } }
		if err := json.Unmarshal(line, &record); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		rays[record.Event.RayID]++
	}
	return nil
}

// objectRays returns the lines of all objects in a folder, by ray.
func objectRays(folder string) (map[string]int, error) {
	rays := map[string]int{}
	objects, err := filepath.Glob(filepath.Join(folder, "*", "*.log.gz"))
	if err != nil {
		return nil, err
	}
	for _, name := range objects {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		unzipped, err := gzip.NewReader(f)
		if err != nil {
			return nil, fmt.Errorf("read the object %s: %w", name, err)
		}
		body, err := io.ReadAll(unzipped)
		_ = f.Close() // it was read
		if err != nil {
			return nil, fmt.Errorf("read the object %s: %w", name, err)
		}
		if err := countRays(body, rays); err != nil {
			return nil, fmt.Errorf("read the object %s: %w", name, err)
		}
	}
	return rays, nil
}
