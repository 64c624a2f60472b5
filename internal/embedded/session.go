package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// engine is the ClickHouse engine in this process on one data directory.
//
// The engine serialises the statements of a connection and runs those of different connections at the same
// time. A connection costs 70 µs, and its settings, its current database and what a failed statement left
// behind are its own. So every request gets a connection to itself and nothing can leak between requests.
type engine struct {
	lib  *chdb
	args []string    // of every connection
	base *connection // keeps the engine open between requests
	tags atomic.Uint64
}

// openEngine starts the engine on dir with the configuration file config.
func openEngine(lib *chdb, dir, config string) (*engine, error) {
	e := &engine{lib: lib, args: []string{"--path=" + dir, "--config-file=" + config}}
	if e.base = lib.open(e.args...); e.base == nil {
		return nil, fmt.Errorf("the ClickHouse engine could not open %s; what it said is in the log above and in engine.log there", dir)
	}
	return e, nil
}

// close ends the engine. No session may be open.
func (e *engine) close() { e.lib.closeConn(e.base) }

// setting is a value of ClickHouse's SET, or of a query's parameter with the name param_x.
type setting struct{ name, value string }

// stats are the numbers of one request, in ClickHouse's words.
type stats struct {
	readRows, readBytes       uint64
	writtenRows, writtenBytes uint64
	resultRows                uint64
}

// session is a connection for one request, used by one goroutine.
type session struct {
	e    *engine
	conn *connection
	tag  string // its log_comment, by which a statement that runs can be found and cancelled
}

// open begins a session in a database ("" for the default one) with settings that end with it.
func (e *engine) open(database string, settings []setting) (*session, error) {
	tag := fmt.Sprintf("request-%d", e.tags.Add(1))
	// An argument may set what a statement may not (see usersConfig).
	conn := e.lib.open(append(slices.Clip(e.args), "--log_comment="+tag)...)
	if conn == nil {
		return nil, errors.New("the ClickHouse engine refused a connection")
	}
	s := &session{e: e, conn: conn, tag: tag}
	if err := s.setUp(database, settings); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) setUp(database string, settings []setting) error {
	if database != "" {
		if _, err := s.run("USE "+quote('`', database), "Null", discard); err != nil {
			return err
		}
	}
	if len(settings) == 0 {
		return nil
	}
	set := make([]string, len(settings))
	for i, setting := range settings {
		set[i] = quote('`', setting.name) + " = " + quote('\'', setting.value)
	}
	_, err := s.run("SET "+strings.Join(set, ", "), "Null", discard)
	return err
}

func (s *session) close() { s.e.lib.closeConn(s.conn) }

// query runs a statement and hands its result to sink in pieces, which sink must not keep. With stream the
// pieces come while the statement runs, each formatted by itself: right for formats without a frame around
// the rows. Otherwise, and for statements that the engine does not stream, there is one piece, which the
// engine has held in memory. The statement is cancelled when ctx ends.
func (s *session) query(ctx context.Context, sql, format string, stream bool, sink func([]byte, stats) error) (stats, error) {
	defer s.cancelWhenDone(ctx)()
	if stream {
		total, err := s.stream(ctx, sql, format, sink)
		if !errors.Is(err, errNotStreamable) {
			return total, err
		}
	}
	if n := s.statements(sql); n > 1 {
		return stats{}, newException(codeSyntaxError, "SYNTAX_ERROR", "Syntax error (Multi-statements are not allowed): the text holds %d statements, send them one by one", n)
	}
	return s.run(sql, format, sink)
}

func (s *session) run(sql, format string, sink func([]byte, stats) error) (stats, error) {
	sqlData, sqlLen := text(sql)
	formatData, formatLen := text(format)
	r := s.e.lib.query(*s.conn, sqlData, sqlLen, formatData, formatLen)
	runtime.KeepAlive(sql)
	defer s.e.lib.destroyResult(r)
	if message := s.e.lib.resultError(r); message != "" {
		return stats{}, engineException(message)
	}
	total := s.e.stats(r)
	if s.e.lib.resultLength(r) == 0 {
		return total, nil
	}
	return total, sink(s.e.lib.bytes(r), total)
}

// errNotStreamable is what stream returns, having run nothing, for statements that are not a SELECT.
var errNotStreamable = errors.New("the engine does not stream this statement")

func (s *session) stream(ctx context.Context, sql, format string, sink func([]byte, stats) error) (stats, error) {
	lib, conn := s.e.lib, *s.conn
	sqlData, sqlLen := text(sql)
	formatData, formatLen := text(format)
	rows := lib.streamQuery(conn, sqlData, sqlLen, formatData, formatLen)
	runtime.KeepAlive(sql)
	defer lib.destroyResult(rows)
	if message := lib.resultError(rows); message != "" {
		if strings.Contains(message, "Streaming query is not supported for query") {
			return stats{}, errNotStreamable
		}
		return stats{}, engineException(message)
	}
	var total stats
	for {
		more, err := s.fetch(rows, &total, sink)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			lib.streamCancel(conn, rows)
		}
		if err != nil || !more {
			return total, err
		}
	}
}

