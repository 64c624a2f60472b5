package api

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// writtenConn notes what is written to it.
type writtenConn struct {
	net.Conn
	bytes.Buffer
}

func (c *writtenConn) Write(p []byte) (int, error)    { return c.Buffer.Write(p) }
func (*writtenConn) Read([]byte) (int, error)         { return 0, net.ErrClosed }
func (*writtenConn) SetWriteDeadline(time.Time) error { return nil }
func (*writtenConn) SetReadDeadline(time.Time) error  { return nil }

// spoken is what is to come of a viewer's bytes, frame by frame as RFC 6455, section 5.2, has
// them: how the connection ends, and the pongs until then.
func spoken(sent []byte) (end ws.StatusCode, left bool, pongs []byte) {
	for {
		if len(sent) < 2 {
			return 0, true, pongs
		}
		first, second := sent[0], sent[1]
		sent = sent[2:]
		length := uint64(second & 0x7f)
		if extended := map[uint64]int{126: 2, 127: 8}[length]; extended > 0 {
			if len(sent) < extended {
				return 0, true, pongs
			}
			length = binary.BigEndian.Uint64(append(make([]byte, 8-extended), sent[:extended]...))
			sent = sent[extended:]
		}
		var mask [4]byte
		if second&0x80 != 0 {
			if len(sent) < 4 {
				return 0, true, pongs
			}
			mask, sent = [4]byte(sent), sent[4:]
		}
		opcode, control := first&0xf, first&0x8 != 0
		switch {
		case length >= 1<<63:
			return 0, true, pongs // is no header
		case first&0x70 != 0, opcode > 2 && opcode < 8, opcode > 10, control && (first&0x80 == 0 || length > 125):
			return ws.StatusProtocolError, false, pongs
		case length > tailFrameBytesMax:
			return ws.StatusMessageTooBig, false, pongs
		case length > uint64(len(sent)):
			return 0, true, pongs
		}
		payload := slices.Clone(sent[:length])
		sent = sent[length:]
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		switch opcode {
		case 8:
			return ws.StatusNormalClosure, true, pongs
		case 9:
			pongs = append(append(pongs, 0x8a, byte(length)), payload...)
		}
	}
}

// Whatever a viewer sends, each ping is answered with what it holds, in order, up to the first
// frame that ends the connection, which ends as that says.
func FuzzViewerFrames(f *testing.F) {
	f.Add([]byte("\x89\x02hi\x89\x80abcd\x81\x01x\x88\x00\x89\x00"))
	f.Add([]byte("\x89\x82\x01\x02\x03\x04hi\x09\x00"))
	f.Add([]byte("\x82\x7e\x00\x02hi\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x01"))
	f.Add([]byte("\x89\x7e\x00\x7e"))
	f.Add([]byte("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00\x83\x00"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		conn := &writtenConn{}
		v := &viewer{conn: conn, in: bufio.NewReader(bytes.NewReader(sent))}
		how := v.read(t.Context())
		end, left, pongs := spoken(sent)
		if how.code != end || how.left != left || !bytes.Equal(conn.Bytes(), pongs) {
			t.Errorf("%q ended with %+v and was answered %q, want %d, %t and %q", sent, how, conn.Bytes(), end, left, pongs)
		}
	})
}
