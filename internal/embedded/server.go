package embedded

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

const (
	// Inserts have slots of their own, so that slow reads cannot keep them waiting. The engine works on as
	// many statements as there are slots; others wait, up to slotWait.
	readSlots   = 16
	insertSlots = 8
	slotWait    = 30 * time.Second
	// maxResultBytes bounds results that the engine holds in memory, see session.query.
	maxResultBytes = "134217728"
	// receiveTimeout is how long a client may pause in its request, as ClickHouse's http_receive_timeout.
	receiveTimeout = 30 * time.Second
	// alivePath is where the parent asks whether the engine still works.
	alivePath = "/alive"
)

// serverInfo is what the engine says of itself.
type serverInfo struct {
	displayName string
	version     string
	context     column.ServerContext
}

// server is ClickHouse's HTTP interface over an engine.
type server struct {
	engine  *engine
	info    serverInfo
	reads   chan struct{}
	inserts chan struct{}
	pings   chan struct{} // for /alive, which must be answered however many statements run
	writes  *writes
	log     *slog.Logger
}

func newServer(ctx context.Context, e *engine, dir string, log *slog.Logger) (*server, error) {
	s := &server{engine: e, reads: make(chan struct{}, readSlots), inserts: make(chan struct{}, insertSlots), pings: make(chan struct{}, 1), writes: newWrites(e, dir), log: log}
	session, err := e.open("", nil)
	if err != nil {
		return nil, err
	}
	defer session.close()
	var answer strings.Builder
	_, err = session.query(ctx, "SELECT displayName(), version(), timezone()", "TabSeparated", false, func(data []byte, _ stats) error {
		_, err := answer.Write(data)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask the engine for its version: %w", err)
	}
	fields := strings.Split(strings.TrimSuffix(answer.String(), "\n"), "\t")
	if len(fields) != 3 {
		return nil, fmt.Errorf("ask the engine for its version: it answers %q", answer.String())
	}
	zone, err := time.LoadLocation(fields[2])
	if err != nil {
		return nil, fmt.Errorf("the engine's time zone: %w", err)
	}
	v := proto.ParseVersion(fields[1])
	s.info = serverInfo{
		displayName: fields[0], version: fields[1],
		context: column.ServerContext{VersionMajor: v.Major, VersionMinor: v.Minor, VersionPatch: v.Patch, Timezone: zone},
	}
	return s, nil
}

// handler serves /, /ping and /alive. A page in a browser may not send anything but GET, which changes nothing,
// and that only from here: one of another site cannot read the answer, and one whose name was made to resolve
// to this machine, so as to be of the same site, still gives that name as the host.
func (s *server) handler() http.Handler {
	queries := http.NewCrossOriginProtection().Handler(http.HandlerFunc(s.serveHTTP))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isLoopbackHost(r.Host) {
			http.Error(w, fmt.Sprintf("the embedded engine answers to 127.0.0.1, [::1] and localhost only, not to %q", r.Host), http.StatusForbidden)
			return
		}
		queries.ServeHTTP(w, r)
	})
}

// isLoopbackHost reads a Host header, with or without a port.
func isLoopbackHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	ip := net.ParseIP(name)
	return strings.EqualFold(name, "localhost") || ip != nil && ip.IsLoopback()
}

func (s *server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	isGet := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case r.URL.Path == "/ping", r.URL.Path == "/" && isGet && !r.URL.Query().Has("query"):
		_, _ = io.WriteString(w, "Ok.\n") // a client that left needs no answer
	case r.URL.Path == alivePath:
		s.serveAlive(w, r)
	case r.URL.Path != "/":
		http.Error(w, "There is no handle "+r.URL.Path+"\n\nUse / or /ping for health checks, and / or /?query= for queries.", http.StatusNotFound)
	case !isGet && r.Method != http.MethodPost:
		http.Error(w, "send queries with GET or POST", http.StatusMethodNotAllowed)
	default:
		s.serveQuery(w, r)
	}
}

// serveAlive answers when the engine has answered a statement, if with an error. It waits for the one before
// it and for no other statement.
func (s *server) serveAlive(w http.ResponseWriter, r *http.Request) {
	select {
	case s.pings <- struct{}{}:
		defer func() { <-s.pings }()
	case <-r.Context().Done():
		return
	}
	session, err := s.engine.open("", nil)
	if err == nil {
		defer session.close()
		_, err = session.run("SELECT 1", "Null", discard)
	}
	if err != nil {
		s.log.Warn("engine fails the simplest statement", "error", err.Error())
	}
	_, _ = io.WriteString(w, "Ok.\n") // a supervisor that left needs no answer
}

func (s *server) serveQuery(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	defer func() { _ = control.SetWriteDeadline(time.Time{}) }() // for the connection's next request
	r.Body = &patientBody{ReadCloser: r.Body, control: control}
	q, err := readRequest(r)
	if err != nil {
		writeException(w, asException(err))
		return
	}
	answer := newResponse(w, q, s.info)
	numbers, err := s.run(r.Context(), q, answer)
	err = s.writes.judge(q.reads, err)
	if err == nil {
		err = answer.finish(numbers)
	}
	if err == nil {
		return
	}
	if r.Context().Err() != nil {
		s.log.Info("engine query left by its client", "error", err)
		panic(http.ErrAbortHandler)
	}
	ex := asException(err)
	s.log.Debug("engine query failed", "code", ex.Code, "error", ex.Text)
	if !strings.Contains(ex.Text, "(version ") {
		ex = &exception{ex.Code, ex.Text + " (version " + s.info.version + ")"}
	}
	answer.fail(ex)
}

// run waits for a slot, gives the request a session and runs it.
func (s *server) run(ctx context.Context, q *request, answer *response) (stats, error) {
	slots := s.reads
	if q.insert {
		slots = s.inserts
	}
	wait := time.NewTimer(slotWait)
	defer wait.Stop()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
	case <-ctx.Done():
		return stats{}, ctx.Err()
	case <-wait.C:
		return stats{}, newException(codeTooManyQueries, "TOO_MANY_SIMULTANEOUS_QUERIES", "Too many simultaneous queries: %d have been running for %s", cap(slots), slotWait)
	}

	if q.alters {
		if err := s.writes.room(); err != nil {
			return stats{}, err
		}
	}
	stream := streamable[q.format] && !q.whole
	settings := q.settings
	if !stream && !q.insert {
		settings = append([]setting{{"max_result_bytes", maxResultBytes}}, settings...)
	}
	if q.nativeRevision > 0 {
		settings = append([]setting{{"output_format_native_use_flattened_dynamic_and_json_serialization", "1"}}, settings...)
	}
	session, err := s.engine.open(q.database, settings)
	if err != nil {
		return stats{}, err
	}
	defer session.close()
	if q.insert {
		return session.insert(ctx, q.text, q.statement.format, q.rows)
	}
	return session.query(ctx, q.text, q.format, stream, answer.piece)
}

// patientBody gives a client receiveTimeout for every read. Past the body's end there is no limit: the server
// keeps reading to notice a client that leaves, and a deadline would look like that.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	if err := b.control.SetReadDeadline(time.Now().Add(receiveTimeout)); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.control.SetReadDeadline(time.Time{}) // fails only on a closed connection
	}
	return n, err
}
