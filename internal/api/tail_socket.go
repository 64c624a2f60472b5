package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	// tailFrameBytesMax of what a viewer sends: pings, and a text that asks for nothing.
	tailFrameBytesMax = 64 << 10
	// tailViewersMax of one tail or session on one server. Clients have one; each may let
	// tailQueueBytesMax wait.
	tailViewersMax = 10
	// tailWriteTimeout ends a viewer that takes nothing at all for this long.
	tailWriteTimeout = 10 * time.Second
	// tailCloseTimeout for a viewer to read the reason and close its side. To close
	// ours at once could take the reason back, if something of the viewer's is unread.
	tailCloseTimeout = time.Second
	// codeExpired is of the private range. Any code but 1000 makes wrangler come
	// back with a new tail, which is what its user wants.
	codeExpired = ws.StatusCode(4000)
)

// closing is how a viewer's connection ends.
type closing struct {
	code   ws.StatusCode // 0: without a word
	reason string
	left   bool // it was the viewer who ended it
}

func (c closing) Error() string { return c.reason }

// viewers counts the connections that were switched to WebSockets, which an HTTP
// server no longer knows.
type viewers struct {
	mu      sync.Mutex
	stopped bool
	open    sync.WaitGroup
	of      map[string]int // by the id of what they view
}

// enter refuses when nobody may come any more, or nobody else to this viewing.
func (v *viewers) enter(id string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.stopped:
		return errs.New(errs.Unavailable, 0, "this server is stopping: connect again")
	case v.of[id] == tailViewersMax:
		return errs.New(errs.Invalid, 0, "%d viewers have this open, and more are not allowed: make one of your own", tailViewersMax)
	}
	v.open.Add(1)
	if v.of == nil {
		v.of = make(map[string]int)
	}
	v.of[id]++
	return nil
}

// leave reports whether nobody has it open any more. The caller calls open.Done when
// it has done what follows from that.
func (v *viewers) leave(id string) (last bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of[id]--; v.of[id] > 0 {
		return false
	}
	delete(v.of, id)
	return true
}

func (v *viewers) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
}

// WaitForViewers returns when everybody who watched something was sent away, which
// StopWaiting begins.
func (s *Server) WaitForViewers() { s.viewers.open.Wait() }

// viewing is what a viewer came to see: a tail or a session of instant logs.
type viewing struct {
	id       string // viewers are counted by it
	protocol string // of the WebSocket; empty for none
	log      []any  // who and what, for log lines

	// follow calls deliver for each message, by one goroutine at a time, until ctx ends.
	follow func(ctx context.Context, deliver func(deploy.TailMessage)) error
	// awaitEnd returns how the viewing ends when it does, or ctx.
	awaitEnd func(ctx context.Context) (closing, error)
	// may refuses whoever may not watch any more.
	may func(ctx context.Context) error
	// choose returns what to send of an event, nil for one that is not wanted. Its error
	// is for what is no event.
	choose func(m deploy.TailMessage) ([]byte, error)
	// notice is the message that tells a sentence about the feed.
	notice func(sentence string) []byte
}

// viewer is one connection of one person who watches something.
type viewer struct {
	server *Server
	show   viewing
	conn   net.Conn
	in     *bufio.Reader
	queue  *tailQueue

	writing sync.Mutex // one frame at a time
	over    bool       // the last frame was a close, or did not get through
}

// view serves a WebSocket until one side ends it. It tells after, which still counts
// as being open, how that was and whether it was the last one. An error is about who
// was not let in.
func (s *Server) view(c *gin.Context, show viewing, after func(ctx context.Context, how closing, last bool)) error {
	if err := s.viewers.enter(show.id); err != nil {
		return err
	}
	defer s.viewers.open.Done()
	// Not the request's context as it is: net/http ends it at the first error of a
	// connection that it has given away, before we know the reason.
	ctx := context.WithoutCancel(c.Request.Context())
	how := s.upgradeAndServe(ctx, c, show)
	last := s.viewers.leave(show.id)
	ctx, cancel := context.WithTimeout(ctx, tailWriteTimeout)
	defer cancel()
	after(ctx, how, last)
	return nil
}

// upgradeAndServe returns how the connection ended.
func (s *Server) upgradeAndServe(ctx context.Context, c *gin.Context, show viewing) closing {
	c.Abort()
	c.Status(http.StatusSwitchingProtocols)
	upgrader := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == show.protocol }}
	conn, buffered, _, err := upgrader.Upgrade(c.Request, c.Writer)
	if err != nil { // and the upgrader has answered
		s.log.DebugContext(ctx, "a viewer was not let in", "error", err)
		return closing{reason: "the connection was not switched"}
	}
	v := &viewer{server: s, show: show, conn: conn, in: buffered.Reader, queue: newTailQueue()}
	s.tailViewers.Add(ctx, 1)
	defer s.tailViewers.Add(ctx, -1)
	return v.serve(ctx)
}

