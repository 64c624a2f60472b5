package lean_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/gateway/lean"
)

const chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"

// A new connection is given a moment by Shutdown. If its request is one for net/http, it
// used to be closed without a word: net/http was shut down at once.
func TestShutdownAnswersRequestsForNetHTTP(t *testing.T) {
	within(t, time.Second, func(grace time.Duration) (err error) {
		s := serve(t, true, func(http.ResponseWriter, *http.Request) {}, func(s *lean.Server) { s.NewConnGrace = grace })
		c := s.dial(t)
		waitFor(t, "the connection", func() bool { return s.Stats().Conns == 1 })
		stopped := make(chan error, 1)
		go func() { stopped <- s.Shutdown(t.Context()) }()
		<-s.done // the listener is closed
		_, _ = io.WriteString(c, chunked)
		if b, _ := io.ReadAll(c); strings.Count(string(b), "200 OK") != 1 {
			err = fmt.Errorf("got %q", b)
		}
		return errors.Join(err, <-stopped)
	})
}

// A client may have sent its next request before the end of a response that did not say
// that it is the last one. What is here of it is answered, and says so then.
func TestShutdownAnswersThePipeline(t *testing.T) {
	f := func(name, next string, want, lastOnes int) {
		t.Run(name, func(t *testing.T) {
			within(t, time.Second, func(grace time.Duration) (err error) {
				inHand, finish := make(chan struct{}), make(chan struct{})
				s := serve(t, true, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/slow" {
						_ = http.NewResponseController(w).Flush()
						close(inHand)
						<-finish
					}
				}, func(s *lean.Server) { s.NewConnGrace = grace })
				c := s.dial(t)
				_, _ = io.WriteString(c, "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n"+next)
				<-inHand
				stopped := make(chan error, 1)
				go func() { stopped <- s.Shutdown(t.Context()) }()
				<-s.done // the listener is closed
				close(finish)
				b, _ := io.ReadAll(c)
				if strings.Count(string(b), "200 OK") != want || strings.Count(string(b), "Connection: close") != lastOnes {
					err = fmt.Errorf("got %q", b)
				}
				return errors.Join(err, <-stopped)
			})
		})
	}
	f("another", get, 2, 1)
	f("two more", get+get, 2, 1)
	f("one for net/http", chunked, 2, 0)
	f("nothing", "", 1, 0)
	f("an empty line", "\r\n", 1, 0)
	f("half of one", "GET / HT", 1, 0)
}
