package runtime

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// The story: a version hung in the middle of its answers. No request failed before its client's
// patience did, and then it was the client that had left.
func TestResponseThatStopsHalfWayIsGivenUp(t *testing.T) {
	next := make(chan string)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	stops := func(w http.ResponseWriter, req *http.Request) {
		if length := req.URL.Query().Get("length"); length != "" {
			w.Header().Set("Content-Length", length)
		}
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case piece := <-next:
				_, _ = io.WriteString(w, piece)
			case <-req.Context().Done():
				return
			case <-over:
				return
			}
		}
	}
	test := func(t *testing.T, s *httptest.Server, cfg Config) {
		for _, target := range []string{"/chunks", "/?length=3"} {
			inTime(t, 200*time.Millisecond, func(bound time.Duration) error {
				o := &deploy.Origin{URL: s.URL, Timeouts: &deploy.OriginTimeouts{BetweenBytesMS: bound.Milliseconds()}}
				resp, err := openOrigin(t, cfg, o).RoundTrip(request(t, http.MethodGet, target, ""))
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				for _, piece := range []string{"a", "b"} {
					time.Sleep(2 * bound) // nobody waits for the origin, which may be as slow
					go func() { next <- piece }()
					got := make([]byte, 8)
					n, err := resp.Body.Read(got)
					if err != nil || !bytes.Equal(got[:n], []byte(piece)) {
						select { // that nobody asked for
						case <-next:
						default:
						}
						return fmt.Errorf("instead of the piece %q came %q: %w", piece, got[:n], err)
					}
				}
				_, err = io.ReadAll(resp.Body)
				wantKind(t, resp, err, schema.ErrorKindTimeout)
				return nil
			})
		}
	}
	each(t, stops, test)
	t.Run("https with HTTP/1.1", func(t *testing.T) {
		s := httptest.NewTLSServer(http.HandlerFunc(stops))
		t.Cleanup(s.Close)
		test(t, s, shortConfig())
	})
}
