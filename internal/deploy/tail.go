package deploy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
	"tidegate/schema/control"
)

// Bounds of tails (reference/deployments.md, section 4.9, has the ten).
const (
	TailsMax       = 10 // of one script at a time
	TailLifetime   = 6 * time.Hour
	tailFiltersMax = 32
	tailValuesMax  = 100  // in one filter
	tailTextMax    = 1024 // bytes of one value
)

// Tail lets one person watch the events of a script until it is deleted or
// expires. It is immutable.
type Tail struct {
	ID        string // 32 hex digits
	AccountID string
	Script    string
	// Secret is in the URL of its WebSocket, and opens it. In a list it is another one for
	// each who asks.
	Secret    string
	Holder    control.Holder // of the address that opened it; in a list, who made it
	Filters   []TailFilter
	CreatedOn time.Time
	ExpiresOn time.Time
}

// TailMessage is what comes to those who watch: one event or one notice.
type TailMessage struct {
	ClientIP string // of the request; empty where there is none
	Value    []byte // of an event: JSON, not to be changed
	Notice   string // a sentence about the feed itself, such as that it stands still

	// What Value is read as, once for all who watch and only if one of them asks. Either
	// is set with Value, and safe for concurrent use; what they return is not to be changed.
	TailEvent  func() (TailEvent, error)          // a message of the trace-v1 protocol
	TraceEvent func() (*schema.TraceEvent, error) // a trace event
}

// NewTailMessage returns the message of an event.
func NewTailMessage(clientIP string, value []byte) TailMessage {
	return TailMessage{
		ClientIP: clientIP, Value: value,
		TailEvent: sync.OnceValues(func() (TailEvent, error) { return DecodeTailEvent(value) }),
		TraceEvent: sync.OnceValues(func() (*schema.TraceEvent, error) {
			e := new(schema.TraceEvent)
			return e, schema.DecodeEvent(value, e)
		}),
	}
}

// TailFilter lets events through for which all of its members hold. Clients set
// one member in each of several filters, which must all let an event through.
type TailFilter struct {
	SamplingRate  *float64    `json:"sampling_rate,omitempty"` // share of events
	Outcome       []string    `json:"outcome,omitempty"`
	Method        []string    `json:"method,omitempty"`
	Header        *TailHeader `json:"header,omitempty"`
	ClientIP      []string    `json:"client_ip,omitempty"` // addresses, or TailSelf
	Query         *string     `json:"query,omitempty"`     // text of a log message
	ScriptVersion *string     `json:"scriptVersion,omitempty"`
}

// TailHeader asks for a request header.
type TailHeader struct {
	Key   string  `json:"key"`
	Query *string `json:"query,omitempty"` // text of its value; nil: whatever it is
}

// TailSelf stands for the address of whoever made the tail.
const TailSelf = "self"

// outcomeUnknown is also wrangler's word for every outcome that it has no other for.
const outcomeUnknown = "unknown"

// Outcomes are those that the runtime names (reference/deployments.md, 13.1): what a filter may ask for.
var Outcomes = []string{
	"ok", "canceled", "exception", "exceededCpu", "exceededMemory", outcomeUnknown, "killSwitch", "daemonDown", "scriptNotFound",
	"loadShed", "responseStreamDisconnected", "internalError", "exceededWallTime", "aborted",
}

// CheckTailFilters names the first member that cannot be honoured, and puts self,
// the caller's address, where a filter says so. self may be empty.
func CheckTailFilters(filters []TailFilter, self string) error {
	if len(filters) > tailFiltersMax {
		return errs.New(errs.Invalid, 0, "filters has %d entries: at most %d are allowed", len(filters), tailFiltersMax).At("/filters")
	}
	for i := range filters {
		if err := filters[i].check(fmt.Sprintf("filters[%d]", i), fmt.Sprintf("/filters/%d", i), self); err != nil {
			return err
		}
	}
	return nil
}

func (f *TailFilter) check(name, at, self string) error {
	fail := func(member, format string, args ...any) error {
		return errs.New(errs.Invalid, 0, name+"."+member+" "+format, args...).At(at + "/" + strings.ReplaceAll(member, ".", "/"))
	}
	if f.empty() {
		return errs.New(errs.Invalid, 0, "%s filters nothing: it must have sampling_rate, outcome, method, header, client_ip, query or scriptVersion", name).At(at)
	}
	if rate := f.SamplingRate; rate != nil && !(*rate > 0 && *rate <= 1) {
		return fail("sampling_rate", "is %v: it must be above 0 and at most 1", *rate)
	}
	for member, values := range map[string][]string{"outcome": f.Outcome, "method": f.Method, "client_ip": f.ClientIP} {
		if values != nil && (len(values) == 0 || len(values) > tailValuesMax) {
			return fail(member, "has %d values: it must have 1 to %d", len(values), tailValuesMax)
		}
	}
	for _, outcome := range f.Outcome {
		if !slices.Contains(Outcomes, outcome) {
			return fail("outcome", "has %.60q: an outcome is %s", outcome, strings.Join(Outcomes, ", "))
		}
	}
	for _, method := range f.Method {
		if method == "" || len(method) > tailTextMax {
			return fail("method", "has %.60q: a method has 1 to %d bytes", method, tailTextMax)
		}
	}
	texts := map[string]*string{"query": f.Query, "scriptVersion": f.ScriptVersion}
	if f.Header != nil {
		texts["header.key"], texts["header.query"] = &f.Header.Key, f.Header.Query
	}
	for member, text := range texts {
		if text != nil && (*text == "" || len(*text) > tailTextMax) {
			return fail(member, "has %d bytes: it must have 1 to %d", len(*text), tailTextMax)
		}
	}
	for i, address := range f.ClientIP {
		if address == TailSelf {
			if self == "" {
				return fail("client_ip", "has %q, and the caller's address is not known: name it", TailSelf)
			}
			f.ClientIP[i] = self
		} else if _, err := netip.ParseAddr(address); err != nil {
			return fail("client_ip", "has %.60q: it must be an IP address or %q", address, TailSelf)
		}
	}
	return nil
}

func (f *TailFilter) empty() bool {
	return f.SamplingRate == nil && f.Outcome == nil && f.Method == nil && f.Header == nil &&
		f.ClientIP == nil && f.Query == nil && f.ScriptVersion == nil
}
