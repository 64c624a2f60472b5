package gateway

import (
	"encoding/binary"
	"testing"
)

// rpcMessage is a message of a kind, with its struct offset words after the root
// pointer, in as many segments.
func rpcMessage(kind uint16, offset, segments int) []byte {
	words := make([]int, segments)
	words[0] = 1 + offset + 2
	for i := 1; i < segments; i++ {
		words[i] = i
	}
	var b []byte
	b = binary.LittleEndian.AppendUint32(b, uint32(segments-1))
	for _, n := range words {
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	for len(b)%8 != 0 {
		b = append(b, 0)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(offset)<<2|1<<32) // a struct of one word of data
	b = append(b, make([]byte, 8*offset)...)
	b = binary.LittleEndian.AppendUint16(b, kind)
	b = append(b, make([]byte, 6+8)...)
	for i := 1; i < segments; i++ {
		b = append(b, make([]byte, 8*i)...)
	}
	return b
}

// Whatever the pieces are in which messages come, a session that was retired ends
// with the last question that is finished, and not before.
func TestRPCSessionEndsWhenIdle(t *testing.T) {
	const rpcReturn = 3
	var stream, last []byte
	for i, kind := range []uint16{rpcBootstrap, rpcCall, rpcFinish, rpcReturn, rpcCall, rpcFinish} {
		stream = append(stream, rpcMessage(kind, i%3, 1+i%4)...)
	}
	last = rpcMessage(rpcFinish, 0, 2)
	for size := 1; size <= len(stream); size++ {
		ended := false
		s := &rpcSession{cut: func() { ended = true }}
		r := &rpcReader{session: s}
		write := func(p []byte) {
			for len(p) > 0 {
				n, err := r.Write(p[:min(size, len(p))])
				if err != nil {
					t.Fatal(err)
				}
				p = p[n:]
			}
		}
		write(stream)
		s.retire()
		if ended {
			t.Fatalf("in pieces of %d bytes: the session ended with a question open", size)
		}
		write(last[:len(last)-1])
		if ended {
			t.Fatalf("in pieces of %d bytes: the session ended before its last message was whole", size)
		}
		write(last[len(last)-1:])
		if !ended {
			t.Fatalf("in pieces of %d bytes: the session did not end; %d questions are open", size, s.open)
		}
	}
}

// A session of which nothing can be known is left to end by itself.
func TestUnreadableRPCSessionStays(t *testing.T) {
	far := rpcMessage(rpcCall, 0, 1)
	far[8] |= 2 // the root is in another segment
	many := binary.LittleEndian.AppendUint32(nil, rpcSegmentsMax)
	for name, sent := range map[string][]byte{"far": far, "many segments": append(many, 0)} {
		s := &rpcSession{cut: func() { t.Errorf("%s: the session was ended", name) }}
		r := &rpcReader{session: s}
		if _, err := r.Write(append(sent, rpcMessage(rpcFinish, 0, 1)...)); err != nil {
			t.Fatal(err)
		}
		s.retire()
	}
}
