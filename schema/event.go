// Package schema holds the shapes that every part agrees on: the trace event,
// the table of its fields, the row of a rollup, and the SQL and HTTP contracts.
// It imports the standard library only.
package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Topic is the Kafka topic of trace events. A record's key is empty.
const Topic = "workers_trace_events"

// Kafka record headers.
const (
	HeaderAccount = "account" // account id, 32 hex digits
	HeaderSchema  = "schema"  // version of the event's shape
	// HeaderLogpush is LogpushDisabled on an event that no Logpush job gets, because
	// its script said so when the event began. Others have no such header.
	HeaderLogpush = "logpush"
)

// LogpushDisabled is the one value of HeaderLogpush, that of the script's setting.
const LogpushDisabled = "false"

// EventSchemaVersion is the value of HeaderSchema for the shape in this file.
const EventSchemaVersion = "1"

// Values of Outcome, named as in workerd's outcome.capnp. The set is open:
// readers must accept others.
const (
	OutcomeUnknown                    = "unknown"                    // the runtime did not say
	OutcomeOK                         = "ok"                         // the handler finished, whatever the status
	OutcomeException                  = "exception"                  // an uncaught error
	OutcomeCanceled                   = "canceled"                   // the client went away
	OutcomeResponseStreamDisconnected = "responseStreamDisconnected" // the backend broke off after the response had begun
	OutcomeInternalError              = "internalError"              // the backend could not be reached, or spoke no HTTP
	OutcomeExceededWallTime           = "exceededWallTime"           // the backend did not answer in time
	OutcomeExceededCPU                = "exceededCpu"                // the Worker's process was killed for its CPU time
	OutcomeExceededMemory             = "exceededMemory"             // the Worker's process was killed for its memory
)

// Values of Gateway.Decision: what chose the version.
const (
	DecisionOverride = "override" // the override header
	DecisionAffinity = "affinity" // the version key, sent by the client or derived by a rule
	DecisionSplit    = "split"    // the percentages
	DecisionOnly     = "only"     // there was nothing to choose
	DecisionObject   = "object"   // the assignment of a Durable Object
	DecisionPreview  = "preview"  // a version's own host name, or an alias
)

// Decisions are all of them.
var Decisions = []string{DecisionOverride, DecisionAffinity, DecisionSplit, DecisionOnly, DecisionObject, DecisionPreview}

// Values of ErrorKind: how the backend failed. Empty when it did not.
const (
	ErrorKindConnect  = "connect"  // no connection, also not in time
	ErrorKindDNS      = "dns"      // no address for the name
	ErrorKindTLS      = "tls"      // no trust, or no common protocol
	ErrorKindTimeout  = "timeout"  // no response header in time
	ErrorKindReset    = "reset"    // the connection broke
	ErrorKindProtocol = "protocol" // what came was no HTTP, or more of it than allowed
	// ErrorKindOverloaded is a request that was sent nowhere, because the version had as
	// many in hand as it may.
	ErrorKindOverloaded = "overloaded"
	ErrorKindOther      = "other"
)

// TraceEvent is one invocation: a request as the gateway saw it and what became
// of it, or what began inside the Workers runtime. Field names and meaning are
// those of Cloudflare's workers_trace_events.
type TraceEvent struct {
	// CPUTimeMs is CPU time in whole milliseconds, rounded down; nil where it could not
	// be attributed. Zero was measured.
	CPUTimeMs         *int64          `json:"CPUTimeMs,omitempty"`
	DispatchNamespace string          `json:"DispatchNamespace"`
	Entrypoint        string          `json:"Entrypoint"`
	Event             json.RawMessage `json:"Event"` // a FetchEvent when EventType is "fetch"
	EventTimestampMs  int64           `json:"EventTimestampMs"`
	EventType         string          `json:"EventType"`
	Exceptions        []Exception     `json:"Exceptions"`
	Logs              []Log           `json:"Logs"`
	Outcome           string          `json:"Outcome"`
	ScriptName        string          `json:"ScriptName"`
	ScriptTags        []string        `json:"ScriptTags"`
	ScriptVersion     ScriptVersion   `json:"ScriptVersion"`
	// WallTimeMs is the elapsed time in milliseconds, for a request as the gateway
	// measured it: from its receipt to the end of its response. Work that a Worker
	// does after that (waitUntil) is not in it. Nil where nobody measured.
	WallTimeMs *int64 `json:"WallTimeMs,omitempty"`

	// Gateway and ErrorKind are ours. They leave Tidegate only when a job names them.
	Gateway   Gateway `json:"Gateway"`
	ErrorKind string  `json:"ErrorKind"`
}

