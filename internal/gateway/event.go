package gateway

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"tidegate/schema"
)

const (
	// eventURLBytesMax bounds the URL in an event. Longer ones are cut: events are
	// for counting and finding requests, not for repeating them.
	eventURLBytesMax    = 8 << 10
	eventHeaderBytesMax = 1 << 10
	redacted            = "REDACTED"
)

// sensitive are the parts of a name whose value may be a secret
// (reference/deployments.md, section 13.2).
var sensitive = []string{"cookie", "auth", "key", "secret", "token", "jwt"}

func isSensitive(name string) bool {
	name = strings.ToLower(name)
	for _, part := range sensitive {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// eventHeader is a request header that events record.
type eventHeader struct {
	name      string // lower case, as in an event
	canonical string // as in http.Header
	redact    bool
	noQuery   bool
}

func compileEventHeaders(names []string) []eventHeader {
	var list []eventHeader
	for _, name := range names {
		name = strings.ToLower(name)
		list = append(list, eventHeader{name, http.CanonicalHeaderKey(name), isSensitive(name), name == "referer"})
	}
	return list
}

// recorder holds what an event is built in, to be used again.
type recorder struct {
	event    schema.TraceEvent
	fetch    schema.FetchEvent
	response schema.FetchResponse
	upstream float64
	wall     int64
	buf      []byte
}

var recorders = sync.Pool{New: func() any {
	return &recorder{fetch: schema.FetchEvent{Request: schema.FetchRequest{Headers: map[string]string{}}}}
}}

// record counts the exchange and emits its trace event.
func (g *Gateway) record(r *http.Request, target string, x *exchange) {
	g.metrics.requests[index(decisions, x.decision)][index(outcomes, x.outcome)].Add(1)
	if g.deps.Emitter == nil {
		return
	}
	rec := recorders.Get().(*recorder)
	defer recorders.Put(rec)
	g.deps.Emitter.Emit(x.script.AccountID, rec.encode(g.headers, r, target, x, time.Since(x.received)))
}

// encode returns the event as a slice of exactly its size: it waits in a queue,
// where a pooled buffer's spare room would cost memory.
func (rec *recorder) encode(headers []eventHeader, r *http.Request, target string, x *exchange, wall time.Duration) []byte {
	request := &rec.fetch.Request
	rec.fetch.RayID, request.Method = x.ray, r.Method
	request.URL = cut(x.client.scheme+"://"+x.client.host+redactQuery(target), eventURLBytesMax)
	clear(request.Headers)
	for _, h := range headers {
		if values := r.Header[h.canonical]; len(values) > 0 {
			request.Headers[h.name] = h.value(values[0])
		}
	}
	rec.fetch.Response = nil
	if x.status != 0 {
		rec.response.Status = x.status
		rec.fetch.Response = &rec.response
	}
	rec.buf = rec.fetch.AppendJSON(rec.buf[:0])
	fetchEnd := len(rec.buf)

	rec.wall = wall.Milliseconds()
	rec.event = schema.TraceEvent{
		Event:            rec.buf[:fetchEnd:fetchEnd],
		EventTimestampMs: x.received.UnixMilli(),
		EventType:        "fetch",
		Outcome:          x.outcome,
		ScriptName:       x.script.Name,
		ScriptTags:       x.script.Tags,
		ScriptVersion:    schema.ScriptVersion{ID: x.version.ID, Message: x.version.Message, Tag: x.version.Tag},
		WallTimeMs:       &rec.wall,
		Gateway:          schema.Gateway{Decision: x.decision, RayID: x.ray},
		ErrorKind:        x.errorKind,
	}
	if x.upstream > 0 {
		rec.upstream = float64(x.upstream.Microseconds()) / 1000
		rec.event.Gateway.UpstreamMs = &rec.upstream
	}
	rec.buf = rec.event.AppendJSON(rec.buf)
	return append(make([]byte, 0, len(rec.buf)-fetchEnd), rec.buf[fetchEnd:]...)
}

func (h *eventHeader) value(v string) string {
	if h.redact {
		return redacted
	}
	if h.noQuery {
		v, _, _ = strings.Cut(v, "?")
	}
	return cut(v, eventHeaderBytesMax)
}

// redactQuery replaces the values of query parameters whose names are sensitive.
func redactQuery(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok || !isSensitive(query) {
		return target
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		if name, _, ok := strings.Cut(pair, "="); ok && isSensitive(name) {
			pairs[i] = name + "=" + redacted
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

func cut(s string, bytesMax int) string { return s[:min(len(s), bytesMax)] }
