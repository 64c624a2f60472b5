package runtime

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"tidegate/schema"
)

// statusOK is the header block ":status: 200" (RFC 7541, appendix A).
var statusOK = []byte{0x88}

// h2Server is an origin of frames: it greets, and then calls serve for each header
// that comes, with the number of its connection, from 1. The connection ends
// when serve returns false.
func h2Server(t *testing.T, serve func(conn int32, fr *h2.Framer, stream uint32) (keep bool)) (origin string) {
	t.Helper()
	var conns atomic.Int32
	return "h2c://" + rawServer(t, func(c net.Conn, r *bufio.Reader) {
		number := conns.Add(1)
		if _, err := io.ReadFull(r, make([]byte, len(h2.ClientPreface))); err != nil {
			return
		}
		fr := h2.NewFramer(c, r)
		_ = fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *h2.SettingsFrame:
				if !f.IsAck() {
					_ = fr.WriteSettingsAck()
				}
			case *h2.HeadersFrame:
				if !serve(number, fr, f.StreamID) {
					return
				}
			}
		}
	})
}

func respond(fr *h2.Framer, stream uint32) (keep bool) {
	return fr.WriteHeaders(h2.HeadersFrameParam{StreamID: stream, BlockFragment: statusOK, EndHeaders: true, EndStream: true}) == nil
}

// A request that the origin says it has not looked at goes to the next connection,
// whatever its method, as long as nothing of a body is gone.
func TestRefusedStreamsAreRepeated(t *testing.T) {
	for name, refuse := range map[string]func(fr *h2.Framer, stream uint32){
		"GOAWAY":         func(fr *h2.Framer, _ uint32) { _ = fr.WriteGoAway(0, h2.ErrCodeNo, nil) },
		"REFUSED_STREAM": func(fr *h2.Framer, stream uint32) { _ = fr.WriteRSTStream(stream, h2.ErrCodeRefusedStream) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				var seen atomic.Int32
				backend := open(t, shortConfig(), h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
					if seen.Add(1) == 1 {
						refuse(fr, stream)
						return true
					}
					return respond(fr, stream)
				}))
				resp, err := backend.RoundTrip(request(t, method, "/", ""))
				readAll(t, resp, err)
				if seen.Load() != 2 {
					t.Errorf("%s was sent %d times, want twice", method, seen.Load())
				}
			}
		})
	}
}

// An answer that ends with its header, as a 204 does, ends no upload: that is the caller's to do. Its stream was reset.
func TestAnAnswerWithoutABodyLeavesTheUploadAlone(t *testing.T) {
	ended := make(chan h2.FrameType, 1)
	origin := rawServer(t, func(c net.Conn, r *bufio.Reader) {
		_, _ = io.ReadFull(r, make([]byte, len(h2.ClientPreface)))
		fr := h2.NewFramer(c, r)
		_ = fr.WriteSettings()
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			switch f := f.(type) {
			case *h2.HeadersFrame:
				respond(fr, f.StreamID)
			case *h2.RSTStreamFrame:
				ended <- f.Type
			case *h2.DataFrame:
				if f.StreamEnded() {
					ended <- f.Type
				}
			}
		}
	})
	body, rest := io.Pipe()
	req := request(t, http.MethodPut, "/", "")
	req.Body, req.ContentLength = body, -1
	resp, err := open(t, shortConfig(), "h2c://"+origin).RoundTrip(req)
	readAll(t, resp, err)
	_, _ = io.WriteString(rest, "the rest")
	_ = rest.Close()
	if last := <-ended; last != h2.FrameData {
		t.Errorf("the upload ended with a frame of the type %s", last)
	}
}

// What may have been acted on is sent twice only if that does no harm.
func TestDyingHTTP2ConnectionIsRetriedOnce(t *testing.T) {
	var seen atomic.Int32
	origin := h2Server(t, func(conn int32, fr *h2.Framer, stream uint32) bool {
		seen.Add(1)
		if conn == 1 { // processed, and then the end without an answer
			_ = fr.WriteGoAway(stream, h2.ErrCodeInternal, nil)
			return false
		}
		return respond(fr, stream)
	})
	resp, err := open(t, shortConfig(), origin).RoundTrip(request(t, http.MethodGet, "/", ""))
	readAll(t, resp, err)
	if seen.Load() != 2 {
		t.Errorf("a GET was sent %d times, want twice", seen.Load())
	}

	seen.Store(0)
	always := h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
		seen.Add(1)
		_ = fr.WriteGoAway(stream, h2.ErrCodeInternal, nil)
		return false
	})
	for _, body := range []string{"", "body"} {
		seen.Store(0)
		resp, err = open(t, shortConfig(), always).RoundTrip(request(t, http.MethodPost, "/", body))
		wantKind(t, resp, err, schema.ErrorKindReset)
		if seen.Load() != 1 {
			t.Errorf("a POST was sent %d times, want once", seen.Load())
		}
	}
}

