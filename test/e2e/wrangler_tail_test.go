package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/test/platform"
)

// tailed answers by path: /error throws, /log logs what the query says.
const tailed = `export default {
  async fetch(request, env) {
    const url = new URL(request.url);
    if (url.pathname === "/error") throw new TypeError("a bad request came");
    console.log("saw", url.search, {n: 1});
    return new Response(env.VERSION.id);
  },
};
`

// TestWranglerTail watches a Worker live, with and without filters, by several
// viewers at once.
func TestWranglerTail(t *testing.T) {
	p := start(t, platform.Options{})
	for _, w := range wranglers {
		t.Run(w.version, func(t *testing.T) {
			t.Parallel()
			s := &release{project: newProject(t, w, p, record(t, p), "watched"+w.suffix())}
			s.configure(t, map[string]any{"version_metadata": map[string]string{"binding": "VERSION"}})
			s.write(t, "src/index.js", tailed)
			s.v1 = versionID(t, s.run(t, "deploy"))
			s.answers(t, s.v1)
			s.write(t, "src/index.js", tailed+"// again\n")
			s.v2 = versionID(t, s.run(t, "versions", "upload"))
			s.run(t, "versions", "deploy", s.v1+"@50", s.v2+"@50", "-y")

			everything := s.tail(t)
			second := s.tail(t)
			filters := map[string]*viewer{
				"status":  s.tail(t, "--status", "error"),
				"search":  s.tail(t, "--search", "needle"),
				"method":  s.tail(t, "--method", "POST"),
				"header":  s.tail(t, "--header", "X-Team:blue"),
				"version": s.tail(t, "--version-id", s.v2),
			}
			s.untilSeen(t, everything, second, filters)
			for _, v := range []*viewer{everything, second} {
				s.seesAll(t, v)
			}
			matches := map[string]func(event) bool{
				"status":  func(e event) bool { return e.Outcome == "exception" && len(e.Exceptions) == 1 },
				"search":  func(e event) bool { return bytes.Contains(e.logs(), []byte("needle")) },
				"method":  func(e event) bool { return e.Event.Request.Method == http.MethodPost },
				"header":  func(e event) bool { return e.Event.Request.Headers["x-team"] == "blue" },
				"version": func(e event) bool { return e.ScriptVersion.ID == s.v2 },
			}
			for name, v := range filters {
				for _, e := range v.events() {
					if !matches[name](e) {
						t.Errorf("the filter by %s lets through %+v", name, e)
					}
				}
			}
		})
	}
}

// event is a message of the trace-v1 protocol, as wrangler prints it.
type event struct {
	Outcome       string
	ScriptName    string
	ScriptVersion struct{ ID string }
	Exceptions    []struct{ Name, Message string }
	Logs          []struct {
		Level   string
		Message json.RawMessage
	}
	EventTimestamp int64
	Event          struct {
		Request struct {
			URL, Method string
			Headers     map[string]string
		}
		Response struct{ Status int }
	}
}

func (e event) logs() []byte {
	var all []byte
	for _, l := range e.Logs {
		all = append(all, l.Message...)
	}
	return all
}

// viewer is a running `wrangler tail`.
type viewer struct {
	mu     sync.Mutex
	seen   []event
	output bytes.Buffer // standard error, for messages
	err    error
}

// tail starts `wrangler tail --format json` until the test ends.
func (s *release) tail(t *testing.T, filters ...string) *viewer {
	t.Helper()
	command := s.command(t.Context(), t, append([]string{"tail", s.name, "--format", "json"}, filters...)...)
	v := &viewer{}
	stdout, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	command.Stderr = &v.output
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // it takes its tail away
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		v.read(stdout)
	}()
	t.Cleanup(func() {
		_ = command.Process.Signal(os.Interrupt) // fails only when it has ended already
		<-reading
		_ = command.Wait() // interrupted
		if t.Failed() {
			t.Logf("tail %v saw %d events, and said: %s", filters, len(v.seen), v.output.String())
		}
	})
	return v
}

// read takes events until wrangler ends. It prints each as indented JSON.
func (v *viewer) read(stdout io.Reader) {
	decoder := json.NewDecoder(stdout)
	for {
		var e event
		err := decoder.Decode(&e)
		v.mu.Lock()
		if err == nil {
			v.seen = append(v.seen, e)
		} else {
			v.err = err
		}
		v.mu.Unlock()
		if err != nil {
			_, _ = io.Copy(io.Discard, stdout) // so that wrangler can end
			return
		}
	}
}

func (v *viewer) events() []event {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]event(nil), v.seen...)
}

// untilSeen sends requests of every kind until each viewer has seen some.
func (s *release) untilSeen(t *testing.T, everything, second *viewer, filters map[string]*viewer) {
	t.Helper()
	eventually(t, time.Minute, "every viewer has seen something", func() (bool, error) {
		s.send(t, http.MethodGet, "/log?q=hay", nil)
		s.send(t, http.MethodGet, "/log?q=needle", nil)
		s.send(t, http.MethodGet, "/error", nil)
		s.send(t, http.MethodPost, "/log", nil)
		s.send(t, http.MethodGet, "/log", http.Header{"X-Team": {"blue"}})
		s.send(t, http.MethodGet, "/log", http.Header{"X-Team": {"red"}})
		all := len(everything.events()) >= 20 && len(second.events()) >= 20
		for _, v := range filters {
			all = all && len(v.events()) >= 2
		}
		return all, nil
	})
}

// seesAll looks at what an unfiltered viewer got: both outcomes, both versions,
// logs with their values, and no secret.
func (s *release) seesAll(t *testing.T, v *viewer) {
	t.Helper()
	outcomes, versions := map[string]int{}, map[string]int{}
	for _, e := range v.events() {
		outcomes[e.Outcome]++
		versions[e.ScriptVersion.ID]++
		if e.ScriptName != s.name || e.EventTimestamp == 0 || e.Event.Request.Method == "" {
			t.Fatalf("an event lacks something: %+v", e)
		}
		switch {
		case e.Outcome == "exception":
			if e.Exceptions[0].Name != "TypeError" || e.Exceptions[0].Message != "a bad request came" {
				t.Errorf("the exception is %+v", e.Exceptions)
			}
		case strings.Contains(e.Event.Request.URL, "/log"):
			if len(e.Logs) != 1 || e.Logs[0].Level != "log" || !bytes.Contains(e.logs(), []byte(`"saw"`)) || e.Event.Response.Status != http.StatusOK {
				t.Errorf("the logs are %+v, the status %d", e.Logs, e.Event.Response.Status)
			}
		}
	}
	if outcomes["ok"] == 0 || outcomes["exception"] == 0 || versions[s.v1] == 0 || versions[s.v2] == 0 {
		t.Errorf("outcomes %v, versions %v", outcomes, versions)
	}
}

// send sends a request whose answer does not matter.
func (s *release) send(t *testing.T, method, path string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.platform.Gateway+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = s.platform.Host(s.name)
	if header != nil {
		req.Header = header
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, res.Body) // so that the connection is used again
	_ = res.Body.Close()
}