// ScriptVersion names the version that served the request.
type ScriptVersion struct {
	ID      string `json:"id"`
	Message string `json:"message"`
	Tag     string `json:"tag"`
}

// Gateway is what only the gateway knows of a request. Decision is empty for an
// invocation that began inside the Workers runtime.
type Gateway struct {
	Decision string `json:"Decision"`
	RayID    string `json:"RayID"`
	// AffinityRule is the number, from 1, of the script's rule that gave the version
	// key; 0 when the client sent it, and for other decisions. The key is not here: it
	// may be the value of a cookie.
	AffinityRule int `json:"AffinityRule,omitempty"`
	// UpstreamMs is the time to the backend's response header in milliseconds;
	// nil when there was none.
	UpstreamMs *float64 `json:"UpstreamMs,omitempty"`
	// CallerScript and CallerVersionID are whose process called through a service binding;
	// empty for the requests of clients, and where nobody knows who called, as with RPC.
	CallerScript    string `json:"CallerScript,omitempty"`
	CallerVersionID string `json:"CallerVersionID,omitempty"`
	// SampledOut is how many further invocations this event stands for, whose own events
	// the script's sampling left out. They are of the same version, began in the same
	// second and had the same event type, caller, decision, outcome and status, and their CPU
	// time was measured if this one's was: what is counted of this event counts
	// 1 + SampledOut times.
	SampledOut int64 `json:"SampledOut,omitempty"`
}

// SampledOutMax is more than any gateway serves in a second.
const SampledOutMax = 1 << 32

// FetchEvent is Event for EventType "fetch".
type FetchEvent struct {
	RayID    string         `json:"RayID"`
	Request  FetchRequest   `json:"Request"`
	Response *FetchResponse `json:"Response,omitempty"` // nil when no response was sent
}

// FetchRequest is the request as the client sent it; Headers holds a selection.
type FetchRequest struct {
	URL     string            `json:"URL"`
	Method  string            `json:"Method"`
	Headers map[string]string `json:"Headers,omitempty"`
}

// FetchResponse is the answer as the client got it.
type FetchResponse struct {
	Status int `json:"Status"`
}

// Exception is an uncaught error of the script.
type Exception struct {
	Name        string `json:"Name"`
	Message     string `json:"Message"`
	TimestampMs int64  `json:"TimestampMs"`
	Stack       string `json:"Stack,omitempty"`
}

// Log is one console call; Message has one element an argument, in call order.
type Log struct {
	Level       string            `json:"Level"`
	Message     []json.RawMessage `json:"Message"`
	TimestampMs int64             `json:"TimestampMs"`
}

// Status returns the HTTP status that the client was sent, and false when there
// was none or the event is not a fetch.
func (e *TraceEvent) Status() (int, bool) {
	if e.EventType != "fetch" || len(e.Event) == 0 {
		return 0, false
	}
	var f struct{ Response *FetchResponse }
	if json.Unmarshal(e.Event, &f) != nil || f.Response == nil {
		return 0, false
	}
	return f.Response.Status, true
}

// Failed reports whether an invocation counts as a failure: its outcome is
// neither ok nor canceled, or the response status (0 for none) is 500 or more.
// The rollups and the rollback policy share this rule.
func Failed(outcome string, status int) bool {
	return (outcome != OutcomeOK && outcome != OutcomeCanceled) || status >= 500
}

