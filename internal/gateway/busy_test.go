package gateway_test

import (
	"bufio"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// An HTTP/2 origin is busy: it takes one byte of the two that a client has sent, and the other one later
// than a client may pause, or never. The client has nothing to do with it.
func TestBusyOriginIsNotItsClientsFault(t *testing.T) {
	const pause = 2 * time.Second
	f := func(name string, later bool, firstByte time.Duration, outcome, kind string, status int) {
		t.Run(name, func(t *testing.T) {
			l := loopback(t)
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				c, err := l.Accept()
				if err != nil {
					return
				}
				defer c.Close()
				takeByte(c, later, pause*3/2)
			}()
			e := start(t, snapshot(1, script([]string{"h2c://" + l.Addr().String()}, 100_000)), func(c *gateway.Config, _ *gateway.Deps, r *runtime.Config) {
				c.BodyTimeout, r.ResponseHeaderTimeout = pause, firstByte
			})
			e.get(t, shop+"/") // the origin's settings are there
			c, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxy\r\n")
			wantEvent(t, e.events.nth(2), outcome, kind, status)
		})
	}
	f("slow", true, time.Minute, schema.OutcomeOK, "", 200)
	f("hung", false, pause, schema.OutcomeExceededWallTime, schema.ErrorKindTimeout, 504)
}

// takeByte answers requests in HTTP/2, those with a body when it has two bytes. It has room for the
// second one after a pause, or never.
func takeByte(c net.Conn, later bool, pause time.Duration) {
	r := bufio.NewReader(c)
	_, _ = io.ReadFull(r, make([]byte, len(http2.ClientPreface)))
	fr := http2.NewFramer(c, r)
	_ = fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	answer := func(stream uint32) {
		_ = fr.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte{0x88}, EndHeaders: true, EndStream: true})
	}
	for bytes := 0; ; {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				answer(f.StreamID)
			}
		case *http2.DataFrame:
			if bytes += len(f.Data()); bytes == 2 {
				answer(f.StreamID)
			} else if later {
				time.Sleep(pause)
				_ = fr.WriteWindowUpdate(f.StreamID, 1)
			}
		}
	}
}
