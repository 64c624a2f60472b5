package gateway

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/lines"
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

// compileEventHeaders returns a list in the order of names, each of them once.
func compileEventHeaders(names []string) []eventHeader {
	var list []eventHeader
	for _, name := range names {
		name = strings.ToLower(name)
		list = append(list, eventHeader{name, http.CanonicalHeaderKey(name), isSensitive(name), name == "referer"})
	}
	slices.SortFunc(list, func(a, b eventHeader) int { return strings.Compare(a.name, b.name) })
	return slices.Compact(list)
}

// half is what the gateway knows of a request that has ended: all of the event
// for an origin, and the part of it that the Workers runtime does not know.
type half struct {
	script     *script
	version    *version
	decision   string
	rule       int           // of affinity; 0 for none
	caller     deploy.Caller // zero for a client
	ray        string
	entrypoint string // that was called; empty for the default one
	clientIP   string
	receivedMs int64
	wallMs     int64
	upstreamMs float64 // 0 for none
	outcome    string
	errorKind  string
	status     int    // 0 for none
	left       bool   // the client, or the gateway's stop, ended a switched connection
	kept       bool   // by the script's sampling, however it ended
	fetch      []byte // the event's Event
	tail       []byte // the tail message's request, while somebody is watching; else empty
}

// failed reports whether the client was served badly by the backend.
func (h *half) failed() bool {
	return h.outcome != schema.OutcomeOK && h.outcome != schema.OutcomeCanceled
}

// cutOff reports whether the end of the version's process may be what ended the
// exchange: it failed, or the version's side ended a switched connection.
func (h *half) cutOff() bool {
	return h.failed() || h.status == http.StatusSwitchingProtocols && h.outcome == schema.OutcomeOK && !h.left
}

// blame gives an exchange that the runtime has not told of the outcome of its
// process. One that was killed for its resources is to blame for all of them, one that
// died by itself (internalError) for what failed, and one that stopped in peace
// (empty) for nothing.
func (h *half) blame(outcome string) {
	if outcome != "" && h.outcome != schema.OutcomeCanceled && (outcome != schema.OutcomeInternalError || h.cutOff()) {
		h.outcome = outcome
	}
}

// recorder holds what an event is built in, to be used again.
type recorder struct {
	half     half
	event    schema.TraceEvent
	members  []byte // of event that its version has at hand
	url      []byte
	headers  []schema.FetchHeader
	response schema.FetchResponse
	upstream float64
	wall     int64
	buf      []byte
	tail     []byte
}

var recorders = sync.Pool{New: func() any { return new(recorder) }}

// record ends an exchange. Its event is emitted, or, if waiting is set, waits for
// the runtime's half.
func (g *Gateway) record(q asked, target string, x *exchange, waiting *pending) {
	if g.deps.Emitter == nil {
		g.metrics.count(x.decision, x.outcome)
		return
	}
	rec := recorders.Get().(*recorder)
	defer recorders.Put(rec)
	kept := x.script.keepsEvent()
	if !kept && waiting == nil && !x.script.Tailed && !schema.Failed(x.outcome, x.status) {
		if g.leaveOut(rec, q, target, x) {
			return
		}
		kept = true
	}
	h := &rec.half
	if waiting != nil {
		h = &waiting.half
	}
	rec.note(h, g.headers, q, target, x, time.Since(x.received))
	g.noteTail(h, q, rec.url, x)
	h.kept = kept
	if waiting == nil {
		g.emit(rec, h, nil)
		return
	}
	g.joins.finish(waiting)
}

// noteTail keeps what a copy of the event needs beside it, if somebody watches.
func (g *Gateway) noteTail(h *half, q asked, url []byte, x *exchange) {
	if q.whole != nil && g.watched(x.script) { // what somebody watches comes whole
		h.tail = appendTailRequest(h.tail, q.whole, string(url), x)
	}
}

