package deploy

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TailEvent is what filters look at in a trace-v1 message.
type TailEvent struct {
	outcome  string
	version  string
	method   string            // empty unless it was a request
	headers  map[string]string // by names in lower case; nil unless it was a request
	messages []json.RawMessage // of the logs
}

// DecodeTailEvent reads a trace-v1 message. Members that no filter looks at may be
// anything.
func DecodeTailEvent(value []byte) (TailEvent, error) {
	var wire struct {
		Outcome       string `json:"outcome"`
		ScriptVersion *struct {
			ID string `json:"id"`
		} `json:"scriptVersion"`
		Logs []struct {
			Message json.RawMessage `json:"message"`
		} `json:"logs"`
		Event *struct {
			Request *struct {
				Method  string            `json:"method"`
				Headers map[string]string `json:"headers"`
			} `json:"request"`
		} `json:"event"`
	}
	if err := json.Unmarshal(value, &wire); err != nil {
		return TailEvent{}, fmt.Errorf("decode a tail message: %w", err)
	}
	e := TailEvent{outcome: wire.Outcome}
	if wire.ScriptVersion != nil {
		e.version = wire.ScriptVersion.ID
	}
	for _, log := range wire.Logs {
		e.messages = append(e.messages, log.Message)
	}
	if wire.Event != nil && wire.Event.Request != nil {
		e.method = wire.Event.Request.Method
		e.headers = make(map[string]string, len(wire.Event.Request.Headers))
		for name, text := range wire.Event.Request.Headers {
			e.headers[strings.ToLower(name)] = text
		}
	}
	return e, nil
}

// Matches reports whether all filters let the event through. clientIP is the
// address that the request came from, empty if there is none. dice, from 0 to
// below 1, is thrown once for each filter that samples, if the others agree.
func (e *TailEvent) Matches(filters []TailFilter, clientIP string, dice func() float64) bool {
	for i := range filters {
		if !e.matches(&filters[i], clientIP) {
			return false
		}
	}
	for i := range filters {
		if rate := filters[i].SamplingRate; rate != nil && dice() >= *rate {
			return false
		}
	}
	return true
}

func (e *TailEvent) matches(f *TailFilter, clientIP string) bool {
	switch {
	case f.Outcome != nil && !e.hasOutcome(f.Outcome):
		return false
	case f.Method != nil && !slices.ContainsFunc(f.Method, func(m string) bool { return strings.EqualFold(m, e.method) }):
		return false
	case f.Header != nil && !e.hasHeader(f.Header):
		return false
	case f.ClientIP != nil && !sameAddress(f.ClientIP, clientIP):
		return false
	case f.Query != nil && !slices.ContainsFunc(e.messages, func(m json.RawMessage) bool { return strings.Contains(logText(m), *f.Query) }):
		return false
	case f.ScriptVersion != nil && *f.ScriptVersion != e.version:
		return false
	}
	return true
}

// hasOutcome takes "unknown" for the failures that wrangler has no name for, such
// as internalError, too: "--status error" asks for them by that word.
func (e *TailEvent) hasOutcome(wanted []string) bool {
	if slices.Contains(wanted, e.outcome) {
		return true
	}
	switch e.outcome {
	case "ok", "canceled", "exception", "exceededCpu", "exceededMemory", "responseStreamDisconnected": // the last is no failure
		return false
	}
	return slices.Contains(wanted, outcomeUnknown)
}

// hasHeader compares without regard to case: a value may list several, and a
// person at a command line does not know how they were sent.
func (e *TailEvent) hasHeader(wanted *TailHeader) bool {
	text, ok := e.headers[strings.ToLower(wanted.Key)]
	return ok && (wanted.Query == nil || strings.Contains(strings.ToLower(text), strings.ToLower(*wanted.Query)))
}

// sameAddress compares addresses, not their spellings.
func sameAddress(wanted []string, clientIP string) bool {
	from, err := netip.ParseAddr(clientIP)
	if err != nil {
		return false // there is none
	}
	return slices.ContainsFunc(wanted, func(text string) bool {
		address, err := netip.ParseAddr(text)
		return err == nil && address.Unmap() == from.Unmap()
	})
}

// logText is a log message as a console shows it: its values with spaces between,
// text as it is and everything else as JSON.
func logText(message json.RawMessage) string {
	var values []json.RawMessage
	if json.Unmarshal(message, &values) != nil {
		values = []json.RawMessage{message}
	}
	parts := make([]string, len(values))
	for i, value := range values {
		if json.Unmarshal(value, &parts[i]) != nil {
			parts[i] = string(value)
		}
	}
	return strings.Join(parts, " ")
}