// DecodeEvent decodes one record value into e, which it resets first. Unknown
// members are ignored, so that an older reader survives a newer gateway; a value
// without the members that every rollup needs is an error.
func DecodeEvent(value []byte, e *TraceEvent) error {
	*e = TraceEvent{}
	if err := json.Unmarshal(value, e); err != nil {
		return fmt.Errorf("decode trace event: %w", err)
	}
	switch {
	case e.ScriptName == "":
		return errors.New("decode trace event: ScriptName is missing")
	case e.EventTimestampMs <= 0:
		return errors.New("decode trace event: EventTimestampMs is missing")
	case e.Outcome == "":
		return errors.New("decode trace event: Outcome is missing")
	case e.Gateway.SampledOut < 0 || e.Gateway.SampledOut > SampledOutMax:
		return fmt.Errorf("decode trace event: SampledOut is %d, which cannot be", e.Gateway.SampledOut)
	}
	return nil
}

// AppendJSON appends e as one JSON object. Event must hold valid JSON or be
// empty; lists are never null, so that a consumer can index without a check. An
// element of a log message that is no valid JSON is written as a string.
func (e *TraceEvent) AppendJSON(b []byte) []byte { return e.AppendJSONOf(b, nil) }

// AppendJSONOf is AppendJSON for whoever has at hand what AppendScript makes of the
// event's script; it is made anew if it is empty.
func (e *TraceEvent) AppendJSONOf(b, script []byte) []byte {
	if e.CPUTimeMs == nil && e.DispatchNamespace == "" && e.Entrypoint == "" {
		// Fast path - as nearly all events of origins begin.
		b = append(b, `{"DispatchNamespace":"","Entrypoint":"","Event":`...)
	} else {
		b = e.appendBegin(b)
	}
	if len(e.Event) == 0 {
		b = append(b, `{}`...)
	} else {
		b = append(b, e.Event...)
	}
	b = append(b, `,"EventTimestampMs":`...)
	b = appendInt(b, e.EventTimestampMs)
	if e.EventType == "fetch" && e.Outcome == OutcomeOK && len(e.Exceptions) == 0 && len(e.Logs) == 0 {
		// Fast path - and as they go on.
		b = append(b, `,"EventType":"fetch","Exceptions":[],"Logs":[],"Outcome":"ok"`...)
	} else {
		b = e.appendCourse(b)
	}
	if len(script) > 0 {
		b = append(b, script...)
	} else {
		b = AppendScript(b, e.ScriptName, e.ScriptTags, e.ScriptVersion)
	}
	if e.WallTimeMs != nil {
		b = append(b, `,"WallTimeMs":`...)
		b = appendInt(b, *e.WallTimeMs)
	}
	b = appendMember(b, `,"Gateway":{"Decision":`, e.Gateway.Decision)
	b = appendMember(b, `,"RayID":`, e.Gateway.RayID)
	if e.Gateway.AffinityRule != 0 {
		b = append(b, `,"AffinityRule":`...)
		b = appendInt(b, int64(e.Gateway.AffinityRule))
	}
	if e.Gateway.UpstreamMs != nil {
		b = append(b, `,"UpstreamMs":`...)
		b = appendFloat(b, *e.Gateway.UpstreamMs)
	}
	if e.Gateway.CallerVersionID != "" || e.Gateway.CallerScript != "" {
		b = appendCaller(b, &e.Gateway)
	}
	b = appendSampledOut(b, e.Gateway.SampledOut)
	b = appendMember(b, gatewayEnd, e.ErrorKind)
	return append(b, '}')
}

// appendBegin appends what comes before the value of Event.
func (e *TraceEvent) appendBegin(b []byte) []byte {
	b = append(b, '{')
	if e.CPUTimeMs != nil {
		b = append(b, `"CPUTimeMs":`...)
		b = appendInt(b, *e.CPUTimeMs)
		b = append(b, ',')
	}
	b = appendMember(b, `"DispatchNamespace":`, e.DispatchNamespace)
	b = appendMember(b, `,"Entrypoint":`, e.Entrypoint)
	return append(b, `,"Event":`...)
}

