package runtime

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tidegate/schema"
)

// pausing is the body of a client that pauses after its first byte, as the gateway hands it over: its
// Close ends no read.
type pausing struct {
	more  chan struct{}
	began bool
}

func (b *pausing) Read(p []byte) (int, error) {
	if !b.began {
		b.began = true
		return copy(p, "x"), nil
	}
	<-b.more
	return 0, io.EOF
}

func (b *pausing) Close() error { return nil }

// The story: an origin was killed while the clients of its gRPC calls listened. The Transport waited for
// the next piece of the request, and so nobody was told, for as long as the client had nothing to say.
func TestDeadOriginIsNoticedWhileItsClientPauses(t *testing.T) {
	for _, protocol := range []string{"http", "h2c", "https with HTTP/1.1", "https with HTTP/2"} {
		for name, answer := range map[string]bool{"unanswered": false, "answered": true} {
			t.Run(protocol+", "+name, func(t *testing.T) {
				arrived, over := make(chan struct{}, 1), make(chan struct{})
				s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					c := http.NewResponseController(w)
					_ = c.EnableFullDuplex()
					_, _ = r.Body.Read(make([]byte, 1))
					if answer {
						_, _ = io.WriteString(w, "y")
						_ = c.Flush()
					}
					arrived <- struct{}{}
					<-over
				}))
				s.EnableHTTP2 = protocol == "https with HTTP/2"
				switch protocol {
				case "http":
					s.Start()
				case "h2c":
					s.Config.Protocols = new(http.Protocols)
					s.Config.Protocols.SetUnencryptedHTTP2(true)
					s.Start()
					s.URL = "h2c://" + s.Listener.Addr().String()
				default:
					s.StartTLS()
				}
				t.Cleanup(s.Close)
				t.Cleanup(func() { close(over) })
				body := &pausing{more: make(chan struct{})}
				t.Cleanup(func() { close(body.more) })
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // which only a test that fails waits
				t.Cleanup(cancel)
				req := request(t, http.MethodPost, "/", "x").WithContext(ctx)
				req.Body, req.ContentLength = body, -1
				backend := open(t, shortConfig(), s.URL)
				ended := make(chan error, 1)
				go func() {
					resp, err := backend.RoundTrip(req) //nolint:bodyclose // it is closed below
					if err == nil {
						_, err = io.ReadAll(resp.Body)
						go func() { _ = resp.Body.Close() }() // in clear text it waits for the client, as it says
					}
					ended <- err
				}()
				<-arrived
				s.CloseClientConnections()
				select {
				case err := <-ended:
					wantKind(t, nil, err, schema.ErrorKindReset)
				case <-ctx.Done():
					t.Error("nobody has noticed")
				}
			})
		}
	}
}

// The story: an origin hung with uploads in hand. In HTTP/2 they held their places for as long as the
// connection lasted.
func TestOriginThatTakesNothingOverHTTP2(t *testing.T) {
	each(t, func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		if strings.HasPrefix(s.URL, "http://") {
			return // that is TestOriginThatTakesNothingIsGivenUp
		}
		cfg.ResponseHeaderTimeout = firstByteMS * time.Millisecond
		for _, length := range []int64{-1, 1 << 40} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			req := request(t, http.MethodPost, "/", "").WithContext(ctx)
			req.Body, req.ContentLength = io.NopCloser(zeros{}), length
			resp, err := open(t, cfg, s.URL).RoundTrip(req)
			cancel()
			wantKind(t, resp, err, schema.ErrorKindTimeout)
		}
	})
}

// What pings would find out, the kernel does: servers of gRPC end connections on which pings come.
func TestOriginsAreNotPinged(t *testing.T) {
	for _, origin := range []string{"https://a", "h2c://a"} {
		if c := open(t, shortConfig(), origin).(*http2).transport.HTTP2; c.SendPingTimeout != 0 {
			t.Errorf("%s is pinged after %s", origin, c.SendPingTimeout)
		}
	}
}

// A server may answer at length and read no more of the request. That it does not is no reason to
// end its response.
func TestLongResponseToHalfARequest(t *testing.T) {
	inTime(t, 100*time.Millisecond, func(bound time.Duration) error {
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader) {
			if !skipHead(r) {
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
			for range 10 {
				time.Sleep(bound / 2)
				if _, err := io.WriteString(c, "x"); err != nil {
					return
				}
			}
			_, _ = r.Peek(r.Size()) // until the other side ends
		})
		cfg := shortConfig()
		cfg.ResponseHeaderTimeout = bound
		req := request(t, http.MethodPost, "/", "")
		req.Body, req.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 64<<20)), 64<<20
		resp, err := open(t, cfg, "http://"+addr).RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return fmt.Errorf("%d of 10 bytes came: %w", len(text), err)
		}
		return nil
	})
}

// The story: docker exec through the gateway. A minute after its request, which has a body, the session
// ended with the next key that was pressed.
func TestTunnelOutlivesTheBoundOfItsRequest(t *testing.T) {
	each(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, both, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		_, _ = io.Copy(c, both)
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		cfg.ResponseHeaderTimeout = 100 * time.Millisecond
		inTime(t, cfg.ResponseHeaderTimeout, func(bound time.Duration) error {
			cfg.ResponseHeaderTimeout = bound
			req := request(t, http.MethodPost, "/exec/1/start", `{"Tty":true}`)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "tcp")
			resp, err := open(t, cfg, s.URL).RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			tunnel, ok := resp.Body.(io.ReadWriter)
			if !ok {
				return errors.New("there is no tunnel")
			}
			time.Sleep(2 * bound)
			if _, err := io.WriteString(tunnel, "ls\n"); err != nil {
				return err
			}
			_, err = io.ReadFull(tunnel, make([]byte, 3))
			return err
		})
	})
}

// What an origin has said that is no HTTP is the reason, not that the connection was closed for it.
func TestGarbageWhileTheClientPauses(t *testing.T) {
	garbage := func(c net.Conn, r *bufio.Reader) {
		if !skipHead(r) {
			return
		}
		_, _ = r.Peek(1)
		_, _ = io.WriteString(c, "no HTTP at all\r\n\r\n")
		_, _ = io.Copy(io.Discard, r) // until the other side ends
	}
	for _, origin := range []string{rawOrigin(t, garbage), rawTLSOrigin(t, garbage)} {
		body := &pausing{more: make(chan struct{})}
		req := request(t, http.MethodPost, "/", "x")
		req.Body, req.ContentLength = body, -1
		resp, err := open(t, shortConfig(), origin).RoundTrip(req)
		close(body.more)
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
}
