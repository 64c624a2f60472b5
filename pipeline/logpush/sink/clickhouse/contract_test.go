package clickhouse

import (
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// front is the engine behind a connection that can hang.
type front struct {
	net.Listener
	stalled atomic.Pointer[chan struct{}] // closed once an insert hangs
	hung    sync.Once
	conns   sync.WaitGroup
}

func newFront(t *testing.T) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, engine := &front{Listener: l}, server(t)
	f.conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.conns.Go(func() { f.carry(t, conn, engine) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.conns.Wait()
	})
	return f
}

// carry hands on both ways until the client, or the engine, ends the connection.
func (f *front) carry(t *testing.T, conn net.Conn, engine string) {
	defer conn.Close()
	behind, err := net.Dial("tcp", engine)
	if err != nil {
		t.Error(err)
		return
	}
	var answers sync.WaitGroup
	answers.Go(func() {
		_, _ = io.Copy(conn, behind)
		_ = conn.(*net.TCPConn).CloseWrite() // with the rest of a request unread, Close would take the answer away
	})
	if hangs := f.stalled.Load(); hangs != nil {
		_, _ = io.CopyN(behind, conn, 1<<20)
		f.hung.Do(func() { close(*hangs) })
		_, _ = io.Copy(io.Discard, conn)
	} else {
		_, _ = io.Copy(behind, conn)
		_, _ = io.Copy(io.Discard, conn)
	}
	_ = behind.(*net.TCPConn).CloseWrite()
	answers.Wait()
	_ = behind.Close()
}

// On the real engine: a repeat is in the table once, half of an insert not at all.
func TestContract(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Subject {
		f := newFront(t)
		name := fmt.Sprintf("contract_%d_%d", time.Now().UnixNano(), tables.Add(1))
		ask(t, "CREATE TABLE default."+name+" (ScriptName String, WallTimeMs UInt32, Outcome String) ENGINE = MergeTree ORDER BY tuple()"+
			" SETTINGS non_replicated_deduplication_window = 100")
		t.Cleanup(func() { ask(t, "DROP TABLE default."+name) })
		made := open(t, "clickhouse://"+f.Addr().String()+"/default/"+name+"?transport=http")
		t.Cleanup(made.(*sink).client.CloseIdleConnections)
		return sinktest.Subject{
			Sink: made,
			Rows: true,
			Stored: func(o logpush.Object) ([]byte, bool) {
				lines := ask(t, "SELECT * FROM default."+name+" WHERE ScriptName = '"+o.Name+"' ORDER BY WallTimeMs FORMAT JSONEachRow")
				return []byte(lines), lines != ""
			},
			Count: func() int {
				if f.stalled.Load() != nil { // what the engine makes of its half
					_ = f.Close()
					f.conns.Wait()
				}
				n, err := strconv.Atoi(ask(t, "SELECT uniqExact(ScriptName) FROM default."+name))
				if err != nil {
					t.Fatal(err)
				}
				return n
			},
			Break: func() { _ = f.Close() }, // the engine is away
			Stall: func() <-chan struct{} {
				hangs := make(chan struct{})
				f.stalled.Store(&hangs)
				return hangs
			},
			Revoke: func() func() { // its user has no right to make or take others
				made.(*sink).header.Set("X-ClickHouse-User", "gone")
				return func() { made.(*sink).header.Del("X-ClickHouse-User") }
			},
		}
	})
}
