package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// eventHeartbeatDefault is often enough for proxies, whose patience with a silent connection
// often ends after 30 or 60 s.
const eventHeartbeatDefault = 15 * time.Second

// eventBeatsPerCheck of whether the viewer may still watch: one a minute.
const eventBeatsPerCheck = 4

// written is the result of a handler that has answered by itself.
type written struct{}

// eventStream is one connection that is sent events as they come, as server-sent
// events of these names: event, notice (a sentence about the stream) and heartbeat
// (what was sent and dropped so far).
type eventStream struct {
	frames
	server  *Server
	queue   *tailQueue
	check   func() error // whether the viewer may still watch: mayStill
	sent    int64
	dropped atomic.Int64
}

// watchEvents streams the events of a script that a filter lets through, from now on.
func (s *Server) watchEvents(r *request) (any, error) {
	f, err := s.eventFilter(r)
	if err != nil {
		return nil, err
	}
	if s.deps.LiveEvents == nil {
		return nil, errs.New(errs.Unavailable, 0, "events cannot be watched: this server was started without Kafka")
	}
	id := "events of " + r.account
	if err := s.viewers.enter(id); err != nil {
		return nil, err
	}
	defer s.viewers.open.Done()
	defer s.viewers.leave(id)
	to := r.stream()
	s.tailViewers.Add(r.ctx, 1)
	defer s.tailViewers.Add(r.ctx, -1)
	e := &eventStream{server: s, frames: to, queue: newTailQueue(), check: func() error { return s.mayStill(r) }}
	e.serve(r.ctx, &f)
	to.end()
	return written{}, nil
}

// mayStill admits a request again, by what opens it now: sessions end, and people lose roles.
func (s *Server) mayStill(r *request) error {
	who, err := s.authenticate(r.ctx, r.gin.Request)
	if err != nil {
		return err
	}
	if err := s.bind(r.ctx, who, r.account); err != nil {
		return err
	}
	return r.access.check(who.rights, r.account)
}

// mustLeave says which errors of mayStill send a viewer away. Where a database is out for a
// moment they may stay.
func mustLeave(err error) bool {
	switch errs.KindOf(err) {
	case errs.Unauthorized, errs.Forbidden, errs.NotFound, errs.Limited:
		return true
	default:
		return false
	}
}

// serve ends when the viewer leaves, takes nothing or may no longer watch, or the server stops.
func (e *eventStream) serve(ctx context.Context, f *schema.EventFilter) {
	ctx, end := context.WithCancel(ctx)
	var feed sync.WaitGroup
	defer func() {
		end()
		feed.Wait()
		if unsent := len(e.queue.take()); unsent > 0 {
			e.server.dropTail(context.WithoutCancel(ctx), int64(unsent), "closed")
		}
	}()
	broken := make(chan error, 1)
	feed.Go(func() {
		if err := e.server.deps.LiveEvents.Follow(ctx, f.AccountID, func(m deploy.TailMessage) { e.offer(ctx, f, m) }); ctx.Err() == nil {
			broken <- err
		}
	})
	heartbeat := time.NewTicker(e.server.eventHeartbeat)
	defer heartbeat.Stop()
	ok := e.beat()
	for beats := 0; ok; {
		select {
		case <-ctx.Done():
			return
		case <-e.server.stopping.Done():
			e.notice("this server is stopping: connect again")
			return
		case err := <-broken:
			e.server.log.WarnContext(ctx, "a viewer of events was sent away", "account", f.AccountID, "script", f.Script, "error", err)
			e.notice("the server could not follow the events: connect again")
			return
		case <-heartbeat.C:
			if beats++; beats%eventBeatsPerCheck == 0 {
				if err := e.check(); err != nil && mustLeave(err) {
					e.notice(err.Error())
					return
				}
			}
			ok = e.beat()
		case <-e.queue.ready:
			ok = e.drain(ctx)
		}
	}
}

// offer puts an event into the queue if it is wanted.
func (e *eventStream) offer(ctx context.Context, f *schema.EventFilter, m deploy.TailMessage) {
	next := queued{notice: m.Notice}
	if m.Notice == "" {
		if !f.MayMatch(m.Value) { // most are of other scripts
			return
		}
		event, err := m.TraceEvent()
		if err != nil {
			e.server.dropTail(ctx, 1, "undecodable")
			return
		}
		if !f.Matches(event) {
			return
		}
		next.value = m.Value
	}
	if !e.queue.put(next) {
		e.dropped.Add(1)
		e.server.dropTail(ctx, 1, "slow_viewer")
	}
}

// drain sends what is queued, and reports whether the viewer takes it.
func (e *eventStream) drain(ctx context.Context) bool {
	list := e.queue.take()
	for i, m := range list {
		var ok bool
		if m.notice != "" {
			ok = e.notice(m.notice) && e.beat() // a notice may be about events that are missing
		} else if ok = e.send("event", m.value); ok {
			e.sent++
		}
		if !ok {
			e.server.dropTail(ctx, int64(len(list)-i), "closed")
			return false
		}
		e.server.tailMessages.Add(ctx, 1)
	}
	return true
}

func (e *eventStream) beat() bool {
	text, err := json.Marshal(struct {
		At      timestamp `json:"at"`
		Sent    int64     `json:"sent"`
		Dropped int64     `json:"dropped"`
	}{timestamp(e.server.now()), e.sent, e.dropped.Load()})
	return err == nil && e.send("heartbeat", text)
}

func (e *eventStream) notice(sentence string) bool {
	text, err := json.Marshal(struct {
		Message string `json:"message"`
	}{sentence})
	return err == nil && e.send("notice", text)
}

// frames are an answer that is sent as server-sent events.
type frames struct {
	to      http.ResponseWriter
	control *http.ResponseController
}

// stream begins such an answer.
func (r *request) stream() frames {
	header := r.gin.Writer.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("X-Accel-Buffering", "no") // nginx would hold events back
	return frames{r.gin.Writer, http.NewResponseController(r.gin.Writer)}
}

// end is for the connection's next request, if there is one.
func (f frames) end() { _ = f.control.SetWriteDeadline(time.Time{}) }

// send writes one server-sent event whose data is JSON, on one line, and reports
// whether the viewer took it.
func (f frames) send(name string, data []byte) bool {
	var frame bytes.Buffer
	frame.WriteString("event: " + name + "\ndata: ")
	if json.Compact(&frame, data) != nil {
		return true // it was decoded before
	}
	frame.WriteString("\n\n")
	if f.control.SetWriteDeadline(time.Now().Add(tailWriteTimeout)) != nil {
		return false
	}
	_, err := f.to.Write(frame.Bytes())
	return err == nil && f.control.Flush() == nil
}
