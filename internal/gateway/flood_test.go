package gateway_test

import (
	"bytes"
	"net/http"
	goruntime "runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"tidegate/schema"
)

// floodMax is more than what any flood may send before it is stopped: what the sockets
// between the two hold, and then some.
const floodMax = 64 << 20

// heapOf returns by how much the heap has grown when f has returned, garbage aside.
func heapOf(f func()) (grown int64) {
	var before, after goruntime.MemStats
	goruntime.GC()
	goruntime.ReadMemStats(&before)
	f()
	goruntime.GC()
	goruntime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

// Frames that cost a client nothing and a server something, sent without an end and
// without reading what comes back: the connection ends where they would fill the memory.
func TestFloodsOfHTTP2(t *testing.T) {
	overBoth(t, says("served"), func(t *testing.T, e *env, dial func() *frames) {
		f := func(name string, ends bool, begin, again func(f *http2.Framer) error) {
			t.Helper()
			var once bytes.Buffer
			many := http2.NewFramer(&once, nil)
			for once.Len() < 16<<10 {
				if err := again(many); err != nil {
					t.Fatal(err)
				}
			}
			c := dial()
			sent, most := 0, floodMax
			if !ends {
				most = 8 << 20
			}
			grown := heapOf(func() {
				err := begin(c.Framer)
				for ; err == nil && sent < most; sent += once.Len() {
					_, err = c.conn.Write(once.Bytes())
				}
			})
			t.Logf("%s: stopped after %d kB, the heap grew by %d kB", name, sent>>10, grown>>10)
			if ends && sent >= most {
				t.Errorf("%s: %d bytes were taken", name, sent)
			}
			if grown > 16<<20 {
				t.Errorf("%s: the heap grew by %d bytes", name, grown)
			}
		}
		nothing := func(*http2.Framer) error { return nil }
		header := bytes.Repeat([]byte{0x82}, 8<<10) // :method: GET, again and again
		f("CONTINUATION", true, func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header})
		}, func(f *http2.Framer) error { return f.WriteContinuation(1, false, header) })
		f("SETTINGS", false, nothing, func(f *http2.Framer) error { return f.WriteSettings() })
		f("PING", true, nothing, func(f *http2.Framer) error { return f.WritePing(false, [8]byte{}) })
		if n := len(e.events.all()); n != 0 {
			t.Errorf("%d events of no request", n)
		}
		c := dial()
		if got := c.result(c.send(true, get("/")...)); got != "200 served" {
			t.Errorf("the next client got %q", got)
		}
		e.events.nth(1)
	})
}

// Requests that are taken back as soon as they are sent (CVE-2023-44487) do not run
// without a bound, and each that has reached a script is told of once.
func TestRapidReset(t *testing.T) {
	var running, most atomic.Int64
	h := func(_ http.ResponseWriter, r *http.Request) {
		n := running.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-r.Context().Done()
		running.Add(-1)
	}
	overBoth(t, h, func(t *testing.T, e *env, dial func() *frames) {
		c := dial()
		streams := int64(c.settings[http2.SettingMaxConcurrentStreams])
		go func() {
			for { // or the server would wait for its words to be taken
				if _, err := c.ReadFrame(); err != nil {
					return
				}
			}
		}()
		sent := 0
		grown := heapOf(func() {
			for ; sent < 20_000; sent++ {
				id := c.send(true, get("/")...)
				if err := c.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
					break
				}
			}
		})
		_ = c.conn.Close()
		waitFor(t, "the requests to end", func() bool { return running.Load() == 0 })
		t.Logf("%d requests, at most %d at the origin at once, %d events, the heap grew by %d kB", sent, most.Load(), len(e.events.all()), grown>>10)
		if most.Load() > 5*streams {
			t.Errorf("%d requests were at the origin at once, of %d streams", most.Load(), streams)
		}
		seen := map[string]bool{}
		for _, ev := range e.events.all() {
			if seen[ev.Gateway.RayID] || ev.Outcome != schema.OutcomeCanceled {
				t.Fatalf("the request %s has two events, or one with the outcome %s", ev.Gateway.RayID, ev.Outcome)
			}
			seen[ev.Gateway.RayID] = true
		}
	})
}
