package deploy

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

const tailRequest = `{"outcome":"exception","scriptName":"shop","scriptVersion":{"id":"11111111-1111-4111-8111-111111111111","tag":"v1"},
	"exceptions":[],"logs":[{"message":["paid",12,{"order":7}],"level":"log","timestamp":1},{"message":["bye"],"level":"warn","timestamp":2}],
	"eventTimestamp":1,"event":{"request":{"url":"http://a/","method":"POST","headers":{"X-Team":"Red, Blue","accept":"*/*"},"cf":{}},"response":{"status":500}}}`

const tailCron = `{"outcome":"ok","logs":[],"exceptions":[],"eventTimestamp":1,"event":{"cron":"* * * * *","scheduledTime":1}}`

// filtersOf decodes filters as the API does.
func filtersOf(t *testing.T, text string) []TailFilter {
	t.Helper()
	var filters []TailFilter
	if err := json.Unmarshal([]byte(text), &filters); err != nil {
		t.Fatal(err)
	}
	if err := CheckTailFilters(filters, "192.0.2.7"); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return filters
}

func TestTailFilters(t *testing.T) {
	f := func(message, filters string, want bool) {
		t.Helper()
		e, err := DecodeTailEvent([]byte(message))
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Matches(filtersOf(t, filters), "::ffff:192.0.2.7", func() float64 { return 0.5 }); got != want {
			t.Errorf("%s: %v, want %v", filters, got, want)
		}
	}
	f(tailRequest, `[]`, true)
	f(tailRequest, `[{"outcome":["ok","exception"]}]`, true)
	f(tailRequest, `[{"outcome":["ok"]}]`, false)
	f(tailRequest, `[{"outcome":["unknown"]}]`, false)
	f(tailRequest, `[{"method":["get","post"]}]`, true)
	f(tailRequest, `[{"method":["GET"]}]`, false)
	f(tailCron, `[{"method":["GET"]}]`, false)
	f(tailRequest, `[{"header":{"key":"x-TEAM"}}]`, true)
	f(tailRequest, `[{"header":{"key":"x-team","query":"blue"}}]`, true)
	f(tailRequest, `[{"header":{"key":"x-team","query":"green"}}]`, false)
	f(tailRequest, `[{"header":{"key":"x-other"}}]`, false)
	f(tailCron, `[{"header":{"key":"x-team"}}]`, false)
	f(tailRequest, `[{"client_ip":["self"]}]`, true)
	f(tailRequest, `[{"client_ip":["198.51.100.1","192.0.2.7"]}]`, true)
	f(tailRequest, `[{"client_ip":["198.51.100.1"]}]`, false)
	f(tailRequest, `[{"query":"paid 12 {\"order\":7}"}]`, true)
	f(tailRequest, `[{"query":"bye"}]`, true)
	f(tailRequest, `[{"query":"shop"}]`, false) // in the event, in no log
	f(tailCron, `[{"query":"x"}]`, false)
	f(tailRequest, `[{"scriptVersion":"11111111-1111-4111-8111-111111111111"}]`, true)
	f(tailRequest, `[{"scriptVersion":"22222222-2222-4222-8222-222222222222"}]`, false)
	f(tailCron, `[{"scriptVersion":"11111111-1111-4111-8111-111111111111"}]`, false)
	f(tailRequest, `[{"sampling_rate":0.6}]`, true)
	f(tailRequest, `[{"sampling_rate":0.5}]`, false)
	f(tailRequest, `[{"method":["POST"]},{"outcome":["exception"]},{"query":"paid"}]`, true)
	f(tailRequest, `[{"method":["POST"]},{"outcome":["ok"]}]`, false)
	f(tailRequest, `[{"method":["POST"],"outcome":["ok"]}]`, false)
	f(`{"outcome":"internalError"}`, `[{"outcome":["exception","exceededCpu","exceededMemory","unknown"]}]`, true)
	f(`{"outcome":"internalError"}`, `[{"outcome":["ok","canceled"]}]`, false)
	f(`{"outcome":"responseStreamDisconnected"}`, `[{"outcome":["unknown"]}]`, false)
	f(`{"outcome":"responseStreamDisconnected"}`, `[{"outcome":["responseStreamDisconnected"]}]`, true)
}

