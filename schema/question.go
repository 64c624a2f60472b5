package schema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// EventFilter says which events of a script are meant. Empty lists and zero values
// leave their member open.
type EventFilter struct {
	AccountID, Script string
	Since, Until      time.Time // [Since, Until); only of stored events
	Versions          []string  // ids
	Outcomes          []string
	Decisions         []string
	Methods           []string
	// Statuses are ranges of response statuses, any of which will do; 0 is no response.
	Statuses []StatusRange
	Failed   *bool  // as Failed defines it
	Text     string // part of the URL, in any case
}

// StatusRange is from Low to High, both included.
type StatusRange struct{ Low, High int }

// ParseStatusRange reads 404, 5xx, 400-404 or none.
func ParseStatusRange(text string) (StatusRange, error) {
	if text == "none" {
		return StatusRange{}, nil
	}
	if class, ok := strings.CutSuffix(text, "xx"); ok && len(class) == 1 && class[0] >= '1' && class[0] <= '9' {
		low := int(class[0]-'0') * 100
		return StatusRange{low, low + 99}, nil
	}
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	low, errLow := strconv.ParseUint(first, 10, 16)
	high, errHigh := strconv.ParseUint(last, 10, 16)
	if errLow != nil || errHigh != nil || low < 100 || low > high || high > 999 {
		return StatusRange{}, fmt.Errorf("status %q: it must be a status such as 404, a class such as 5xx, a range such as 400-404, or none", text)
	}
	return StatusRange{int(low), int(high)}, nil
}

// MayMatch is false for the JSON of events that Matches refuses because they are of
// another script. It looks for the script's name only, and decodes nothing.
func (f *EventFilter) MayMatch(value []byte) bool {
	// Names are ASCII without anything that JSON escapes, which may be escaped all the same.
	return bytes.Contains(value, []byte(f.Script)) || bytes.Contains(value, []byte(`\u00`))
}

// Matches reports whether an event that has just come is meant. Times are not looked at.
func (f *EventFilter) Matches(e *TraceEvent) bool {
	any := func(list []string, value string) bool { return len(list) == 0 || slices.Contains(list, value) }
	if e.ScriptName != f.Script || !any(f.Versions, e.ScriptVersion.ID) || !any(f.Outcomes, e.Outcome) || !any(f.Decisions, e.Gateway.Decision) {
		return false
	}
	if len(f.Statuses) == 0 && f.Failed == nil && len(f.Methods) == 0 && f.Text == "" {
		return true
	}
	var request struct {
		Request  struct{ URL, Method string }
		Response struct{ Status int }
	}
	if e.EventType == "fetch" && json.Unmarshal(e.Event, &request) != nil {
		request.Response.Status = 0 // what is no request has none, as in the table
	}
	status := request.Response.Status
	inRange := func(r StatusRange) bool { return r.Low <= status && status <= r.High }
	return (len(f.Statuses) == 0 || slices.ContainsFunc(f.Statuses, inRange)) &&
		(f.Failed == nil || *f.Failed == Failed(e.Outcome, status)) &&
		any(f.Methods, request.Request.Method) &&
		strings.Contains(strings.ToLower(request.Request.URL), strings.ToLower(f.Text))
}

// StoredEvent is one event and where it stands among those of its time.
type StoredEvent struct {
	EventPosition
	Value []byte // the event's JSON
}

// EventPageBytes of events end a page, however few they are: Workers choose how much they log.
const EventPageBytes = 16 << 20

// FullEventPage reports whether events are as many bytes as a page has.
func FullEventPage(list []StoredEvent) bool {
	bytes := 0
	for _, e := range list {
		bytes += len(e.Value)
	}
	return bytes >= EventPageBytes
}

// EventPosition orders events: by time, and where that is equal by their records.
type EventPosition struct {
	Time      time.Time // whole milliseconds
	Partition int
	Offset    int64
}

// String is what ParseEventPosition reads; "" is no position.
func (p EventPosition) String() string {
	if p.Time.IsZero() {
		return ""
	}
	return fmt.Sprintf("%d-%d-%d", p.Time.UnixMilli(), p.Partition, p.Offset)
}

// ParseEventPosition reads what String wrote.
func ParseEventPosition(text string) (p EventPosition, err error) {
	if text == "" {
		return p, nil
	}
	parts := strings.Split(text, "-")
	var numbers [3]int64
	if len(parts) != len(numbers) {
		return p, fmt.Errorf("cursor %q is none that was given out", text)
	}
	for i, part := range parts {
		bits := 63
		if i == 1 {
			bits = 31
		}
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return p, fmt.Errorf("cursor %q is none that was given out", text)
		}
		numbers[i] = int64(n) // #nosec G115 -- at most 63 bits
	}
	if numbers[0] > TimeLatest.UnixMilli() {
		return p, fmt.Errorf("cursor %q is none that was given out", text)
	}
	return EventPosition{time.UnixMilli(numbers[0]).UTC(), int(numbers[1]), numbers[2]}, nil
}

// NewExceptionsBefore is how long before the time that is asked about a kind of exception
// must not have been thrown by the one version to be new in the other.
const NewExceptionsBefore = 24 * time.Hour

// ExceptionQuery asks for the exceptions of a script, by kind.
type ExceptionQuery struct {
	AccountID, Script string
	Since, Until      time.Time // [Since, Until)
	Versions          []string  // ids; empty: all
	// NewIn, if set, is a version that threw the kind while ComparedTo did not, nor had
	// within NewExceptionsBefore Since.
	NewIn, ComparedTo string
	Limit             int
}

// ExceptionGroup is one kind of exception: of one name, message and place. Its message
// has # for numbers and ids, so that kinds do not differ by them.
type ExceptionGroup struct {
	Fingerprint         string // 16 hex digits, the same for the same kind
	Name, Message       string
	Frame               string           // the innermost one of the stack, without line and column; may be empty
	Requests            int64            // that threw it
	Versions            map[string]int64 // requests by version
	FirstSeen, LastSeen time.Time        // within the time that was asked about
	Sample              []byte           // the newest event, as JSON; nil if it has gone meanwhile
}