// appendCourse appends how the invocation went.
func (e *TraceEvent) appendCourse(b []byte) []byte {
	b = appendMember(b, `,"EventType":`, e.EventType)
	b = append(b, `,"Exceptions":`...)
	b = appendList(b, e.Exceptions, appendException)
	b = append(b, `,"Logs":`...)
	b = appendList(b, e.Logs, appendLog)
	return appendMember(b, `,"Outcome":`, e.Outcome)
}

// AppendScript appends the members that all events of one script and version have in
// common, the comma before them included.
func AppendScript(b []byte, name string, tags []string, v ScriptVersion) []byte {
	b = appendMember(b, `,"ScriptName":`, name)
	b = append(b, `,"ScriptTags":`...)
	b = appendList(b, tags, AppendString)
	b = appendMember(b, `,"ScriptVersion":{"id":`, v.ID)
	b = appendMember(b, `,"message":`, v.Message)
	b = appendMember(b, `,"tag":`, v.Tag)
	return append(b, '}')
}

// gatewayEnd is where an encoded event goes on after the members of Gateway.
const gatewayEnd = `},"ErrorKind":`

func appendCaller(b []byte, g *Gateway) []byte {
	if g.CallerScript != "" {
		b = appendMember(b, `,"CallerScript":`, g.CallerScript)
	}
	if g.CallerVersionID != "" {
		b = appendMember(b, `,"CallerVersionID":`, g.CallerVersionID)
	}
	return b
}

func appendSampledOut(b []byte, n int64) []byte {
	if n == 0 {
		return b
	}
	return appendInt(append(b, `,"SampledOut":`...), n)
}

// WithSampledOut returns a copy of exactly its size of an event that AppendJSON has
// encoded without SampledOut, with it. What comes after Gateway is a name, which cannot hold a quote
// that is not escaped: so the last gatewayEnd is the event's own.
func WithSampledOut(event []byte, n int64) []byte {
	at := bytes.LastIndex(event, []byte(gatewayEnd))
	if at < 0 {
		panic("schema: WithSampledOut of what AppendJSON has not written")
	}
	var member [40]byte
	added := appendSampledOut(member[:0], n)
	b := make([]byte, 0, len(event)+len(added))
	b = append(append(b, event[:at]...), added...)
	return append(b, event[at:]...)
}

// FetchHeader is a header of FetchRequest.Headers.
type FetchHeader struct{ Name, Value string }

// AppendJSON appends f as one JSON object, headers in the order of their names.
func (f *FetchEvent) AppendJSON(b []byte) []byte {
	list := make([]FetchHeader, 0, len(f.Request.Headers))
	for name, value := range f.Request.Headers {
		list = append(list, FetchHeader{name, value})
	}
	slices.SortFunc(list, func(a, b FetchHeader) int { return strings.Compare(a.Name, b.Name) })
	return AppendFetch(b, f.RayID, f.Request.URL, f.Request.Method, list, f.Response)
}

// AppendFetch appends what FetchEvent.AppendJSON does of the same members, without a map:
// the headers must be in the order of their names, each of them once.
func AppendFetch(b []byte, rayID, url, method string, headers []FetchHeader, response *FetchResponse) []byte {
	b = appendMember(b, `{"RayID":`, rayID)
	b = appendMember(b, `,"Request":{"URL":`, url)
	b = appendMember(b, `,"Method":`, method)
	if len(headers) > 0 {
		b = append(b, `,"Headers":{`...)
		for i, h := range headers {
			if i > 0 {
				b = append(b, ',')
			}
			b = AppendString(b, h.Name)
			b = append(b, ':')
			b = AppendString(b, h.Value)
		}
		b = append(b, '}')
	}
	b = append(b, '}')
	if response != nil {
		b = append(b, `,"Response":{"Status":`...)
		b = appendInt(b, int64(response.Status))
		b = append(b, '}')
	}
	return append(b, '}')
}