func TestSamplingKeepsItsShare(t *testing.T) {
	e, err := DecodeTailEvent([]byte(tailRequest))
	if err != nil {
		t.Fatal(err)
	}
	throws, kept := 0, 0
	for range 1000 {
		if e.Matches(filtersOf(t, `[{"sampling_rate":0.25}]`), "", func() float64 { throws++; return float64(throws-1) / 1000 }) {
			kept++
		}
	}
	if kept != 250 || throws != 1000 {
		t.Errorf("%d of 1000 events with %d throws: want 250", kept, throws)
	}
}

func TestTailFiltersAreRefusedByName(t *testing.T) {
	f := func(filters, self, pointer string, parts ...string) {
		t.Helper()
		var list []TailFilter
		if err := json.Unmarshal([]byte(filters), &list); err != nil {
			t.Fatal(err)
		}
		err := CheckTailFilters(list, self)
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != errs.Invalid || e.Pointer != pointer {
			t.Errorf("%s: error %v at %+v, want one at %s", filters, err, e, pointer)
			return
		}
		for _, part := range parts {
			if !strings.Contains(e.Message, part) {
				t.Errorf("%s: %q does not name %s", filters, e.Message, part)
			}
		}
	}
	f(`[{}]`, "", "/filters/0", "filters[0]", "sampling_rate")
	f(`[{"query":"x"},{"sampling_rate":0}]`, "", "/filters/1/sampling_rate", "filters[1].sampling_rate is 0")
	f(`[{"sampling_rate":1.5}]`, "", "/filters/0/sampling_rate", "1.5")
	f(`[{"outcome":[]}]`, "", "/filters/0/outcome", "0 values")
	f(`[{"outcome":["fine"]}]`, "", "/filters/0/outcome", `"fine"`, "exceededMemory")
	f(`[{"method":[""]}]`, "", "/filters/0/method", `""`)
	f(`[{"header":{"key":""}}]`, "", "/filters/0/header/key", "0 bytes")
	f(`[{"header":{"key":"a","query":""}}]`, "", "/filters/0/header/query", "0 bytes")
	f(`[{"client_ip":["nowhere"]}]`, "", "/filters/0/client_ip", `"nowhere"`)
	f(`[{"client_ip":["self"]}]`, "", "/filters/0/client_ip", `"self"`, "not known")
	f(`[{"query":"`+strings.Repeat("x", 1025)+`"}]`, "", "/filters/0/query", "1025")
	f(`[`+strings.Repeat(`{"query":"x"},`, 32)+`{"query":"x"}]`, "", "/filters", "33 entries")
}

// FuzzTailEvent: whatever stands in the topic, looking at it does not panic; what
// is decoded passes when nothing is filtered, and a filter that an event cannot
// meet holds it back.
func FuzzTailEvent(f *testing.F) {
	f.Add([]byte(tailRequest), "paid")
	f.Add([]byte(tailCron), "x")
	f.Add([]byte(`{"event":null,"logs":null,"outcome":"ok"}`), "")
	f.Add([]byte(`{"logs":[{"message":"text"},{"message":{"a":1}},{}]}`), "text")
	f.Fuzz(func(t *testing.T, value []byte, text string) {
		e, err := DecodeTailEvent(value)
		if err != nil {
			return
		}
		if !json.Valid(value) {
			t.Fatalf("%q was decoded and is not JSON", value)
		}
		never := func() float64 { t.Fatal("thrown without a sampling rate"); return 0 }
		if !e.Matches(nil, text, never) {
			t.Fatalf("%q does not pass without a filter", value)
		}
		e.Matches([]TailFilter{{Query: &text}, {Header: &TailHeader{Key: text, Query: &text}}, {Method: []string{text}}, {Outcome: []string{text}}}, text, never)
		if e.Matches([]TailFilter{{ClientIP: []string{"192.0.2.1"}}}, "192.0.2.2", never) {
			t.Fatalf("%q came from another address", value)
		}
	})
}

// The story: each of ten viewers of an account decoded each of its events, one after the
// other, while everybody else's feed waited.
func TestAMessageIsDecodedOnceForAll(t *testing.T) {
	m := NewTailMessage("192.0.2.7", []byte(`{"ScriptName":"shop","Outcome":"ok","EventTimestampMs":1}`))
	one, err := m.TraceEvent()
	if err != nil || one.ScriptName != "shop" {
		t.Fatalf("%+v, %v", one, err)
	}
	viewer := m
	if two, err := viewer.TraceEvent(); err != nil || two != one {
		t.Errorf("it was decoded again: %p, %p, %v", one, two, err)
	}
	m.Value[0] = '!' // what is decoded only now is not JSON
	if _, err := m.TailEvent(); err == nil {
		t.Error("a message that is no JSON has an event")
	}
}
