package runtime

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// recorded answers well, and notes each write.
type recorded struct {
	scripted
	writes []string
}

func (r *recorded) Write(p []byte) (int, error) {
	r.writes = append(r.writes, string(p))
	return len(p), nil
}

func (r *recorded) SetWriteDeadline(time.Time) error { return nil }

// onRecorded sends req on a connection of its own and reads the response.
func onRecorded(t *testing.T, req *http.Request) (writes []string, kept bool, err error) {
	t.Helper()
	pool := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: "origin"})
	defer pool.close()
	r := &recorded{scripted: scripted{pieces: [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")}}}
	head, err := appendHead(nil, req, pool)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newConn(pool, r).roundTrip(req, &head)
	if err == nil {
		if got := readAll(t, resp, nil); got != "ok" {
			t.Errorf("got %q", got)
		}
	}
	return r.writes, len(pool.idle) == 1, err
}

// A body that need not be waited for is not worth a goroutine.
func TestBodyAtHandGoesWithTheHeader(t *testing.T) {
	f := func(held bool, size int, want ...string) {
		t.Helper()
		body := &heldBody{held: held}
		body.Reset([]byte(strings.Repeat("b", size)))
		req := request(t, http.MethodPost, "/", "")
		req.Body, req.ContentLength = body, int64(size)
		writes, kept, err := onRecorded(t, req)
		if err != nil || !kept || body.Len() != 0 {
			t.Errorf("kept %t, %d bytes left, %v", kept, body.Len(), err)
		}
		for i := range writes {
			writes[i] = strings.NewReplacer("\r\n\r\n", " head ", "POST / HTTP/1.1\r\nHost: shop.example.com\r\nContent-Length: ", "").Replace(writes[i])
		}
		if !slices.Equal(writes, want) {
			t.Errorf("wrote %.100q, want %.100q", writes, want)
		}
	}
	f(true, 3, "3 head bbb")
	f(true, atHandMax, "8192 head "+strings.Repeat("b", atHandMax))
	f(false, 3, "3 head ", "bbb")
	f(true, atHandMax+1, "8193 head ", strings.Repeat("b", atHandMax+1))
}

// Half of a body must not be sent as a whole one, and with it no header that says so.
func TestBrokenBodyAtHandSendsNothing(t *testing.T) {
	for _, broken := range []io.Reader{io.MultiReader(strings.NewReader("half"), failingReader{}), strings.NewReader("half")} {
		req := request(t, http.MethodPost, "/", "")
		req.Body, req.ContentLength = claimed{broken}, 100
		writes, kept, err := onRecorded(t, req)
		if !errors.Is(err, errClientGone) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want the body's own error", err)
		}
		if len(writes) > 0 || kept {
			t.Errorf("wrote %q, kept the connection: %t", writes, kept)
		}
	}
}

// claimed says that it has more than it has.
type claimed struct{ io.Reader }

func (claimed) Buffered() int { return 1 << 20 }
func (claimed) Close() error  { return nil }

// writeCounter counts writes and keeps what they wrote.
type writeCounter struct {
	bytes.Buffer
	writes int
}

func (w *writeCounter) Write(p []byte) (int, error) { w.writes++; return w.Buffer.Write(p) }

// endsAtOnce gives its end with the last bytes, as net/http's bodies do.
type endsAtOnce struct{ text string }

func (e *endsAtOnce) Read(p []byte) (int, error) {
	n := copy(p, e.text)
	if e.text = e.text[n:]; e.text == "" {
		return n, io.EOF
	}
	return n, nil
}

// Each piece of a body is one write, the end with the last one if it comes with it.
func TestChunksAreWrittenPieceByPiece(t *testing.T) {
	f := func(body io.Reader, trailer http.Header, want string, writes int) {
		t.Helper()
		req := &http.Request{Body: io.NopCloser(body), ContentLength: -1, Trailer: trailer}
		var w writeCounter
		if bodyErr, writeErr := writeBody(&w, req); bodyErr != nil || writeErr != nil {
			t.Errorf("%v, %v", bodyErr, writeErr)
		}
		if got := w.String(); got != want || w.writes != writes {
			t.Errorf("%d writes of %.100q, want %d of %.100q", w.writes, got, writes, want)
		}
	}
	f(strings.NewReader(""), nil, "0\r\n\r\n", 1)
	f(&endsAtOnce{"tide"}, nil, "4\r\ntide\r\n0\r\n\r\n", 1)
	f(io.MultiReader(strings.NewReader("ti"), strings.NewReader("de")), nil, "2\r\nti\r\n2\r\nde\r\n0\r\n\r\n", 3)
	f(strings.NewReader("tide"), http.Header{"X-Sum": {"1", "a\r\nb"}, "Content-Length": {"9"}, "X A": {"1"}},
		"4\r\ntide\r\n0\r\nX-Sum: 1\r\n\r\n", 2)
	long := strings.Repeat("t", copyBufferBytes-len(chunkHead)-len(chunkTail))
	f(&endsAtOnce{long}, nil, "7ff3\r\n"+long+"\r\n0\r\n\r\n", 1)
}

// The story: an origin was stopped, and took nothing of what was sent to it. The upload held its
// place for ever, its client's leaving was not noticed, and nobody learned of the endpoint.
func TestOriginThatTakesNothingIsGivenUp(t *testing.T) {
	for name, stops := range map[string]func(c net.Conn, r *bufio.Reader){
		"before it answers": func(_ net.Conn, r *bufio.Reader) { skipHead(r) },
		"after it did": func(c net.Conn, r *bufio.Reader) {
			skipHead(r)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		},
	} {
		t.Run(name, func(t *testing.T) {
			over := make(chan struct{})
			o := &deploy.Origin{Timeouts: &deploy.OriginTimeouts{FirstByteMS: firstByteMS}}
			for range 2 {
				addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
					stops(c, r)
					<-over
				})
				o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: "http://" + addr, Weight: 1})
			}
			t.Cleanup(func() { close(over) })
			u := openOrigin(t, quickConfig(), o).(*upstream)
			for _, length := range []int64{-1, 1 << 40} {
				req := request(t, http.MethodPost, "/", "")
				req.Body, req.ContentLength = io.NopCloser(zeros{}), length
				resp, err := u.RoundTrip(req)
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					_ = resp.Body.Close()
				} else if u.endpoints[0].failures.Load()+u.endpoints[1].failures.Load() == 0 {
					t.Error("nothing was learned of the endpoint")
				}
				if blame(err) != schema.ErrorKindTimeout {
					t.Errorf("got %v, want a time-out", err)
				}
				if n := u.endpoints[0].busy.Load() + u.endpoints[1].busy.Load(); n != 0 {
					t.Errorf("%d requests are in hand", n)
				}
			}
		})
	}
}