func TestErrorKindsOfStreams(t *testing.T) {
	for code, kind := range map[h2.ErrCode]string{
		h2.ErrCodeInternal: schema.ErrorKindReset, h2.ErrCodeCancel: schema.ErrorKindReset, h2.ErrCodeFrameSize: schema.ErrorKindProtocol,
	} {
		backend := open(t, shortConfig(), h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
			return fr.WriteRSTStream(stream, code) == nil
		}))
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, kind)
	}
	backend := open(t, shortConfig(), "h2c://"+rawServer(t, func(c net.Conn, r *bufio.Reader) { // that speaks HTTP/1.1
		skipHead(r)
		_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
	}))
	if resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", "")); err == nil {
		_ = resp.Body.Close()
		t.Error("an HTTP/1.1 server passed for one of HTTP/2")
	}
}

// The story: net/http's transport takes any number for a status of HTTP/2, and the gateway's
// server panicked when it was to send 42. The client got nothing, and the request no event.
func TestStatusesThatAreNone(t *testing.T) {
	for _, status := range []string{"42", "99", "1000", "-5"} {
		backend := open(t, shortConfig(), h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
			// :status as a literal with an indexed name (RFC 7541, section 6.2.2)
			block := append([]byte{0x08, byte(len(status))}, status...)
			return fr.WriteHeaders(h2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true, EndStream: true}) == nil
		}))
		resp, err := backend.RoundTrip(request(t, http.MethodGet, "/", ""))
		wantKind(t, resp, err, schema.ErrorKindProtocol)
	}
}

// The story: what had no body, or was refused, was closed before anybody had it, which in HTTP/2 waits
// for the next piece of an upload. A client that waits for the answer before it sends more got none.
func TestResponsesWithoutBodiesDoNotWaitForUploads(t *testing.T) {
	for status, refused := range map[string]bool{"204": false, "304": false, "42": true} {
		backend := open(t, shortConfig(), h2Server(t, func(_ int32, fr *h2.Framer, stream uint32) bool {
			block := append([]byte{0x08, byte(len(status))}, status...)
			return fr.WriteHeaders(h2.HeadersFrameParam{StreamID: stream, BlockFragment: block, EndHeaders: true}) == nil &&
				fr.WriteData(stream, true, nil) == nil
		}))
		body, send := io.Pipe()
		req := request(t, http.MethodPost, "/", "")
		req.Body, req.ContentLength = io.NopCloser(body), -1 // its Close ends no Read, as the gateway's
		waited := time.AfterFunc(time.Minute, func() { _ = send.Close() })
		resp, err := backend.RoundTrip(req)
		if !waited.Stop() {
			t.Errorf("a response with the status %s waited for the upload", status)
		}
		_ = send.Close()
		if refused {
			wantKind(t, resp, err, schema.ErrorKindProtocol)
		} else if text := readAll(t, resp, err); text != "" {
			t.Errorf("a response with the status %s has the body %q", status, text)
		}
	}
}

// The story: each slow client of an HTTP/2 origin held 4 MiB of its response in the gateway.
func TestHTTP2OriginsSendLittleAhead(t *testing.T) {
	var sent atomic.Int64
	each(t, func(w http.ResponseWriter, r *http.Request) {
		sent.Store(0)
		for range 32 << 20 / 4096 {
			n, err := w.Write(make([]byte, 4096))
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}, func(t *testing.T, s *httptest.Server, cfg Config) {
		if strings.HasPrefix(s.URL, "http://") {
			return // the system holds what was not read
		}
		resp, err := open(t, cfg, s.URL).RoundTrip(request(t, http.MethodGet, "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var before int64
		waitFor(t, "the origin to have sent what it may", func() bool {
			before = sent.Load()
			time.Sleep(200 * time.Millisecond)
			return before >= streamBuffer && sent.Load() == before
		})
		if before > 2*streamBuffer {
			t.Errorf("%d bytes were sent to a client that takes none", before)
		}
	})
}
