package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"tidegate/test/platform"
)

// takeOverOrigin answers at once, late, to an upload, or as an echo over a WebSocket, and counts
// the requests that it got.
type takeOverOrigin struct{ requests atomic.Int64 }

func (o *takeOverOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	switch r.URL.Path {
	case "/slow":
		_, _ = io.WriteString(w, "the beginning, ")
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(time.Second): // longer than a take-over
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "the end")
	case "/upload":
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		_, _ = fmt.Fprint(w, n)
	case "/echo":
		c, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseNow() }()
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	default:
		okHandler(w, r)
	}
}

// traffic is what several kinds of clients do until stop, and what came of it.
type traffic struct {
	base, host string
	done       sync.WaitGroup
	stop       context.CancelFunc
	ctx        context.Context

	mu       sync.Mutex
	answered map[string]int64
	failed   []error
}

// keep repeats a kind of request. It ends each before it stops.
func (l *traffic) keep(kind string, clients int, once func() error) {
	for range clients {
		l.done.Go(func() {
			for l.ctx.Err() == nil {
				err := once()
				l.mu.Lock()
				if err != nil {
					l.failed = append(l.failed, fmt.Errorf("%s at %s: %w", kind, time.Now().Format("15:04:05.000"), err))
				} else {
					l.answered[kind]++
				}
				l.mu.Unlock()
			}
		})
	}
}

func (l *traffic) count() (total int64, least int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	least = 1 << 62
	for _, n := range l.answered {
		total += n
		least = min(least, n)
	}
	return total, least
}

func (l *traffic) ask(client *http.Client, method, path string, body io.Reader, want string) error {
	return askHost(client, l.base, l.host, method, path, body, want)
}

func askHost(client *http.Client, base, host, method, path string, body io.Reader, want string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, base+path, body)
	if err != nil {
		return err
	}
	req.Host = host
	if upload, ok := body.(*slowly); ok {
		// Over HTTP/2 a GOAWAY says which streams nobody has looked at. A client sends them
		// elsewhere, if it can have the body again.
		again := *upload
		req.GetBody = func() (io.ReadCloser, error) { body := again; return io.NopCloser(&body), nil }
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || string(b) != want) {
		err = fmt.Errorf("status %d: %q", res.StatusCode, b)
	}
	return err
}

// slowly is an upload that takes a while.
type slowly struct{ pieces int }

const pieceBytes = 10_000

func (s *slowly) Read(p []byte) (int, error) {
	if s.pieces == 0 {
		return 0, io.EOF
	}
	s.pieces--
	<-time.After(20 * time.Millisecond) // the speed of the sender
	return copy(p, bytes.Repeat([]byte("x"), pieceBytes)), nil
}

func (l *traffic) echo(client *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, _, err := websocket.Dial(ctx, l.base+"/echo", &websocket.DialOptions{HTTPClient: client, Host: l.host}) //nolint:bodyclose // it has none
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	for i := range 30 {
		sent := fmt.Sprint("message ", i)
		if err := c.Write(ctx, websocket.MessageText, []byte(sent)); err != nil {
			return err
		}
		_, got, err := c.Read(ctx)
		if err != nil {
			return err
		}
		if string(got) != sent {
			return fmt.Errorf("the echo of %q is %q", sent, got)
		}
		<-time.After(50 * time.Millisecond) // the pace of the speaker
	}
	return c.Close(websocket.StatusNormalClosure, "")
}

func startTraffic(t *testing.T, base, host, workerHost string) *traffic {
	l := &traffic{base: base, host: host, answered: map[string]int64{}}
	l.ctx, l.stop = context.WithCancel(context.Background())
	kept := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}}
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	h2 := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	h2.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	get := func(client *http.Client) func() error {
		return func() error { return l.ask(client, http.MethodGet, "/", nil, "ok") }
	}
	l.keep("on a connection that is kept", 4, get(kept))
	l.keep("on a connection of its own", 2, get(fresh))
	l.keep("over HTTP/2", 2, get(h2))
	for name, client := range map[string]*http.Client{"over HTTP/1.1": kept, "over HTTP/2": h2} {
		l.keep("slow response "+name, 2, func() error { return l.ask(client, http.MethodGet, "/slow", nil, "the beginning, the end") })
		l.keep("upload "+name, 1, func() error {
			const pieces = 30
			return l.ask(client, http.MethodPost, "/upload", &slowly{pieces}, fmt.Sprint(pieces*pieceBytes))
		})
	}
	l.keep("from a Worker", 1, func() error { return askHost(kept, base, workerHost, http.MethodGet, "/load", nil, "hello") })
	l.keep("WebSocket", 2, func() error { return l.echo(kept) })
	t.Cleanup(func() {
		l.stop()
		l.done.Wait()
		for _, c := range []*http.Client{kept, fresh, h2} {
			c.CloseIdleConnections()
		}
	})
	return l
}

// racing says that the tests run under the race detector.
var racing bool

