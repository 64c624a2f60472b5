package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	// tailProtocol is the one version of the protocol that there is.
	tailProtocol = "trace-v1"
	// tailFrameBytesMax of what a viewer sends: pings, and a text that asks for nothing.
	tailFrameBytesMax = 64 << 10
	// tailViewersMax of one tail on one server. Clients have one; each may let
	// tailQueueBytesMax wait.
	tailViewersMax = 10
	// tailWriteTimeout ends a viewer that takes nothing at all for this long.
	tailWriteTimeout = 10 * time.Second
	// tailCloseTimeout for a viewer to read the reason and close its side. To close
	// ours at once could take the reason back, if something of the viewer's is unread.
	tailCloseTimeout = time.Second
	// codeTailExpired is of the private range. Any code but 1000 makes wrangler come
	// back with a new tail, which is what its user wants.
	codeTailExpired = ws.StatusCode(4000)
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
	of      map[string]int // by the id of their tail
}

// enter refuses when nobody may come any more, or nobody else to this tail.
func (v *viewers) enter(tailID string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.stopped:
		return errs.New(errs.Unavailable, 0, "this server is stopping: connect again")
	case v.of[tailID] == tailViewersMax:
		return errs.New(errs.Invalid, 0, "%d viewers have this tail open, and more are not allowed: make one of your own", tailViewersMax)
	}
	v.open.Add(1)
	if v.of == nil {
		v.of = make(map[string]int)
	}
	v.of[tailID]++
	return nil
}

// leave reports whether nobody has the tail open any more. The caller calls
// open.Done when it has done what follows from that.
func (v *viewers) leave(tailID string) (last bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of[tailID]--; v.of[tailID] > 0 {
		return false
	}
	delete(v.of, tailID)
	return true
}

func (v *viewers) stop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.stopped = true
}

// WaitForViewers returns when everybody who watched a script was sent away, which
// StopWaiting begins.
func (s *Server) WaitForViewers() { s.viewers.open.Wait() }

// viewer is one connection of one person who watches a script.
type viewer struct {
	server *Server
	tail   deploy.Tail
	conn   net.Conn
	in     *bufio.Reader
	queue  *tailQueue

	writing sync.Mutex // one frame at a time
	over    bool       // the last frame was a close, or did not get through
}

// watchTail serves a tail's WebSocket until one side ends it.
func (s *Server) watchTail(c *gin.Context) {
	tail, err := s.openTail(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	if err := s.viewers.enter(tail.ID); err != nil {
		s.fail(c, err)
		return
	}
	defer s.viewers.open.Done()
	// Not the request's context as it is: net/http ends it at the first error of a
	// connection that it has given away, before we know the reason.
	ctx := context.WithoutCancel(c.Request.Context())
	how := s.upgradeAndServe(ctx, c, tail)
	if s.viewers.leave(tail.ID) && how.left {
		s.endTail(ctx, tail)
	}
}

// endTail deletes a tail that its viewer left: wrangler makes a new one each time
// and, when it is interrupted, does not get to delete the old one. Left alone, ten
// of them would lock people out for hours.
func (s *Server) endTail(ctx context.Context, tail deploy.Tail) {
	ctx, cancel := context.WithTimeout(ctx, tailWriteTimeout)
	defer cancel()
	err := s.deps.Tails.DeleteTail(ctx, tail.AccountID, tail.Script, tail.ID)
	if err != nil && errs.KindOf(err) != errs.NotFound { // it may have been quicker
		s.log.WarnContext(ctx, "a tail that nobody watches stays until it expires", "account", tail.AccountID, "script", tail.Script, "tail", tail.ID, "error", err)
	}
}

// upgradeAndServe returns how the connection ended.
func (s *Server) upgradeAndServe(ctx context.Context, c *gin.Context, tail deploy.Tail) closing {
	c.Abort()
	c.Status(http.StatusSwitchingProtocols)
	upgrader := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == tailProtocol }}
	conn, buffered, _, err := upgrader.Upgrade(c.Request, c.Writer)
	if err != nil { // and the upgrader has answered
		s.log.DebugContext(ctx, "a viewer was not let in", "error", err)
		return closing{reason: "the connection was not switched"}
	}
	v := &viewer{server: s, tail: tail, conn: conn, in: buffered.Reader, queue: newTailQueue()}
	s.tailViewers.Add(ctx, 1)
	defer s.tailViewers.Add(ctx, -1)
	return v.serve(ctx)
}

