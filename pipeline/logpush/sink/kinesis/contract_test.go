package kinesis

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// front is the service behind a server that can fail, or hang in the middle of a request.
type front struct {
	*httptest.Server
	broken  atomic.Bool
	stalled atomic.Pointer[chan struct{}] // closed once a request hangs
}

func newFront(t *testing.T, behind http.Handler) *front {
	t.Helper()
	f, over := &front{}, make(chan struct{})
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hangs := f.stalled.Load(); hangs != nil {
			_, _ = io.CopyN(io.Discard, r.Body, 1)
			close(*hangs)
			<-over // a server that does not read does not see the client go
			return
		}
		if f.broken.Load() {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"__type":"ProvisionedThroughputExceededException"}`)
			return
		}
		behind.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	t.Cleanup(func() { close(over) })
	return f
}

// Without a service that TIDEGATE_TEST_KINESIS names, on one that checks signatures as AWS does.
func TestContract(t *testing.T) {
	external := os.Getenv(externalService)
	sinktest.Run(t, func(t *testing.T) sinktest.Subject {
		name := "contract-" + strconv.FormatInt(time.Now().UnixNano(), 36)
		var f *front
		var records func() []putRecord
		if external == "" {
			s := serve(t, nil)
			f, records = newFront(t, s.Config.Handler), s.stored
		} else {
			u, err := url.Parse(external)
			if err != nil {
				t.Fatal(err)
			}
			f = newFront(t, &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = u.Scheme, u.Host }})
			client := open(t, external, name).(*sink).client
			create(t, client, name)
			records = func() []putRecord { return read(t, client, name) }
		}
		return sinktest.Subject{
			Sink: open(t, f.URL, name),
			Stored: func(o logpush.Object) (data []byte, ok bool) {
				for _, r := range records() {
					if r.PartitionKey != o.BatchID {
						continue
					}
					if ok && !bytes.Equal(data, r.Data) {
						t.Errorf("batch %s came again, and is another one", o.BatchID)
					}
					data, ok = r.Data, true
				}
				return data, ok
			},
			Count: func() int {
				batches := map[string]bool{}
				for _, r := range records() {
					batches[r.PartitionKey] = true
				}
				return len(batches)
			},
			Break: func() { f.broken.Store(true) },
			Stall: func() <-chan struct{} {
				hangs := make(chan struct{})
				f.stalled.Store(&hangs)
				return hangs
			},
		}
	})
}
