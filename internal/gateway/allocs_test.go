package gateway_test

import (
	"bufio"
	"net"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
)

// canned is a backend of every version that allocates nothing.
type canned struct{ response http.Response }

func (c *canned) Update(s *deploy.Snapshot) map[string]http.RoundTripper {
	all := map[string]http.RoundTripper{}
	for _, sc := range s.Scripts {
		for _, v := range sc.Versions {
			all[v.ID] = c
		}
	}
	return all
}

func (c *canned) RoundTrip(*http.Request) (*http.Response, error) { return &c.response, nil }
func (c *canned) LetsGo() bool                                    { return true }

type discard struct{}

func (discard) Emit(string, []byte, bool) {}

// apiRequest is what a browser would send for an API call.
const apiRequest = "GET /api/items/12345?view=full HTTP/1.1\r\nHost: shop.dev.localhost\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0\r\nAccept: application/json\r\n" +
	"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en\r\nReferer: http://shop.dev.localhost/items?page=2\r\nCookie: a=b\r\n\r\n"

// startCanned returns a client's connection to a gateway whose backends cost nothing, and
// a function that sends a request and reads the answer to it.
func startCanned(t testing.TB) (ask func()) {
	response := http.Response{
		StatusCode: http.StatusOK, ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody,
		Header: http.Header{"Content-Type": {"application/json"}, "Content-Length": {"0"}, "Server": {"bench"}, "Date": {"Mon, 02 Jan 2006 15:04:05 GMT"}},
	}
	e := start(t, snapshot(1, script([]string{"http://a", "http://b"}, 90_000, 10_000)), func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		d.Backends, d.Emitter = &canned{response}, discard{}
	})
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute)) // instead of hanging
	r := bufio.NewReader(c)
	request := []byte(apiRequest)
	return func() {
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

// allocsMax are, of a request from the client's bytes to the event: the header as one
// string, its values, the URL; the ray and its place in the response; the event's
// URL, and the event, which the queue owns. What the backend and the emitter need comes on top.
const allocsMax = 7

func TestAllocationsOfARequest(t *testing.T) {
	if byNetHTTP {
		t.Skip("about the lean path")
	}
	if raceDetector {
		t.Skip("the race detector has pools forget things")
	}
	ask := startCanned(t)
	for range 100 {
		ask()
	}
	if n := testing.AllocsPerRun(1000, ask); n > allocsMax {
		t.Errorf("%.0f allocations a request, want %d at most", n, allocsMax)
	}
}

func BenchmarkRequest(b *testing.B) {
	ask := startCanned(b)
	b.ReportAllocs()
	for b.Loop() {
		ask()
	}
}
