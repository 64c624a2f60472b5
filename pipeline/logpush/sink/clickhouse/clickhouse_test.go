package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/embedded"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// engine is started by the first test that needs it and serves all of them.
var engine struct {
	once  sync.Once
	addr  string
	err   error
	close func() error
}

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "engine-child" {
		os.Exit(embedded.RunEngineChild(os.Args[2:]))
	}
	code := m.Run()
	if engine.close != nil {
		if err := engine.close(); err != nil {
			fmt.Fprintln(os.Stderr, "stop the engine:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// server returns the host and port of a real engine.
func server(t *testing.T) string {
	t.Helper()
	engine.once.Do(func() {
		dir, err := os.MkdirTemp("", "tidegate-sink-clickhouse-")
		if err != nil {
			engine.err = err
			return
		}
		e, err := embedded.StartEngine(context.Background(), embedded.EngineConfig{Addr: "127.0.0.1:0", DataDir: dir, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			engine.err = err
			return
		}
		engine.addr = e.Addr()
		engine.close = func() error { return errors.Join(e.Close(), os.RemoveAll(dir)) }
	})
	if engine.err != nil {
		t.Fatal(engine.err)
	}
	return engine.addr
}

// ask runs a statement and returns what it printed.
func ask(t *testing.T, statement string) string {
	t.Helper()
	response, err := http.Post("http://"+server(t)+"/", "text/plain", strings.NewReader(statement))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v %s", statement, err, text)
	}
	return strings.TrimSpace(string(text))
}

var tables atomic.Int64

// table makes an empty table that remembers tokens.
func table(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("events_%d_%d", time.Now().UnixNano(), tables.Add(1))
	ask(t, "CREATE TABLE default."+name+" (Outcome String, WallTimeMs UInt32) ENGINE = MergeTree ORDER BY tuple() SETTINGS non_replicated_deduplication_window = 100")
	t.Cleanup(func() { ask(t, "DROP TABLE default."+name) })
	return name
}

var loopback = Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true}}

func open(t *testing.T, conf string) logpush.Sink {
	t.Helper()
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, loopback) }, conf)
}

const rows = `{"Outcome":"ok","WallTimeMs":1}` + "\n" + `{"Outcome":"exception","WallTimeMs":2}` + "\n"

func TestABatchIsOneInsert(t *testing.T) {
	name := table(t)
	s := open(t, "clickhouse://"+server(t)+"/default/"+name+"?transport=http")
	o := sinktest.Object("a", rows)
	for range 2 { // the second is a repeat
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	o = sinktest.Object("b", "\"ok\",3\n")
	o.ContentType = "text/csv; charset=utf-8"
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "SELECT count(), sum(WallTimeMs), countIf(Outcome = 'ok') FROM default."+name+" FORMAT CSV"); got != "3,6,2" {
		t.Errorf("the table has %s, want 3,6,2", got)
	}
}

