package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"tidegate/internal/deploy"
)

// feed is a source of events that a test speaks through.
type feed struct {
	mu       sync.Mutex
	watchers map[int]watcher
	next     int
	changed  chan struct{} // closed and replaced when somebody comes or goes
}

type watcher struct {
	account, script string
	deliver         func(deploy.TailMessage)
}

func newFeed() *feed { return &feed{watchers: map[int]watcher{}, changed: make(chan struct{})} }

func (f *feed) change(what func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	what()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) Tail(ctx context.Context, accountID, script string, deliver func(deploy.TailMessage)) error {
	if script == "broken" {
		return errors.New("the feed is broken")
	}
	var id int
	f.change(func() {
		id, f.next = f.next, f.next+1
		f.watchers[id] = watcher{accountID, script, deliver}
	})
	<-ctx.Done()
	f.change(func() { delete(f.watchers, id) })
	return ctx.Err()
}

func (f *feed) Follow(ctx context.Context, accountID string, deliver func(deploy.TailMessage)) error {
	return f.Tail(ctx, accountID, "", deliver)
}

// delivered is a message as feeds make it.
func delivered(m deploy.TailMessage) deploy.TailMessage {
	if m.Notice == "" {
		return deploy.NewTailMessage(m.ClientIP, m.Value)
	}
	return m
}

// sendTo delivers to those who follow a whole account.
func (f *feed) sendTo(accountID string, m deploy.TailMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m = delivered(m)
	for _, w := range f.watchers {
		if w.account == accountID && w.script == "" {
			w.deliver(m)
		}
	}
}

func (f *feed) send(m deploy.TailMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m = delivered(m)
	for _, w := range f.watchers {
		if w.account == account && w.script == "shop" {
			w.deliver(m)
		}
	}
}

// await waits until n people watch.
func (f *feed) await(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(time.Minute)
	for {
		f.mu.Lock()
		now, changed := len(f.watchers), f.changed
		f.mu.Unlock()
		if now == n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d people watch, want %d", now, n)
		}
	}
}

type tailAnswer struct {
	ID        string    `json:"id"`
	URL       string    `json:"url"`
	ExpiresAt time.Time `json:"expires_at"`
}

// newTail makes a tail as wrangler does: JSON that is said to be text.
func (p *platform) newTail(t *testing.T, script, body string) tailAnswer {
	t.Helper()
	header := bearer(p.token)
	header.Set("Content-Type", "text/plain;charset=UTF-8")
	a := p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/workers/scripts/"+script+"/tails", header, body)
	var tail tailAnswer
	if err := json.Unmarshal(a.Result, &tail); err != nil || a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	return tail
}

// socket is a viewer's end of a tail.
type socket struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

// watch connects with wrangler's headers and sends its first frame, which has no mask.
func watch(t *testing.T, url string) *socket {
	t.Helper()
	dialer := ws.Dialer{Protocols: []string{"trace-v1"}, Header: ws.HandshakeHeaderHTTP{"Sec-Websocket-Extensions": {"permessage-deflate; client_max_window_bits"}}}
	conn, buffered, hs, err := dialer.Dial(t.Context(), url)
	if err != nil {
		t.Fatalf("connect to %s: %v", url, err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the server may have closed it
	if hs.Protocol != "trace-v1" || len(hs.Extensions) > 0 {
		t.Fatalf("agreed on protocol %q and extensions %v", hs.Protocol, hs.Extensions)
	}
	if buffered == nil {
		buffered = bufio.NewReader(conn)
	}
	s := &socket{t, conn, buffered}
	first := `{"debug":false}`
	s.write(append([]byte{0x81, byte(len(first))}, first...))
	return s
}

func (s *socket) write(raw []byte) {
	s.t.Helper()
	if _, err := s.conn.Write(raw); err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) read() ws.Frame {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		s.t.Fatal(err)
	}
	f, err := ws.ReadFrame(s.in)
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

// text returns the next message.
func (s *socket) text() string {
	s.t.Helper()
	f := s.read()
	if f.Header.OpCode != ws.OpText || !f.Header.Fin || f.Header.Masked {
		s.t.Fatalf("got a frame %+v %q, want a whole text", f.Header, f.Payload)
	}
	return string(f.Payload)
}

// close sends a close frame.
func (s *socket) close() {
	s.t.Helper()
	raw, err := ws.CompileFrame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, "bye"))))
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(raw)
}

