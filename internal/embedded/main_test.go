package embedded

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// TestMain lets the test program stand in for the programs that the package starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "engine-child":
			os.Exit(RunEngineChild(os.Args[2:]))
		case "broker-child":
			os.Exit(runBrokerChild(os.Args[2:]))
		case "sandbox-probe":
			os.Exit(runSandboxProbe(os.Args[2:]))
		case "engine-parent":
			os.Exit(runEngineParent(os.Args[2:]))
		}
	}
	os.Exit(m.Run())
}

// testLog shows a component's log if the test fails.
func testLog(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// eventually polls until done, and fails the test after a time that only a broken program needs.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func startEngine(t *testing.T, dir string) *Engine {
	t.Helper()
	e, err := StartEngine(t.Context(), EngineConfig{Addr: "127.0.0.1:0", DataDir: dir, Logger: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends one request. params are name and value in turn.
func ask(t *testing.T, e *Engine, method, body string, params ...string) answer {
	t.Helper()
	a, err := tryAsk(t.Context(), e, method, strings.NewReader(body), nil, params...)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func tryAsk(ctx context.Context, e *Engine, method string, body io.Reader, header http.Header, params ...string) (answer, error) {
	values := url.Values{}
	for i := 0; i < len(params); i += 2 {
		values.Add(params[i], params[i+1])
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+e.Addr()+"/?"+values.Encode(), body)
	if err != nil {
		return answer{}, err
	}
	for name, value := range header {
		req.Header[name] = value
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(data)}, err
}

// mustAsk sends a query in the body and returns what it answers, without the last line break.
func mustAsk(t *testing.T, e *Engine, query string, params ...string) string {
	t.Helper()
	a := ask(t, e, http.MethodPost, query, params...)
	if a.status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", query, a.status, a.body)
	}
	return strings.TrimSuffix(a.body, "\n")
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func openClient(t *testing.T, e *Engine, change func(*clickhouse.Options)) clickhouse.Conn {
	t.Helper()
	options := &clickhouse.Options{Addr: []string{e.Addr()}, Protocol: clickhouse.HTTP}
	if change != nil {
		change(options)
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	})
	return conn
}

func mustExec(t *testing.T, conn clickhouse.Conn, query string, args ...any) {
	t.Helper()
	if err := conn.Exec(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}