// Over TLS an origin is given up in the same way, unless it has switched to another protocol, where
// either side may be silent.
func TestOriginThatTakesNothingOverTLS(t *testing.T) {
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	cfg := shortConfig()
	cfg.ResponseHeaderTimeout = firstByteMS * time.Millisecond
	origin := rawTLSOrigin(t, func(c net.Conn, r *bufio.Reader) {
		line, _ := r.Peek(len("GET")) // what is missing shows in the answer
		skipHead(r)
		if string(line) == "GET" {
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		}
		<-over
	})
	backend := open(t, cfg, origin)
	for _, length := range []int64{-1, 1 << 40} {
		req := request(t, http.MethodPost, "/", "")
		req.Body, req.ContentLength = io.NopCloser(zeros{}), length
		resp, err := backend.RoundTrip(req)
		wantKind(t, resp, err, schema.ErrorKindTimeout)
	}
	inTime(t, firstByteMS*time.Millisecond, func(bound time.Duration) error {
		cfg.ResponseHeaderTimeout = bound
		req := request(t, http.MethodGet, "/", "")
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "x")
		resp, err := open(t, cfg, origin).RoundTrip(req) //nolint:bodyclose // it is closed below
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		ended := make(chan error, 1)
		go func() {
			_, err := io.Copy(resp.Body.(io.Writer), zeros{})
			ended <- err
		}()
		select {
		case err := <-ended:
			return fmt.Errorf("the tunnel ended: %w", err)
		case <-time.After(3 * bound):
		}
		_ = resp.Body.Close()
		<-ended
		return nil
	})
}

// A head that the socket has no room for is given up in the same way.
func TestOriginThatTakesHalfAHeadIsGivenUp(t *testing.T) {
	over := make(chan struct{})
	addr := rawServer(t, func(net.Conn, *bufio.Reader) { <-over })
	t.Cleanup(func() { close(over) })
	cfg := shortConfig()
	cfg.ResponseHeaderTimeout = firstByteMS * time.Millisecond
	req := request(t, http.MethodGet, "/", "")
	req.Header.Set("X-Long", strings.Repeat("x", 64<<20))
	resp, err := open(t, cfg, "http://"+addr).RoundTrip(req)
	wantKind(t, resp, err, schema.ErrorKindTimeout)
}

// slowly takes a few bytes, and no more before the deadline, as often as it is told.
type slowly struct {
	scripted
	times int
	took  strings.Builder
}

func (s *slowly) SetWriteDeadline(time.Time) error { return nil }

func (s *slowly) Write(p []byte) (int, error) {
	if s.times--; s.times < 0 {
		return 0, os.ErrDeadlineExceeded
	}
	n := min(len(p), 3)
	s.took.Write(p[:n])
	if n < len(p) {
		return n, os.ErrDeadlineExceeded
	}
	return n, nil
}

// Slow is not stopped.
func TestSlowOriginIsNotGivenUp(t *testing.T) {
	const text = "ten bytes."
	pool := newHTTP1(DefaultConfig(), &url.URL{Scheme: "http", Host: "origin"})
	defer pool.close()
	for times, want := range map[int]string{0: "", 1: "ten", 3: "ten bytes", 4: text} {
		s := &slowly{times: times}
		err := newConn(pool, s).sendSteadily([]byte(text))
		if got := s.took.String(); got != want || (err == nil) != (want == text) {
			t.Errorf("taken %d times: %q was sent, %v", times, got, err)
		}
	}
}
