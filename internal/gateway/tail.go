package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tidegate/schema"
)

// What people who watch a script get at most. More is for a computer to read, and
// that one reads Logpush.
const (
	tailRate    = 500 // messages a second of one script
	tailTick    = time.Second
	tailForget  = time.Minute // a script without messages is forgotten after it
	overload    = "overload"
	overloadEnd = "overload-stop"
)

var overloadSentences = map[string]string{
	overload:    "This script has more than " + strconv.Itoa(tailRate) + " events a second: from here on you see a sample of them. Add filters, or use Logpush to get them all.",
	overloadEnd: "This script has fewer events again: you see all of them.",
}

// TailEmitter takes copies of events, as messages of the trace-v1 protocol, for
// people who watch a script. It never blocks, may be called concurrently, and keeps
// nothing of value. The address of the client is empty where there is none.
type TailEmitter interface {
	EmitTail(account, script, clientIP string, value []byte)
}

// tails bounds how much goes to those who watch. Its methods may be called concurrently.
type tails struct {
	mu       sync.Mutex
	byScript map[scriptKey]*tailLimit
}

type tailLimit struct {
	limiter    *rate.Limiter
	last       time.Time
	overloaded bool
	dropped    bool // something, since the last tick
}

// allow reports whether a copy of an event may be sent, and the type of a notice
// to send now, if any.
func (t *tails) allow(key scriptKey, now time.Time) (ok bool, notice string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.byScript[key]
	if l == nil {
		if t.byScript == nil {
			t.byScript = map[scriptKey]*tailLimit{}
		}
		l = &tailLimit{limiter: rate.NewLimiter(tailRate, tailRate)}
		t.byScript[key] = l
	}
	l.last = now
	if l.limiter.AllowN(now, 1) {
		return true, ""
	}
	l.dropped = true
	if !l.overloaded {
		l.overloaded, notice = true, overload
	}
	return false, notice
}

// tick returns the scripts that are no longer overloaded, and forgets those that
// nothing has come from for a while.
func (t *tails) tick(now time.Time) (recovered []scriptKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, l := range t.byScript {
		switch {
		case l.dropped:
			l.dropped = false
		case l.overloaded:
			l.overloaded = false
			recovered = append(recovered, key)
		case now.Sub(l.last) >= tailForget:
			delete(t.byScript, key)
		}
	}
	return recovered
}

// watched reports whether a copy of the script's next event is to be sent.
func (g *Gateway) watched(sc *script) bool {
	if !sc.Tailed || g.deps.Tail == nil {
		return false
	}
	key := scriptKey{sc.AccountID, sc.Name}
	ok, notice := g.tails.allow(key, time.Now())
	if notice != "" {
		g.tellWatchers(key, notice)
	}
	if !ok {
		g.metrics.tailDropped.Add(1)
	}
	return ok
}

func (g *Gateway) tellWatchers(key scriptKey, notice string) {
	message := schema.AppendString([]byte(`{"outcome":"ok","scriptName":`), key.name)
	message = append(message, `,"exceptions":[],"logs":[],"eventTimestamp":`...)
	message = strconv.AppendInt(message, time.Now().UnixMilli(), 10)
	message = schema.AppendString(append(message, `,"event":{"message":`...), overloadSentences[notice])
	message = schema.AppendString(append(message, `,"type":`...), notice)
	g.deps.Tail.EmitTail(key.account, key.name, "", append(message, "}}"...))
}

// keepTailing tells those who watch when they see everything again, until ctx ends.
func (g *Gateway) keepTailing(ctx context.Context) {
	tick := time.NewTicker(tailTick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			for _, key := range g.tails.tick(now) {
				g.tellWatchers(key, overloadEnd)
			}
		}
	}
}

// emitTail sends the copy of an event, which rec has just written, with the
// message's own event.
func (g *Gateway) emitTail(rec *recorder, sc *script, clientIP string, event []byte) {
	rec.buf = appendTailMessage(rec.buf[:0], &rec.event, event)
	g.deps.Tail.EmitTail(sc.AccountID, sc.Name, clientIP, rec.buf)
}