func TestRowsThatAreToBlameAreToldApart(t *testing.T) {
	name := table(t)
	s := open(t, "clickhouse://"+server(t)+"/default/"+name+"?transport=http")
	err := s.Put(t.Context(), sinktest.Object("a", rows+`{"Outcome":"ok","WallTimeMs":"soon"}`+"\n"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != http.StatusUnprocessableEntity || !e.Permanent || !strings.Contains(e.Text, "DB::Exception") {
		t.Errorf("a bad row gave %+v", err)
	}
	// What a row says, which the answer repeats, was taken for a missing column: the job stood still.
	err = s.Put(t.Context(), sinktest.Object("c", `{"WallTimeMs":"soon","Outcome":"DB::Exception: Unknown field"}`+"\n"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != http.StatusUnprocessableEntity || !e.Permanent || !strings.Contains(e.Text, "Unknown field") {
		t.Errorf("a bad row that speaks of fields gave %+v", err)
	}
	// Half of a character, as JavaScript can log it, held it up as well.
	err = s.Put(t.Context(), sinktest.Object("d", `{"WallTimeMs":1,"Outcome":"\ud83d"}`+"\n"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status != http.StatusUnprocessableEntity || !e.Permanent {
		t.Errorf("half of a character gave %+v", err)
	}
	if got := ask(t, "SELECT count() FROM default."+name); got != "0" {
		t.Errorf("the table has %s rows of a refused batch", got)
	}
	// A missing column can be added, a missing table made: the batch waits for that.
	err = s.Put(t.Context(), sinktest.Object("b", `{"Nobody":1}`+"\n"))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Status == http.StatusUnprocessableEntity {
		t.Errorf("a missing column gave %+v", err)
	}
	if e, ok := errors.AsType[*logpush.UploadError](open(t, "clickhouse://"+server(t)+"/default/nowhere?transport=http").Put(t.Context(), sinktest.Object("a", rows))); !ok ||
		e.Status == http.StatusUnprocessableEntity || e.Status == http.StatusBadRequest {
		t.Errorf("a missing table gave %+v", e)
	}
	if err := open(t, "clickhouse://"+server(t)+"/default/"+name+"?transport=http&setting_input_format_skip_unknown_fields=1").Put(t.Context(), sinktest.Object("b", `{"Nobody":1}`+"\n")); err != nil {
		t.Errorf("a missing column that may be left out: %v", err)
	}
}

func TestTheTestLeavesNothing(t *testing.T) {
	name := table(t)
	sinks := logpush.Sinks{"clickhouse": func(u *url.URL) (logpush.Sink, error) { return New(u, loopback) }}
	base := "clickhouse://" + server(t) + "/default/"
	if err := sinks.TestUpload(t.Context(), base+name+"?transport=http"); err != nil {
		t.Error(err)
	}
	if got := ask(t, "SELECT count() FROM default."+name); got != "0" {
		t.Errorf("the test left %s rows", got)
	}
	if err := sinks.TestUpload(t.Context(), base+"nowhere?transport=http"); err == nil || !strings.Contains(err.Error(), "nowhere") {
		t.Errorf("a missing table: %v", err)
	}
}

// What the engine cannot be made to do: an answer that fails after it began, and servers in trouble.
func TestAnswers(t *testing.T) {
	f := func(what string, status int, code, body string, wantStatus int, wantPermanent bool) {
		t.Helper()
		h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-ClickHouse-User") != "u" || r.Header.Get("X-ClickHouse-Key") != "p&p" || strings.Contains(r.URL.String(), "p%26p") {
				t.Errorf("%s: the request has the headers %v", what, r.Header)
			}
			if code != "" {
				w.Header().Set("X-ClickHouse-Exception-Code", code)
			}
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		defer h.Close()
		err := open(t, "clickhouse://"+h.Listener.Addr().String()+"/d/t?transport=http&user=u&password=p%26p&setting_max_insert_threads=2").Put(t.Context(), sinktest.Object("a", rows))
		e, ok := errors.AsType[*logpush.UploadError](err)
		if !ok || e.Status != wantStatus || e.Permanent != wantPermanent || e.RetryAfter != 7*time.Second {
			t.Errorf("%s: put returned %+v, want status %d, permanent %t", what, err, wantStatus, wantPermanent)
		}
	}
	f("a failure in the body of a success", 200, "", "Code: 241. DB::Exception: Memory limit", 500, false)
	f("a failure told by a header", 200, "117", "x", 422, true)
	f("a wrong password", 403, "516", "Code: 516. DB::Exception: Authentication failed", 403, true)
	f("too many parts", 500, "252", "Code: 252. DB::Exception: Too many parts", 500, false)
	f("a row that cannot be read", 400, "27", "Code: 27. DB::Exception: Cannot parse input", 422, true)
	f("a number out of range", 500, "407", "Code: 407. DB::Exception: Decimal overflow", 422, true)
	f("a syntax error", 400, "62", "Code: 62. DB::Exception: Syntax error", 500, false)
}

func TestTroubleThatMayPass(t *testing.T) {
	err := open(t, "clickhouse://127.0.0.1:1/d/t?transport=http").Put(t.Context(), sinktest.Object("a", rows))
	if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent {
		t.Errorf("nobody there: %+v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, "clickhouse://127.0.0.1:1/d/t?transport=http").Put(ctx, sinktest.Object("a", rows)); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

// An insert that takes longer than other destinations may was given up, while it went on at
// the server, and came again for ever.
func TestASlowInsertIsWaitedFor(t *testing.T) {
	for limit := time.Second; ; limit *= 4 { // for a machine that stands still for longer than an insert may take
		h := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-time.After(2 * limit)
		}))
		t.Cleanup(h.Close)
		slow := Options{Egress: egress.Policy{AllowHTTP: true, AllowLoopback: true, NoProgress: limit}}
		s := sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, slow) }, "clickhouse://"+h.Listener.Addr().String()+"/d/t?transport=http")
		err := s.Put(t.Context(), sinktest.Object("a", rows))
		if err == nil {
			return
		}
		if t.Log(err); limit > time.Second {
			t.Fatal("the insert was given up")
		}
	}
}

func TestBadSettings(t *testing.T) {
	f := func(conf, want string) {
		t.Helper()
		sinktest.Refused(t, func(u *url.URL) (logpush.Sink, error) { return New(u, Options{}) }, conf, want)
	}
	f("clickhouse://h/d", "<database>/<table>")
	f("clickhouse://h/d/t/x", "<database>/<table>")
	f("clickhouse://h/d/{DATE}", "<database>/<table>")
	f("clickhouse://u:p@h/d/t", "user and password as parameters")
	f("clickhouse://h/d/t?transport=http", "not allowed")
	f("clickhouse://h/d/t?format=CSV", `"format" is not known`)
	f("clickhouse://h/d/t?user=a&user=b", "given twice")
	f("clickhouse://h/d/t?setting_Async=1", "does not name a setting")
	f("clickhouse://h/d/t?setting_async_insert=1", "delivery sets it itself")
}

func TestNamesAreQuoted(t *testing.T) {
	if got := quoteName("a`b\\c"); got != "`a\\`b\\\\c`" {
		t.Errorf("got %s", got)
	}
}