// note fills h from an exchange. Its lists are appended to what h has room for.
func (rec *recorder) note(h *half, selected []eventHeader, q asked, target string, x *exchange, wall time.Duration) {
	rec.url = append(append(append(append(rec.url[:0], x.client.scheme...), "://"...), x.client.host...), redactQuery(target)...)
	method, ip, red := q.method, x.client.ip, x.script.redaction
	if red != nil {
		method, ip = red.text(method), red.clientIP(ip) // a client may invent a method
		rec.url = append(rec.url[:0], red.url(string(rec.url))...)
	}
	rec.url = rec.url[:min(len(rec.url), eventURLBytesMax)]
	rec.headers = rec.headers[:0]
	for i := range selected {
		if values := q.header.Lines(selected[i].canonical); len(values) > 0 {
			rec.headers = append(rec.headers, schema.FetchHeader{Name: selected[i].name, Value: selected[i].value(values[0], red)})
		}
	}
	var response *schema.FetchResponse
	if x.status != 0 {
		rec.response.Status = x.status
		response = &rec.response
	}
	*h = half{
		script: x.script, version: x.version, decision: x.decision, rule: x.rule, caller: x.caller, ray: x.ray, entrypoint: x.entrypoint, clientIP: ip,
		receivedMs: x.received.UnixMilli(), wallMs: wall.Milliseconds(), upstreamMs: float64(x.upstream.Microseconds()) / 1000,
		outcome: x.outcome, errorKind: x.errorKind, status: x.status, left: x.left,
		fetch: schema.AppendFetch(h.fetch[:0], x.ray, lines.View(rec.url), method, rec.headers, response), tail: h.tail[:0],
	}
}

// fill makes the event of both halves, inv being nil where the runtime's is missing.
func (rec *recorder) fill(h *half, inv *schema.Invocation) {
	rec.event = schema.TraceEvent{
		Entrypoint:       h.entrypoint,
		Event:            h.fetch,
		EventTimestampMs: h.receivedMs,
		EventType:        "fetch",
		Outcome:          h.outcome,
		ScriptName:       h.script.Name,
		ScriptTags:       h.script.Tags,
		ScriptVersion:    h.version.stamp(),
		Gateway:          schema.Gateway{Decision: h.decision, RayID: h.ray, AffinityRule: h.rule, CallerScript: h.caller.Script, CallerVersionID: h.caller.VersionID},
		ErrorKind:        h.errorKind,
	}
	rec.members, rec.wall = h.version.members, h.wallMs
	rec.event.WallTimeMs = &rec.wall
	if h.upstreamMs > 0 {
		rec.upstream = h.upstreamMs
		rec.event.Gateway.UpstreamMs = &rec.upstream
	}
	if inv != nil {
		rec.event.Exceptions, rec.event.Logs, rec.event.CPUTimeMs = inv.Exceptions, inv.Logs, inv.CPUTimeMs
	}
}

// encode returns the event as it goes to Kafka. The next one takes its place.
func (rec *recorder) encode() []byte {
	rec.buf = rec.event.AppendJSONOf(rec.buf[:0], rec.members)
	return rec.buf
}

// value is what an event shows of a header. It is redacted before it is cut: a secret at the
// cut would lose the end that its rule needs.
func (h *eventHeader) value(v string, red *redactor) string {
	v = h.uncut(v)
	if red != nil && !h.redact {
		v = red.header(h.name, v)
	}
	return cut(v, eventHeaderBytesMax)
}

// uncut is value in its whole length.
func (h *eventHeader) uncut(v string) string {
	if h.redact {
		return redacted
	}
	if h.noQuery {
		v, _, _ = strings.Cut(v, "?")
	}
	return v
}

// redactQuery replaces the values of query parameters whose names are sensitive.
func redactQuery(target string) string {
	path, query, ok := strings.Cut(target, "?")
	if !ok || !isSensitive(query) && isPlain(query) {
		return target
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, ok := strings.Cut(pair, "=")
		if ok && isSensitive(plain(name)) {
			pairs[i] = name + "=" + redacted
			continue
		}
		pieces := strings.Split(pair, ";") // a border to some programs
		for j, piece := range pieces {
			if name, _, ok := strings.Cut(piece, "="); ok && isSensitive(plain(name)) {
				pieces[j] = name + "=" + redacted
			}
		}
		pairs[i] = strings.Join(pieces, ";")
	}
	return path + "?" + strings.Join(pairs, "&")
}

func cut(s string, bytesMax int) string { return s[:min(len(s), bytesMax)] }
