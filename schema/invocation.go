package schema

import "encoding/json"

// Invocation is what the Workers runtime tells of an invocation that has ended,
// waitUntil included. The gateway joins it with the request by RayID.
type Invocation struct {
	// RayID of the request that the gateway passed on; empty for what began inside
	// the runtime, such as an alarm or a call between Workers.
	RayID     string
	EventType string // "fetch", "scheduled", "alarm", "queue", "email", "tail", "worker_rpc", "hibernatable_web_socket"
	// Event for event types other than "fetch", as the dataset has it
	// (reference/logpush.md, section 5.4); for "fetch" a FetchEvent without RayID.
	Event       json.RawMessage
	TimestampMs int64 // when it began
	Entrypoint  string
	// ExecutionModel is "stateless", "durableObject" or "workflow".
	ExecutionModel  string
	DurableObjectID string
	Outcome         string
	// CPUTimeMs is as in TraceEvent.
	CPUTimeMs  *int64
	Exceptions []Exception
	Logs       []Log
	// Truncated says that the runtime left something out of Exceptions or Logs.
	Truncated bool
}

// Marks of what was cut, as the dataset has them (reference/logpush.md, section 5.6), and the
// most characters of a stack trace, which the documented budget leaves out: V8 keeps ten
// frames, whose names are the user's.
const (
	ExceptionTruncated = "<<<Logpush: exception messages truncated>>>"
	LogTruncated       = "<<<Logpush: messages truncated>>>"
	StackRunesMax      = 4096
)