func (s *socket) wantClose(code ws.StatusCode) {
	s.t.Helper()
	f := s.read()
	if got, reason := ws.ParseCloseFrameData(f.Payload); f.Header.OpCode != ws.OpClose || got != code || (reason == "") != (code == 0) {
		s.t.Fatalf("got a frame %+v, code %d, %q; want a close with %d", f.Header, got, reason, code)
	}
	s.close()
	if _, err := s.in.ReadByte(); !errors.Is(err, io.EOF) {
		s.t.Errorf("after the close: %v", err)
	}
}

func event(outcome, method, log string) deploy.TailMessage {
	return deploy.TailMessage{ClientIP: "127.0.0.1", Value: fmt.Appendf(nil,
		`{"outcome":%q,"logs":[{"message":[%q]}],"exceptions":[],"event":{"request":{"method":%q,"headers":{}}}}`, outcome, log, method)}
}

func TestViewersGetWhatTheirFiltersLetThrough(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	all := p.newTail(t, "shop", "")
	failures := p.newTail(t, "shop", `{"filters":[{"outcome":["exception","exceededCpu","exceededMemory","unknown"]},{"client_ip":["self"]}]}`)
	if !strings.HasPrefix(all.URL, "ws"+strings.TrimPrefix(p.url, "http")+"/client/v4/tails/") || time.Until(all.ExpiresAt) < 5*time.Hour {
		t.Fatalf("tail %+v", all)
	}
	list := p.call(t, http.MethodGet, "/workers/scripts/shop/tails", "")
	var tails []tailAnswer
	if err := json.Unmarshal(list.Result, &tails); err != nil || len(tails) != 2 || tails[0] != all {
		t.Fatalf("listed %s", list.text)
	}
	a, b := watch(t, all.URL), watch(t, failures.URL)
	again := watch(t, all.URL)
	p.feed.await(t, 3)
	ok, bad := event("ok", "GET", "one"), event("exception", "POST", "two")
	for _, m := range []deploy.TailMessage{ok, {Value: []byte("{broken")}, bad, {Notice: "the feed stands still"}} {
		p.feed.send(m)
	}
	for _, s := range []*socket{a, again} {
		if got := s.text(); got != string(ok.Value) {
			t.Errorf("got %s", got)
		}
	}
	for _, s := range []*socket{a, b, again} {
		if got := s.text(); got != string(bad.Value) {
			t.Errorf("got %s", got)
		}
		var notice struct {
			Logs, Exceptions []struct{}
			Event            struct{ Message, Type string }
		}
		text := s.text()
		if err := json.Unmarshal([]byte(text), &notice); err != nil || notice.Logs == nil || notice.Exceptions == nil ||
			notice.Event.Message != "the feed stands still" || notice.Event.Type != "overload" {
			t.Errorf("notice %s", text)
		}
	}
	const path = "/workers/scripts/shop/tails/"
	if a := p.call(t, http.MethodDelete, path+failures.ID, ""); a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	b.wantClose(ws.StatusNormalClosure)
	p.call(t, http.MethodDelete, path+failures.ID, "").want(t, http.StatusNotFound, 10007, failures.ID)
	p.feed.await(t, 2)
	if err := p.DeleteScript(t.Context(), account, "shop"); err != nil {
		t.Fatal(err)
	}
	a.wantClose(ws.StatusNormalClosure)
	again.wantClose(ws.StatusNormalClosure)
	p.server.WaitForViewers()
}

func TestViewerKeepsItsConnectionAlive(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	s := watch(t, p.newTail(t, "shop", "").URL)
	for _, frame := range []ws.Frame{ws.NewPingFrame([]byte("wrangler tail ping")), ws.MaskFrame(ws.NewPingFrame([]byte("wrangler tail ping")))} {
		raw, err := ws.CompileFrame(frame)
		if err != nil {
			t.Fatal(err)
		}
		s.write(raw)
		if f := s.read(); f.Header.OpCode != ws.OpPong || string(f.Payload) != "wrangler tail ping" {
			t.Errorf("the ping was answered by %+v %q", f.Header, f.Payload)
		}
	}
	s.close()
	if f := s.read(); f.Header.OpCode != ws.OpClose {
		t.Errorf("the close was answered by %+v", f.Header)
	}
	p.feed.await(t, 0)
}

