package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"tidegate/schema"
)

// Bounds of what the Worker beside the user's sends, which the user's code fills.
const (
	itemEntriesMax = 10_000  // logs, exceptions, and arguments of all logs, of one invocation
	itemNameMax    = 1 << 10 // characters of an entry point's, an outcome's or an object's name
)

// traceItem is one line of the sink's body: the members of workerd's TraceItem that
// router.js passes on.
type traceItem struct {
	Event           traceEvent       `json:"event"`
	EventTimestamp  float64          `json:"eventTimestamp"`
	Outcome         string           `json:"outcome"`
	ExecutionModel  string           `json:"executionModel"`
	Entrypoint      string           `json:"entrypoint"`
	DurableObjectID string           `json:"durableObjectId"`
	Truncated       bool             `json:"truncated"`
	Exceptions      []traceException `json:"exceptions"`
	Logs            []traceLog       `json:"logs"`
}

type traceException struct {
	Name      string          `json:"name"`
	Message   json.RawMessage `json:"message"` // a string, as a rule
	Stack     string          `json:"stack"`
	Timestamp float64         `json:"timestamp"`
}

type traceLog struct {
	Level     string          `json:"level"`
	Message   json.RawMessage `json:"message"` // a list of the call's arguments, as a rule
	Timestamp float64         `json:"timestamp"`
}

// decodeInvocation reads one line of the sink's body. What it returns shares no
// memory with line and is within the dataset's bounds.
func decodeInvocation(line []byte) (schema.Invocation, error) {
	var item traceItem
	if err := json.Unmarshal(line, &item); err != nil {
		return schema.Invocation{}, fmt.Errorf("decode an invocation: %w", err)
	}
	switch {
	case item.Outcome == "":
		return schema.Invocation{}, errors.New("decode an invocation: it has no outcome")
	case item.EventTimestamp <= 0 || item.EventTimestamp > 1e15:
		return schema.Invocation{}, fmt.Errorf("decode an invocation: its time is %v", item.EventTimestamp)
	case len(item.Exceptions) > itemEntriesMax || len(item.Logs) > itemEntriesMax:
		return schema.Invocation{}, fmt.Errorf("decode an invocation: %d exceptions and %d log lines are more than %d",
			len(item.Exceptions), len(item.Logs), itemEntriesMax)
	}
	for _, name := range [...]string{item.Outcome, item.ExecutionModel, item.Entrypoint, item.DurableObjectID} {
		if utf8.RuneCountInString(name) > itemNameMax {
			return schema.Invocation{}, fmt.Errorf("decode an invocation: a name has more than %d characters", itemNameMax)
		}
	}
	inv := schema.Invocation{
		TimestampMs: int64(item.EventTimestamp), Outcome: item.Outcome,
		Entrypoint: item.Entrypoint, ExecutionModel: item.ExecutionModel, DurableObjectID: item.DurableObjectID,
		Truncated: item.Truncated,
	}
	if err := setEvent(&inv, &item.Event); err != nil {
		return schema.Invocation{}, err
	}
	budget := budget{left: textBudget}
	inv.Exceptions = budget.exceptions(item.Exceptions)
	inv.Logs = budget.logs(item.Logs)
	return inv, nil
}

// traceEvent holds the members of every shape of workerd's event; which are there
// tells the type.
type traceEvent struct {
	Request *struct {
		URL    string `json:"url"`
		Method string `json:"method"`
		Ray    string `json:"ray"` // ours: the header Cf-Ray
	} `json:"request"`
	Response *struct {
		Status int `json:"status"`
	} `json:"response"`

	Cron          *string         `json:"cron"`
	ScheduledTime json.RawMessage `json:"scheduledTime"` // ms, or of an alarm a date

	Queue     *string `json:"queue"`
	BatchSize int64   `json:"batchSize"`

	MailFrom *string `json:"mailFrom"`
	RcptTo   string  `json:"rcptTo"`
	RawSize  int64   `json:"rawSize"`

	ConsumedEvents *[]struct {
		ScriptName *string `json:"scriptName"`
	} `json:"consumedEvents"`

	RPCMethod *string         `json:"rpcMethod"`
	WebSocket json.RawMessage `json:"webSocket"`
}