// routerBinary is the router under test: with the race detector, if the test has it.
// The other binaries go without, because the embedded engine cannot live with it.
func routerBinary(t *testing.T) string {
	t.Helper()
	if !racing {
		return filepath.Join(bin, "router")
	}
	file := filepath.Join(t.TempDir(), "router")
	build := exec.CommandContext(t.Context(), "go", "build", "-race", "-o", file, "./cmd/router")
	build.Dir = filepath.Join("..", "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the router with the race detector: %v\n%s", err, out)
	}
	return file
}

// TestTakeOver replaces a router three times under load. No request may fail, and each
// must leave exactly one event.
func TestTakeOver(t *testing.T) {
	p := start(t, platform.Options{})
	origin := &takeOverOrigin{}
	serve(t, p, "shop", origin.ServeHTTP)
	if _, err := p.DeployWorker(t.Context(), "hello", platform.JavaScript("v1", `export default { fetch() { return new Response("hello") } }`)); err != nil {
		t.Fatal(err)
	}
	gateway, ops, dir := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), t.TempDir()
	binary := routerBinary(t)
	flags := []string{
		"--api-url", p.Ready.API, "--api-token-file", p.TokenFile, "--kafka", p.Kafka,
		"--gateway-addr", gateway, "--ops-addr", ops, "--data-dir", dir, "--drain-timeout", "20s",
	}
	run := func(more ...string) *platform.Process {
		router, err := platform.StartProcess(logOf(t, "router"), nil, binary, append(flags, more...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(router.Kill)
		return router
	}
	far := *p
	far.Gateway = "http://" + gateway
	router := run("--take-over") // from nobody, so that one command line does for all starts
	eventually(t, 30*time.Second, "the router serves", func() (bool, error) {
		status, _, err := far.Visit(t.Context(), http.DefaultClient, "shop", nil)
		return status == http.StatusOK, err
	})
	before := origin.requests.Load()
	load := startTraffic(t, far.Gateway, p.Host("shop"), p.Host("hello"))
	goOn := func() {
		t.Helper()
		_, start := load.count()
		eventually(t, time.Minute, "all kinds of requests go on", func() (bool, error) {
			_, least := load.count()
			return least >= start+2 && least < 1<<62, nil
		})
	}
	eventually(t, time.Minute, "every kind has begun", func() (bool, error) {
		load.mu.Lock()
		defer load.mu.Unlock()
		return len(load.answered) == 9, nil
	})

	refused := func(want string, more ...string) {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), binary, append(flags, more...)...).CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() == 0 || !strings.Contains(string(out), want) {
			t.Errorf("a router with %v ended with %v and said\n%s", more, err, out)
		}
	}
	refused("--take-over to replace it")
	// One that fails after it was given the sockets changes nothing.
	refused("missing.crt", "--take-over", "--gateway-tls-addr", "127.0.0.1:0", "--gateway-tls-cert", filepath.Join(dir, "missing.crt"), "--gateway-tls-key", filepath.Join(dir, "missing.key"))

	for range 3 {
		goOn()
		next := run("--take-over")
		select {
		case <-router.Done():
		case <-time.After(time.Minute):
			t.Fatal("the router did not end after it was replaced")
		}
		if err := router.Terminate(time.Second); err != nil {
			t.Errorf("the router that was replaced ended with %v", err)
		}
		router = next
	}
	goOn()
	load.stop()
	load.done.Wait()
	for i, err := range load.failed {
		if i == 10 {
			t.Errorf("and %d more", len(load.failed)-i)
			break
		}
		t.Error(err)
	}
	answered, _ := load.count()
	t.Logf("answered: %v", load.answered)
	if got := origin.requests.Load() - before + load.answered["from a Worker"]; got != answered {
		t.Errorf("origin and Worker got %d requests for %d that were answered", got, answered)
	}
	if err := router.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop the last router: %v", err)
	}
	checkEachLeftAnEvent(t, p, map[string]int64{"script_name = 'shop'": origin.requests.Load(), "script_name = 'hello' AND url LIKE '%/load'": load.answered["from a Worker"]})
}

// checkEachLeftAnEvent waits until ClickHouse has all that is in Kafka, and checks that
// there are as many events by condition as there were requests, each of another one.
func checkEachLeftAnEvent(t *testing.T, p *platform.Platform, requests map[string]int64) {
	t.Helper()
	eventually(t, 2*time.Minute, "every event is counted", func() (bool, error) {
		var rows int64
		for condition, want := range requests {
			n, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE "+condition)
			if err != nil || n < want {
				return false, err
			}
			rows += n
		}
		counts, err := p.Counts(t.Context())
		return counts.Agree() && counts.Rows >= rows, err
	})
	for condition, want := range requests {
		for _, what := range []string{"count()", "uniqExact(ray_id)"} {
			got, err := p.Count(t.Context(), "SELECT "+what+" FROM trace_events WHERE "+condition)
			if err != nil || got != want {
				t.Errorf("%s of events with %s is %d, want %d; %v", what, condition, got, want, err)
			}
		}
	}
}