// TestTailEndsWithItsViewer: wrangler that is interrupted does not delete its tail,
// and ten of them kept everybody else from watching the script.
func TestTailEndsWithItsViewer(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	for range deploy.TailsMax {
		p.newTail(t, "shop", "") // nobody has come yet
	}
	list := result[[]tailAnswer](t, p, get, shop+"/tails", "")
	one, same := watch(t, list[0].URL), watch(t, list[0].URL)
	p.feed.await(t, 2)
	if err := one.conn.Close(); err != nil {
		t.Fatal(err)
	}
	p.feed.await(t, 1)
	p.call(t, post, shop+"/tails", "").want(t, http.StatusBadRequest, 10001, "10 tails") // somebody still has it open
	if err := same.conn.Close(); err != nil {
		t.Fatal(err)
	}
	p.feed.await(t, 0)
	p.server.WaitForViewers()
	left := result[[]tailAnswer](t, p, get, shop+"/tails", "")
	if len(left) != deploy.TailsMax-1 || left[0] != list[1] {
		t.Errorf("left %+v", left)
	}
}

func TestBadFramesEndAConnection(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	url := p.newTail(t, "shop", "").URL
	t.Run("frames", func(t *testing.T) { badFrames(t, url) })
	p.feed.await(t, 0)
}

func badFrames(t *testing.T, url string) {
	for name, c := range map[string]struct {
		raw  []byte
		code ws.StatusCode
	}{
		"compressed":       {[]byte{0xc1, 0x01, 'x'}, ws.StatusProtocolError},
		"unknown kind":     {[]byte{0x83, 0x00}, ws.StatusProtocolError},
		"ping in parts":    {[]byte{0x09, 0x00}, ws.StatusProtocolError},
		"long ping":        {[]byte{0x89, 126, 0, 200}, ws.StatusProtocolError},
		"a gigabyte":       {[]byte{0x82, 127, 0, 0, 0, 0, 0x40, 0, 0, 0}, ws.StatusMessageTooBig},
		"65537 bytes once": {[]byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0, 1}, ws.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := watch(t, url)
			s.write(c.raw)
			s.wantClose(c.code)
		})
	}
}

func TestSlowViewerIsToldWhatItMissed(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	s := watch(t, p.newTail(t, "shop", "").URL)
	p.feed.await(t, 1)
	const sent = 32 // far more than a connection and the queue hold
	large := event("ok", "GET", strings.Repeat("x", 1<<20))
	got, missing := 0, 0
	take := func() {
		text := s.text()
		if text == string(large.Value) {
			got++
			return
		}
		var notice struct {
			Event struct{ Message, Type string }
		}
		var n int
		if err := json.Unmarshal([]byte(text), &notice); err != nil || notice.Event.Type != "overload" {
			t.Fatalf("got %.200s", text)
		}
		if _, err := fmt.Sscanf(notice.Event.Message, "%d events are missing", &n); err != nil {
			t.Fatalf("the notice says %q", notice.Event.Message)
		}
		missing += n
	}
	for i := range sent {
		p.feed.send(large)
		if i%4 == 3 { // slow, but not one that takes nothing: such a viewer is sent away
			take()
		}
	}
	for got+missing < sent {
		take()
	}
	if got+missing != sent || missing == 0 {
		t.Errorf("got %d events and was told that %d are missing, of %d", got, missing, sent)
	}
	p.feed.send(event("ok", "GET", "after"))
	if text := s.text(); !strings.Contains(text, `"after"`) {
		t.Errorf("afterwards: %.200s", text)
	}
}

func TestViewersLeaveWithTheServer(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	p.upload(t, "broken", "v1")
	watch(t, p.newTail(t, "broken", "").URL).wantClose(ws.StatusInternalServerError)
	tail := p.newTail(t, "shop", "")
	s := watch(t, tail.URL)
	p.server.StopWaiting()
	s.wantClose(ws.StatusGoingAway)
	p.server.WaitForViewers()
	p.feed.await(t, 0)
	if _, _, _, err := (ws.Dialer{Protocols: []string{"trace-v1"}}).Dial(t.Context(), tail.URL); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("a server that stops let a viewer in: %v", err)
	}
}