// appendTailMessage appends e as a message of trace-v1 (reference/deployments.md,
// section 4.9).
func appendTailMessage(b []byte, e *schema.TraceEvent, event []byte) []byte {
	b = schema.AppendString(append(b, `{"outcome":`...), e.Outcome)
	b = schema.AppendString(append(b, `,"scriptName":`...), e.ScriptName)
	b = schema.AppendString(append(b, `,"scriptVersion":{"id":`...), e.ScriptVersion.ID)
	if e.ScriptVersion.Tag != "" {
		b = schema.AppendString(append(b, `,"tag":`...), e.ScriptVersion.Tag)
	}
	if e.ScriptVersion.Message != "" {
		b = schema.AppendString(append(b, `,"message":`...), e.ScriptVersion.Message)
	}
	b = append(b, `},"entrypoint":`...)
	if e.Entrypoint == "" {
		b = append(b, `null`...)
	} else {
		b = schema.AppendString(b, e.Entrypoint)
	}
	b = append(b, `,"exceptions":[`...)
	for i := range e.Exceptions {
		b = appendTailException(appendComma(b, i), &e.Exceptions[i])
	}
	b = append(b, `],"logs":[`...)
	for i := range e.Logs {
		b = appendTailLog(appendComma(b, i), &e.Logs[i])
	}
	b = strconv.AppendInt(append(b, `],"eventTimestamp":`...), e.EventTimestampMs, 10)
	b = append(append(b, `,"event":`...), event...)
	return append(b, '}')
}

func appendTailException(b []byte, e *schema.Exception) []byte {
	b = schema.AppendString(append(b, `{"name":`...), e.Name)
	b = schema.AppendString(append(b, `,"message":`...), e.Message)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), e.TimestampMs, 10)
	if e.Stack != "" {
		b = schema.AppendString(append(b, `,"stack":`...), e.Stack)
	}
	return append(b, '}')
}

func appendTailLog(b []byte, l *schema.Log) []byte {
	b = append(b, `{"message":[`...)
	for i, m := range l.Message {
		b = schema.AppendRaw(appendComma(b, i), m)
	}
	b = schema.AppendString(append(b, `],"level":`...), l.Level)
	b = strconv.AppendInt(append(b, `,"timestamp":`...), l.TimestampMs, 10)
	return append(b, '}')
}

func appendComma(b []byte, i int) []byte {
	if i > 0 {
		return append(b, ',')
	}
	return b
}

// appendTailRequest appends the request of a fetch with all of its headers, as the
// backend sees it. Secrets are redacted as in events.
func appendTailRequest(b []byte, r *http.Request, url string, x *exchange) []byte {
	b = schema.AppendString(append(b, `{"url":`...), url)
	red := x.script.redaction
	method, ip := r.Method, x.client.ip
	if red != nil {
		method, ip = red.text(method), red.clientIP(ip)
	}
	b = schema.AppendString(append(b, `,"method":`...), method)
	b = schema.AppendString(append(b, `,"headers":{"cf-connecting-ip":`...), ip)
	b = schema.AppendString(append(b, `,"cf-ray":`...), x.ray)
	names := make([]string, 0, len(r.Header))
	for name := range r.Header {
		if name != "Cf-Ray" && name != "Cf-Connecting-Ip" && name != headerBinding {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		h := eventHeader{redact: isSensitive(name), noQuery: name == "Referer"}
		value := h.uncut(strings.Join(r.Header[name], ", "))
		shown := strings.ToLower(name)
		if red != nil && !h.redact {
			shown, value = red.text(shown), red.header(name, value)
		}
		b = schema.AppendString(append(b, ','), shown)
		b = schema.AppendString(append(b, ':'), cut(value, eventHeaderBytesMax))
	}
	return append(b, `},"cf":{}}`...)
}

// appendTailFetch appends the event of a fetch.
func appendTailFetch(b, request []byte, status int) []byte {
	b = append(append(b, `{"request":`...), request...)
	if status != 0 {
		b = append(strconv.AppendInt(append(b, `,"response":{"status":`...), int64(status), 10), '}')
	}
	return append(b, '}')
}

// tailNames are the members of trace-v1's events by those of the dataset's. What
// is not listed has one name in both.
var tailNames = map[string]string{
	"Request": "request", "Response": "response", "URL": "url", "Method": "method", "Headers": "headers", "Status": "status",
	"Cron": "cron", "ScheduledTimeMs": "scheduledTime", "Queue": "queue", "BatchSize": "batchSize",
	"MailFrom": "mailFrom", "RcptTo": "rcptTo", "RawSize": "rawSize", "ConsumedEvents": "consumedEvents",
}

// tailEvent turns the Event of what began inside the runtime into that of
// trace-v1; null if there is none.
func tailEvent(event json.RawMessage) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(event, &members) != nil || len(members) == 0 {
		return json.RawMessage("null")
	}
	delete(members, "RayID")
	named := make(map[string]json.RawMessage, len(members)+1)
	for name, value := range members {
		if other, ok := tailNames[name]; ok {
			if name == "Request" || name == "Response" {
				value = tailEvent(value)
			}
			name = other
		}
		named[name] = value
	}
	if _, ok := named["url"]; ok {
		named["cf"] = json.RawMessage("{}")
		if _, ok := named["headers"]; !ok {
			named["headers"] = json.RawMessage("{}")
		}
	}
	b, err := json.Marshal(named)
	if err != nil {
		return json.RawMessage("null") // what was unmarshalled marshals
	}
	return b
}
