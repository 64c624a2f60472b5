package gateway_test

import (
	"bufio"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/lines"
	"tidegate/internal/runtime"
)

// canned is a backend of every version that allocates nothing.
type canned struct {
	response, listed http.Response
	lists            bool
	asked            atomic.Int64 // with lists
}

func (c *canned) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for _, sc := range s.Scripts {
		for _, v := range sc.Versions {
			all[v.ID] = c
		}
	}
	return all
}

func (*canned) Release(func(string) bool) {}

// RoundTrip answers with a list where it was asked with one.
func (c *canned) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Header != nil {
		return &c.response, nil
	}
	c.asked.Add(1)
	answer := &lines.Of(r.Context()).Response
	answer.Reset()
	answer.Add("Content-Type", "application/json")
	answer.Add("Content-Length", "0")
	answer.Add("Server", "bench")
	return &c.listed, nil
}

func (c *canned) LetsGo() bool     { return true }
func (c *canned) TakesLists() bool { return c.lists }

type discard struct{}

func (discard) Emit(string, []byte, bool) {}

// apiRequest is what a browser would send for an API call.
const apiRequest = "GET /api/items/12345?view=full HTTP/1.1\r\nHost: shop.dev.localhost\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nReferer: http://shop.dev.localhost/items?page=2\r\nCookie: a=b\r\n\r\n"

// startCanned returns a client's connection to a gateway whose backends cost nothing, and
// a function that sends a request and reads the answer to it.
func startCanned(t testing.TB, lists bool) (backend *canned, ask func()) {
	response := http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		Header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {"0"}, "Server": {"bench"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}},
	}
	backend = &canned{response: response, listed: response, lists: lists}
	backend.listed.Header = nil
	e := start(t, snapshot(1, script([]string{"http://a", "http://b"}, 90_000, 10_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		d.Backends, d.Emitter = backend, discard{}
	})
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // instead of hanging
	r := bufio.NewReader(c)
	request := []byte(apiRequest)
	return backend, func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		for line := []byte("..."); len(line) > 2; {
			if line, err = r.ReadSlice('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// allocsMax are, of a request from the client's bytes to the event: the ray. What the
// backend and the emitter need comes on top. Where headers are maps there are the header as
// one string, its values, the URL, and the ray's place in the response, too.
const (
	allocsMax       = 1
	allocsOfMapsMax = 5
)

func TestAllocationsOfARequest(t *testing.T) {
	if byNetHTTP {
		t.Skip("about the lean path")
	}
	if raceDetector {
		t.Skip("the race detector has pools forget things")
	}
	for _, most := range []float64{allocsMax, allocsOfMapsMax} {
		backend, ask := startCanned(t, most == allocsMax)
		for range 100 {
			ask()
		}
		if n := testing.AllocsPerRun(1000, ask); n > most {
			t.Errorf("%.0f allocations a request, want %.0f at most", n, most)
		}
		if lists := backend.asked.Load() == 1101; lists != backend.lists {
			t.Errorf("%d requests came with lists", backend.asked.Load())
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	_, ask := startCanned(b, true)
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}