// serve runs the viewer's parts until one of them has a reason to end, and returns it.
func (v *viewer) serve(ctx context.Context) closing {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	defer context.AfterFunc(v.server.stopping, func() { end(closing{code: ws.StatusGoingAway, reason: "this server is stopping"}) })()
	var parts sync.WaitGroup
	defer context.AfterFunc(ctx, v.hurry)()
	left := make(chan struct{}) // closed when the viewer has left
	parts.Go(func() {
		defer close(left)
		how := v.read(ctx)
		end(how)
		if !how.left {
			_, _ = io.Copy(io.Discard, v.in) // until bye's deadline: see tailCloseTimeout
		}
	})
	parts.Go(func() {
		how, err := v.show.awaitEnd(ctx)
		if err != nil {
			end(v.failed(ctx, "see whether this goes on", err))
			return
		}
		end(how)
	})
	parts.Go(func() { end(v.awaitRefusal(ctx)) })
	parts.Go(func() {
		err := v.show.follow(ctx, func(m deploy.TailMessage) { v.offer(ctx, m) })
		end(v.failed(ctx, "follow the events", err))
	})
	if err := v.write(ctx); err != nil {
		end(err)
	}
	v.bye(ctx, left)
	parts.Wait()
	if unsent := len(v.queue.take()); unsent > 0 {
		v.server.dropTail(ctx, int64(unsent), "closed")
	}
	how, _ := errors.AsType[closing](context.Cause(ctx))
	return how
}

// awaitRefusal returns when the viewer may not watch any more, or ctx ends.
func (v *viewer) awaitRefusal(ctx context.Context) error {
	ticker := time.NewTicker(v.server.eventHeartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			if err := v.show.may(ctx); err != nil && mustLeave(err) {
				return closing{code: ws.StatusPolicyViolation, reason: "whoever this address was given to may not watch any more"}
			}
		}
	}
}

// failed makes a fault of ours a reason to end, and logs it.
func (v *viewer) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() == nil {
		v.server.log.WarnContext(ctx, "a viewer was sent away", append([]any{"what", what, "error", err}, v.show.log...)...)
	}
	return closing{code: ws.StatusInternalServerError, reason: "the server could not " + what}
}

// offer puts what the viewer wants to see into the queue.
func (v *viewer) offer(ctx context.Context, m deploy.TailMessage) {
	next := queued{notice: m.Notice}
	if m.Notice == "" {
		var err error
		if next.value, err = v.show.choose(m); err != nil {
			v.server.dropTail(ctx, 1, "undecodable")
			return
		}
		if next.value == nil {
			return
		}
	}
	if !v.queue.put(next) {
		v.server.dropTail(ctx, 1, "slow_viewer")
	}
}

// write sends what is queued until ctx ends, or returns why it could not.
func (v *viewer) write(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.queue.ready:
		}
		list := v.queue.take()
		for i, m := range list {
			text := m.value
			if m.notice != "" {
				text = v.show.notice(m.notice)
			}
			if ctx.Err() != nil || v.send(ctx, ws.NewTextFrame(text)) != nil {
				v.server.dropTail(ctx, int64(len(list)-i), "closed")
				return closing{reason: "the viewer is gone, or takes nothing", left: true}
			}
			v.server.tailMessages.Add(ctx, 1)
		}
	}
}

// send writes one frame in one piece.
func (v *viewer) send(ctx context.Context, frame ws.Frame) error {
	var piece bytes.Buffer
	if err := ws.WriteFrame(&piece, frame); err != nil {
		return err
	}
	v.writing.Lock()
	defer v.writing.Unlock()
	if v.over {
		return net.ErrClosed
	}
	// The second one is for a ctx that ended in between: see hurry.
	if err := v.conn.SetWriteDeadline(time.Now().Add(tailWriteTimeout)); err != nil {
		return err
	}
	if ctx.Err() != nil {
		v.hurry()
	}
	_, err := v.conn.Write(piece.Bytes())
	v.over = err != nil || frame.Header.OpCode == ws.OpClose
	return err
}

// hurry ends a write that a viewer holds up, once the connection is to end.
func (v *viewer) hurry() {
	_ = v.conn.SetWriteDeadline(time.Now().Add(tailCloseTimeout)) // fails on a closed connection only
}

// bye ends the connection, and with it read.
func (v *viewer) bye(ctx context.Context, left <-chan struct{}) {
	defer func() { _ = v.conn.Close() }() // whatever comes of it, the connection is over
	why, ok := errors.AsType[closing](context.Cause(ctx))
	if !ok || why.code == 0 || v.send(ctx, ws.NewCloseFrame(ws.NewCloseFrameBody(why.code, why.reason))) != nil {
		return
	}
	if v.conn.SetReadDeadline(time.Now().Add(tailCloseTimeout)) == nil {
		<-left
	}
}

// read answers pings until the viewer leaves, and returns how it did. Nothing else
// that it sends has a meaning. Its frames need no mask: wrangler sends its first
// one without.
func (v *viewer) read(ctx context.Context) closing {
	for {
		header, err := ws.ReadHeader(v.in)
		if err != nil {
			return closing{reason: "the viewer is gone", left: true}
		}
		control := header.OpCode.IsControl()
		switch {
		case header.Rsv != 0 || header.OpCode.IsReserved() || control && (!header.Fin || header.Length > ws.MaxControlFramePayloadSize):
			return closing{code: ws.StatusProtocolError, reason: "this frame is not one that was agreed on"}
		case header.Length > tailFrameBytesMax:
			return closing{code: ws.StatusMessageTooBig, reason: "this frame is too large"}
		}
		payload := make([]byte, header.Length)
		if _, err := io.ReadFull(v.in, payload); err != nil {
			return closing{reason: "the viewer is gone", left: true}
		}
		if header.Masked {
			ws.Cipher(payload, header.Mask, 0)
		}
		switch header.OpCode {
		case ws.OpPing:
			if err := v.send(ctx, ws.NewPongFrame(payload)); err != nil && !errors.Is(err, net.ErrClosed) {
				return closing{reason: "the viewer is gone", left: true}
			}
		case ws.OpClose:
			return closing{code: ws.StatusNormalClosure, left: true}
		}
	}
}