func (s *Server) openTail(c *gin.Context) (deploy.Tail, error) {
	if s.deps.TailEvents == nil {
		return deploy.Tail{}, errs.New(errs.Unavailable, 0, "scripts cannot be watched: this server was started without Kafka")
	}
	if !strings.EqualFold(c.GetHeader("Upgrade"), "websocket") || !offersTail(c.Request.Header.Values("Sec-WebSocket-Protocol")) {
		return deploy.Tail{}, errs.New(errs.Invalid, 0, "connect here with a WebSocket that offers the subprotocol %s", tailProtocol)
	}
	return s.deps.Tails.OpenTail(c.Request.Context(), c.Param("secret"))
}

func offersTail(lists []string) bool {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if strings.TrimSpace(name) == tailProtocol {
				return true
			}
		}
	}
	return false
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
	parts.Go(func() { end(v.awaitEnd(ctx)) })
	parts.Go(func() {
		err := v.server.deps.TailEvents.Tail(ctx, v.tail.AccountID, v.tail.Script, func(m deploy.TailMessage) { v.offer(ctx, m) })
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

// failed makes a fault of ours a reason to end, and logs it.
func (v *viewer) failed(ctx context.Context, what string, err error) error {
	if ctx.Err() == nil {
		v.server.log.WarnContext(ctx, "a viewer was sent away", "account", v.tail.AccountID, "script", v.tail.Script, "tail", v.tail.ID, "what", what, "error", err)
	}
	return closing{code: ws.StatusInternalServerError, reason: "the server could not " + what}
}

func (v *viewer) awaitEnd(ctx context.Context) error {
	if err := v.server.deps.Tails.AwaitTailEnd(ctx, v.tail); err != nil {
		return v.failed(ctx, "see whether the tail is still there", err)
	}
	if !v.server.now().Before(v.tail.ExpiresOn) {
		return closing{code: codeTailExpired, reason: "the tail has expired: make another one"}
	}
	return closing{code: ws.StatusNormalClosure, reason: "the tail was deleted"}
}

// offer puts what the filters let through into the queue.
func (v *viewer) offer(ctx context.Context, m deploy.TailMessage) {
	passes := true
	switch {
	case m.Notice != "":
	case len(v.tail.Filters) == 0:
		if !json.Valid(m.Value) {
			v.server.dropTail(ctx, 1, "undecodable")
			return
		}
	default:
		e, err := deploy.DecodeTailEvent(m.Value)
		if err != nil {
			v.server.dropTail(ctx, 1, "undecodable")
			return
		}
		passes = e.Matches(v.tail.Filters, m.ClientIP, rand.Float64) // #nosec G404 -- a sample, not a secret
	}
	if !passes {
		return
	}
	next := queued{value: m.Value, notice: m.Notice}
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
				text = v.notice(m.notice)
			}
			if ctx.Err() != nil || v.send(ctx, ws.NewTextFrame(text)) != nil {
				v.server.dropTail(ctx, int64(len(list)-i), "closed")
				return closing{reason: "the viewer is gone, or takes nothing", left: true}
			}
			v.server.tailMessages.Add(ctx, 1)
		}
	}
}

// notice is a message without an event. It has the members that viewers read
// without looking whether they are there.
func (v *viewer) notice(sentence string) []byte {
	type info struct {
		Message string `json:"message"`
		Type    string `json:"type"`
	}
	text, err := json.Marshal(struct {
		Outcome        string     `json:"outcome"`
		ScriptName     string     `json:"scriptName"`
		Exceptions     []struct{} `json:"exceptions"`
		Logs           []struct{} `json:"logs"`
		EventTimestamp int64      `json:"eventTimestamp"`
		Event          info       `json:"event"`
	}{"ok", v.tail.Script, []struct{}{}, []struct{}{}, v.server.now().UnixMilli(), info{sentence, "overload"}})
	if err != nil {
		panic(fmt.Sprintf("api: encode a notice: %v", err)) // plain text and numbers
	}
	return text
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