// fetch hands the next piece of a result on and reports whether there was one.
func (s *session) fetch(rows result, total *stats, sink func([]byte, stats) error) (bool, error) {
	lib := s.e.lib
	r := lib.streamFetch(*s.conn, rows)
	defer lib.destroyResult(r)
	if message := lib.resultError(r); message != "" {
		return false, engineException(message)
	}
	total.add(s.e.stats(r))
	if lib.resultLength(r) == 0 {
		return false, nil
	}
	return true, sink(lib.bytes(r), *total)
}

// insert runs an INSERT, given without its FORMAT, with rows in that format. It returns when they are in the
// table and its views. If rows ends in an error, or ctx ends first, nothing is inserted, apart from full
// blocks of rows (max_insert_block_size) before the end of a long insert, as with any ClickHouse.
func (s *session) insert(ctx context.Context, sql, format string, rows io.Reader) (stats, error) {
	defer s.cancelWhenDone(ctx)()
	lib := s.e.lib
	sqlData, sqlLen := text(sql)
	formatData, formatLen := text(format)
	stream := lib.streamInsert(*s.conn, sqlData, sqlLen, formatData, formatLen)
	runtime.KeepAlive(sql)
	defer lib.destroyInserts(stream)
	if message := lib.insertError(stream); message != "" {
		return stats{}, engineException(message)
	}
	buf := make([]byte, 256<<10)
	for {
		n, err := rows.Read(buf)
		if n > 0 && lib.streamAppend(stream, &buf[0], uintptr(n)) != 0 {
			break // done tells why
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			lib.insertCancel(stream)
			return stats{}, fmt.Errorf("read the rows to insert: %w", err)
		}
	}
	r := lib.streamDone(stream)
	defer lib.destroyResult(r)
	if message := lib.resultError(r); message != "" {
		return stats{}, engineException(message)
	}
	return s.e.stats(r), nil
}

// statements counts the statements in a text that the engine would run one after the other. A text that does
// not parse has none.
func (s *session) statements(sql string) int {
	a := analysis{structSize: 16}
	sqlData, sqlLen := text(sql)
	database, _ := text("")
	if s.e.lib.classify(*s.conn, sqlData, sqlLen, database, 0, &a) != 0 {
		return 0
	}
	runtime.KeepAlive(sql)
	return int(a.statements)
}

// cancelWhenDone kills the session's statement when ctx ends. The library's own cancel waits for the
// statement's next piece of result, which may be the end of it. The function it returns ends the watch.
func (s *session) cancelWhenDone(ctx context.Context) (stop func()) {
	finished, idle := make(chan struct{}), make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(idle)
		for {
			// Again until it has ended: the statement may not have begun when the first kill looked for it.
			s.e.kill(s.tag)
			select {
			case <-finished:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	})
	return func() {
		close(finished)
		if !cancel() {
			<-idle
		}
	}
}

// kill asks the statement of the session with tag to stop. There is nobody to tell if it fails: it is asked
// again until the statement has ended.
//
// A statement cannot take another tag, but it can drop its own, with SETTINGS log_comment = DEFAULT, which the
// engine does not count as a change. Every session has a tag, so one that runs without has dropped it to hide,
// and goes with the first that is killed.
func (e *engine) kill(tag string) {
	if s, err := e.open("", nil); err == nil {
		defer s.close()
		_, _ = s.run("KILL QUERY WHERE Settings['log_comment'] IN ("+quote('\'', tag)+", '') ASYNC", "Null", discard)
	}
}

func (e *engine) stats(r result) stats {
	return stats{
		readRows: e.lib.storageRows(r), readBytes: e.lib.storageBytes(r),
		writtenRows: e.lib.rowsWritten(r), writtenBytes: e.lib.bytesWritten(r),
		resultRows: e.lib.resultRows(r),
	}
}

func (s *stats) add(o stats) {
	s.readRows += o.readRows
	s.readBytes += o.readBytes
	s.writtenRows += o.writtenRows
	s.writtenBytes += o.writtenBytes
	s.resultRows += o.resultRows
}

func discard([]byte, stats) error { return nil }

// quote writes s as a literal of ClickHouse's SQL: a string in ', an identifier in `.
func quote(mark byte, s string) string {
	q := []byte{mark}
	for i := range len(s) {
		if s[i] == mark || s[i] == '\\' {
			q = append(q, '\\')
		}
		q = append(q, s[i])
	}
	return string(append(q, mark))
}
