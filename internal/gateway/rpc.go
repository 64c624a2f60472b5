package gateway

import (
	"context"
	"encoding/binary"
	"io"
	"sync"
)

// A process of the runtime opens one session of RPC for each service binding and
// keeps it. So that calls follow the callee's deployments, a session ends at the
// first moment without a question under way after the callee has got another one;
// the next call opens a session to the version that is picked then. A call that the
// caller sends in that very moment fails as if the callee had gone.

// rpcSession knows whether anything is under way in a session. It reads along the
// messages of both sides.
type rpcSession struct {
	cut func()

	mu      sync.Mutex
	open    int  // questions that were asked and are not finished, of both sides
	blind   bool // a message could not be read, so that open says nothing any more
	retired bool
}

// retire ends the session now, or once nothing is under way.
func (s *rpcSession) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retired = true
	s.endIfIdleLocked()
}

func (s *rpcSession) endIfIdleLocked() {
	if s.retired && s.open == 0 && !s.blind {
		s.cut()
	}
}

// saw notes a message.
func (s *rpcSession) saw(kind uint16, readable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !readable:
		s.blind = true
	case kind == rpcCall, kind == rpcBootstrap:
		s.open++
	case kind == rpcFinish:
		s.open--
		s.endIfIdleLocked()
	}
}

// Members of the union Message in Cap'n Proto's rpc.capnp.
const (
	rpcCall      = 2
	rpcFinish    = 4
	rpcBootstrap = 8
)

// rpcSegmentsMax is Cap'n Proto's own limit for a message from outside.
const rpcSegmentsMax = 512

// rpcReader splits what one side sends into messages and tells their kinds. It
// takes writes of any size and never fails.
//
// A message is the number of its segments less one and the size of each in words,
// 32 bits each, padded to a word; then the segments. The first word of the first
// one points to the struct Message, whose first 16 bits of data are the kind.
type rpcReader struct {
	session *rpcSession
	lost    bool

	head []byte // of the message, until it is complete
	left int64  // bytes of the segments that have not come
	at   int64  // bytes of the segments that have
	root [8]byte
	kind [2]byte
}

// Write reads along.
func (r *rpcReader) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && !r.lost {
		if r.left > 0 {
			p = r.body(p)
		} else {
			p = r.header(p)
		}
	}
	return n, nil
}

// header takes what the header lacks.
func (r *rpcReader) header(p []byte) []byte {
	want := 8 // the number and the first size
	if len(r.head) >= 4 {
		segments := int64(binary.LittleEndian.Uint32(r.head)) + 1
		if segments > rpcSegmentsMax {
			r.lose()
			return nil
		}
		want = int(segments/2+1) * 8
	}
	if len(r.head) < 4 {
		want = 4
	}
	take := min(want-len(r.head), len(p))
	r.head = append(r.head, p[:take]...)
	if len(r.head) == want && want > 4 {
		segments := int(binary.LittleEndian.Uint32(r.head)) + 1
		for i := range segments {
			r.left += 8 * int64(binary.LittleEndian.Uint32(r.head[4+4*i:]))
		}
		r.head, r.at = r.head[:0], 0
	}
	return p[take:]
}

// body takes what belongs to the segments, and keeps of it what tells the kind.
func (r *rpcReader) body(p []byte) []byte {
	take := int(min(r.left, int64(len(p))))
	r.keep(r.root[:], 0, p[:take])
	if r.at+int64(take) >= 8 {
		if offset, ok := r.rootOffset(); ok {
			r.keep(r.kind[:], 8+offset, p[:take])
		}
	}
	r.left -= int64(take)
	r.at += int64(take)
	if r.left == 0 {
		_, ok := r.rootOffset()
		r.session.saw(binary.LittleEndian.Uint16(r.kind[:]), ok)
		r.lost = r.lost || !ok
	}
	return p[take:]
}

// keep copies those bytes of p that belong at a place of the message into to.
func (r *rpcReader) keep(to []byte, place int64, p []byte) {
	for i := range to {
		if from := place + int64(i) - r.at; from >= 0 && from < int64(len(p)) {
			to[i] = p[from]
		}
	}
}

// rootOffset is how many bytes lie between the root pointer and its struct; false
// if it points to another segment.
func (r *rpcReader) rootOffset() (int64, bool) {
	pointer := binary.LittleEndian.Uint64(r.root[:])
	offset := int64(int32(uint32(pointer))>>2) * 8
	return offset, pointer&3 == 0 && offset >= 0
}

func (r *rpcReader) lose() {
	r.lost = true
	r.session.saw(0, false)
}

// tunnel is a connection whose reads are read along.
type tunnel struct {
	io.Reader
	io.WriteCloser
}

// retireWithDeployment retires a session once the script has another deployment in
// force than it had, until ctx ends.
func (g *Gateway) retireWithDeployment(ctx context.Context, s *rpcSession, sc *script) {
	key := scriptKey{sc.AccountID, sc.Name}
	for {
		t := g.table.Load()
		if now := t.script(key); now == nil || now.DeploymentID != sc.DeploymentID {
			s.retire()
			return
		}
		select {
		case <-t.replaced:
		case <-ctx.Done():
			return
		}
	}
}