func TestOnlyViewersOfLiveTailsAreLetIn(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	url := p.newTail(t, "shop", "").URL
	refused := func(protocol, url, status string) {
		t.Helper()
		dialer := ws.Dialer{}
		if protocol != "" {
			dialer.Protocols = []string{protocol}
		}
		if _, _, _, err := dialer.Dial(t.Context(), url); err == nil || !strings.Contains(err.Error(), status) {
			t.Errorf("protocol %q at %s: %v, want %s", protocol, url, err, status)
		}
	}
	refused("trace-v1", url[:len(url)-1], "404")
	refused("trace-v2", url, "400")
	refused("", url, "400")
	res, err := http.Get("http" + strings.TrimPrefix(url, "ws"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusBadRequest {
		t.Errorf("without a WebSocket: %d", res.StatusCode)
	}
}

// Whoever had the URL of a tail could open it any number of times, and let four
// megabytes wait for each.
func TestTailHasFewViewers(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	tail := p.newTail(t, "shop", "")
	first := watch(t, tail.URL)
	for range 9 {
		watch(t, tail.URL)
	}
	dialer := ws.Dialer{Protocols: []string{"trace-v1"}}
	_, _, _, err := dialer.Dial(t.Context(), tail.URL)
	if refused, ok := errors.AsType[ws.StatusError](err); !ok || int(refused) != http.StatusBadRequest {
		t.Errorf("the eleventh viewer got the error %v", err)
	}
	watch(t, p.newTail(t, "shop", "").URL) // another tail is another matter
	first.close()
	first.read() // the answer
	for deadline := time.Now().Add(time.Minute); ; {
		conn, _, _, err := dialer.Dial(t.Context(), tail.URL)
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("nobody may come for one that left: %v", err)
		}
	}
}

func TestTailURLLeadsBackThroughAProxy(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	header := bearer(p.token)
	header["X-Forwarded-Proto"], header["X-Forwarded-Host"], header["X-Forwarded-For"] = []string{"https"}, []string{"api.example.com"}, []string{"192.0.2.7, 10.0.0.1"}
	a := p.do(t, http.MethodPost, "/client/v4/accounts/"+account+"/workers/scripts/shop/tails", header, `{"filters":[{"client_ip":["self"]}]}`)
	var tail tailAnswer
	if err := json.Unmarshal(a.Result, &tail); err != nil || !strings.HasPrefix(tail.URL, "wss://api.example.com/client/v4/tails/") {
		t.Fatalf("answered %s", a.text)
	}
	list, err := p.store.Tails(t.Context(), account, "shop")
	if err != nil || len(list) != 1 || list[0].Filters[0].ClientIP[0] != "192.0.2.7" {
		t.Errorf("self is %+v, error %v", list, err)
	}
}

func TestTailsAreRefusedByName(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	const path = "/workers/scripts/shop/tails"
	p.call(t, http.MethodPost, "/workers/scripts/none/tails", "{}").want(t, http.StatusNotFound, 10007, "none")
	p.call(t, http.MethodPost, path, `{"filter":[]}`).want(t, http.StatusBadRequest, 10001, "filter is unknown")
	p.call(t, http.MethodPost, path, `{"filters":[{"colour":["red"]}]}`).want(t, http.StatusBadRequest, 10001, "filters[0].colour")
	a := p.call(t, http.MethodPost, path, `{"filters":[{"method":["GET"]},{"sampling_rate":2}]}`)
	a.want(t, http.StatusBadRequest, 10001, "filters[1].sampling_rate is 2")
	if a.Errors[0].Source.Pointer != "/filters/1/sampling_rate" {
		t.Errorf("points at %q", a.Errors[0].Source.Pointer)
	}
	for range deploy.TailsMax {
		p.newTail(t, "shop", "{}")
	}
	p.call(t, http.MethodPost, path, "{}").want(t, http.StatusBadRequest, 10001, "10 tails")
}