// setEvent finds the event's type by its shape and gives it the dataset's member
// names (reference/logpush.md, section 5.4).
func setEvent(inv *schema.Invocation, e *traceEvent) error {
	at, err := scheduledTime(e.ScheduledTime)
	if err != nil {
		return err
	}
	var event any
	switch {
	case e.Request != nil:
		inv.EventType = "fetch"
		// A Durable Object is often called with the request of the Worker that calls
		// it, headers and all; it is not what the gateway passed on.
		if inv.ExecutionModel == executionStateless && len(e.Request.Ray) <= itemNameMax {
			inv.RayID = e.Request.Ray
		}
		f := schema.FetchEvent{Request: schema.FetchRequest{URL: e.Request.URL, Method: e.Request.Method}}
		if e.Response != nil {
			f.Response = &schema.FetchResponse{Status: e.Response.Status}
		}
		inv.Event = f.AppendJSON(nil)
		return nil
	case e.Cron != nil:
		inv.EventType = "scheduled"
		event = struct {
			Cron            string
			ScheduledTimeMs int64
		}{*e.Cron, at}
	case e.ScheduledTime != nil:
		inv.EventType = "alarm"
		event = struct{ ScheduledTimeMs int64 }{at}
	case e.Queue != nil:
		inv.EventType = "queue"
		event = struct {
			Queue     string
			BatchSize int64
		}{*e.Queue, e.BatchSize}
	case e.MailFrom != nil:
		inv.EventType = "email"
		event = struct {
			MailFrom, RcptTo string
			RawSize          int64
		}{*e.MailFrom, e.RcptTo, e.RawSize}
	case e.ConsumedEvents != nil:
		inv.EventType = "tail"
		type consumed struct{ ScriptName *string }
		list := make([]consumed, 0, len(*e.ConsumedEvents))
		for _, c := range *e.ConsumedEvents {
			list = append(list, consumed{c.ScriptName})
		}
		event = struct{ ConsumedEvents []consumed }{list}
	case e.RPCMethod != nil:
		inv.EventType = "worker_rpc"
		event = struct {
			RPCMethod string `json:"rpcMethod"` // the one lower-case member of the dataset
		}{*e.RPCMethod}
	case len(e.WebSocket) > 0:
		inv.EventType = "hibernatable_web_socket"
		event = struct{}{} // the dataset documents no members
	default:
		return errors.New("decode an invocation: its event has no known shape")
	}
	inv.Event, err = json.Marshal(event)
	return err
}

// executionStateless is the ExecutionModel of what runs in no object.
const executionStateless = "stateless"

// scheduledTime reads milliseconds or a date; absent is 0.
func scheduledTime(raw json.RawMessage) (int64, error) {
	if len(raw) == 0 {
		return 0, nil
	}
	if raw[0] == '"' {
		var t time.Time
		if err := json.Unmarshal(raw, &t); err != nil {
			return 0, fmt.Errorf("decode an invocation's scheduled time: %w", err)
		}
		return t.UnixMilli(), nil
	}
	var ms float64
	if err := json.Unmarshal(raw, &ms); err != nil {
		return 0, fmt.Errorf("decode an invocation's scheduled time: %w", err)
	}
	if ms < -1e15 || ms > 1e15 {
		return 0, fmt.Errorf("decode an invocation's scheduled time: %v is none", ms)
	}
	return int64(ms), nil
}

// The dataset bounds the text of an event, and marks what it cuts
// (reference/logpush.md, section 5.6).
const (
	textBudget         = 16_384 // characters
	exceptionTruncated = schema.ExceptionTruncated
	logTruncated       = schema.LogTruncated
	stackMax           = schema.StackRunesMax
)

// budget is spent in this order: names of exceptions, their messages, logs.
type budget struct {
	left      int // characters
	arguments int // of logs, so far: empty ones cost no characters
}

// take returns s, or as much of it as is left, and whether that was all.
func (b *budget) take(s string) (string, bool) {
	if n := utf8.RuneCountInString(s); n <= b.left {
		b.left -= n
		return s, true
	}
	s = firstRunes(s, b.left)
	b.left = 0
	return s, false
}

func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

func (b *budget) exceptions(in []traceException) []schema.Exception {
	out := make([]schema.Exception, 0, min(len(in), textBudget))
	cut := false
	for _, e := range in {
		name, whole := b.take(e.Name)
		out = append(out, schema.Exception{Name: name, TimestampMs: int64(e.Timestamp), Stack: firstRunes(e.Stack, stackMax)})
		if !whole {
			cut = true
			break
		}
	}
	for i := range out {
		message, whole := b.take(plainText(in[i].Message))
		out[i].Message = message
		if !whole {
			out[i].Message += exceptionTruncated
			return out[:i+1]
		}
	}
	if cut {
		out[len(out)-1].Message += exceptionTruncated
	}
	return out
}

func (b *budget) logs(in []traceLog) []schema.Log {
	out := make([]schema.Log, 0, min(len(in), textBudget))
	for _, l := range in {
		entry := schema.Log{Level: firstRunes(l.Level, itemNameMax), TimestampMs: int64(l.Timestamp), Message: []json.RawMessage{}}
		for _, arg := range arguments(l.Message) {
			text, whole := b.take(plainText(arg))
			if b.arguments++; !whole || b.arguments > itemEntriesMax {
				entry.Message = append(entry.Message, schema.AppendString(nil, text+logTruncated))
				return append(out, entry)
			}
			entry.Message = append(entry.Message, bytes.Clone(arg))
		}
		out = append(out, entry)
	}
	return out
}

// arguments returns the elements of a list, or the one thing that is none.
func arguments(raw json.RawMessage) []json.RawMessage {
	var list []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &list) == nil {
		return list // nothing, and null, is no argument
	}
	return []json.RawMessage{raw}
}

// plainText returns the text of a JSON string, or other JSON as it is; nothing is "".
func plainText(raw json.RawMessage) string {
	var s string
	if len(raw) > 0 && raw[0] == '"' && json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}
