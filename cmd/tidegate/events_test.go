package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// written compares what is written, but for the widths of columns, which follow this
// machine's zone.
func written(t *testing.T, want string, write func(out *strings.Builder)) {
	t.Helper()
	var out strings.Builder
	write(&out)
	got := regexp.MustCompile(" +").ReplaceAllString(out.String(), " ")
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

const (
	thrownEvent = `{"EventTimestampMs":1767225600000,"EventType":"fetch","Outcome":"exception","ScriptName":"shop","ScriptVersion":{"id":"1a2b3c4d-0000-4000-8000-000000000000","tag":"v1"},
		"Event":{"Request":{"URL":"https://shop.example.com/items","Method":"GET"},"Response":{"Status":500}},"WallTimeMs":12,
		"Exceptions":[{"Name":"TypeError","Message":"no\u001b price","Stack":"TypeError: no price\n    at price (index.js:2:3)"}],
		"Logs":[{"Level":"warn","Message":["no price of",7,{"a":1}]}],"Gateway":{"Decision":"split","RayID":"0123456789abcdef"}}`
	scheduledEvent = `{"EventTimestampMs":1767225600000,"EventType":"scheduled","Outcome":"ok","ScriptName":"shop","ScriptVersion":{"id":"5e6f7a8b-0000-4000-8000-000000000000"},"Event":{"Cron":"* * * * *"}}`
	unreachedEvent = `{"EventTimestampMs":1767225600000,"EventType":"fetch","Outcome":"exception","ErrorKind":"connect","ScriptName":"shop","ScriptVersion":{"id":"5e6f7a8b-0000-4000-8000-000000000000"}}`
)

func TestWriteEvents(t *testing.T) {
	stamp := moment(time.UnixMilli(1767225600000))
	written(t, `
TIME RAY VERSION OUTCOME STATUS WALL REQUEST EXCEPTION
`+stamp+` 0123456789abcdef v1 (1a2b3c4d) exception 500 12 ms GET https://shop.example.com/items TypeError: no price
`+stamp+` 5e6f7a8b ok scheduled
`+stamp+` 5e6f7a8b exception fetch connect
`, func(out *strings.Builder) {
		new(session).writeEvents(out, []json.RawMessage{json.RawMessage(thrownEvent), json.RawMessage(scheduledEvent), json.RawMessage(unreachedEvent)})
	})
	written(t, `
Time `+stamp+`
Script shop
Version v1 (1a2b3c4d)
Event fetch
Request GET https://shop.example.com/items
Status 500
Outcome exception
Wall time 12 ms
Chosen by split
Ray 0123456789abcdef

TypeError: no price
 TypeError: no price
 at price (index.js:2:3)

[warn] no price of 7 {"a":1}
`, func(out *strings.Builder) { writeEvent(out, json.RawMessage(thrownEvent)) })
}

func TestWriteExceptions(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	stamp := moment(at)
	written(t, `
From `+stamp+` to `+stamp+`
REQUESTS VERSIONS EXCEPTION AT LAST SAMPLE
7 1a2b3c4d 5, 5e6f7a8b 2 TypeError: no # price (index.js) `+stamp+` 0123456789abcdef
1 1a2b3c4d 1 Error: gone `+stamp+`
3 more kinds were thrown: --limit shows them.
`, func(out *strings.Builder) {
		new(session).writeExceptions(out, &client.Exceptions{Since: at, Until: at, TotalExceptions: 5, Exceptions: []client.ExceptionGroup{
			{Name: "TypeError", Message: "no #", Frame: "price (index.js)", Requests: 7, LastSeen: at, Sample: json.RawMessage(thrownEvent),
				Versions: map[string]int64{"5e6f7a8b-0000-4000-8000-000000000000": 2, "1a2b3c4d-0000-4000-8000-000000000000": 5}},
			{Name: "Error", Message: "gone", Requests: 1, LastSeen: at, Versions: map[string]int64{"1a2b3c4d-0000-4000-8000-000000000000": 1}},
		}})
	})
}

// A comparison has no number in place of what is not known, and says what follows from it.
func TestWriteComparison(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	stamp := moment(at)
	f := func(low, high float64, want string) {
		t.Helper()
		c := client.Comparison{Since: at, Until: at, Confidence: 0.95, Count: "all",
			Baseline:   client.ComparedRates{VersionID: "1a2b3c4d", Tag: "v1", Requests: 1000, Failures: 10, Interval: &client.Interval{Estimate: 0.01, Low: new(0.005), High: new(0.018)}, WallMs: &schema.Quantiles{P50: 1, P90: 2.25, P99: 3}},
			Candidate:  client.ComparedRates{VersionID: "5e6f7a8b", Requests: 100, Failures: 3, Interval: &client.Interval{Estimate: 0.03, Low: new(0.01), High: new(0.08)}},
			Difference: &client.Interval{Estimate: 0.02, Low: new(low), High: new(high)},
			Ratio:      &client.Interval{Estimate: 3, Low: new(0.9)},
		}
		written(t, `
From `+stamp+` to `+stamp+`
VERSION REQUESTS FAILURES RATE P50 MS P90 MS P99 MS
v1 (1a2b3c4d) 1000 10 1% (0.5% to 1.8%) 1.0 2.2 3.0
5e6f7a8b 100 3 3% (1% to 8%)

Difference 2% (`+percent(low)+` to `+percent(high)+`)
Ratio 3.00 (0.90 to any)
Confidence 95%
Counted all requests
`+want+"\n", func(out *strings.Builder) { new(session).writeComparison(out, &c) })
	}
	f(-0.01, 0.05, "The intervals leave open which one fails more often.")
	f(0.01, 0.05, "The candidate fails more often.")
	f(-0.05, -0.01, "The candidate fails less often.")
	written(t, `
From `+stamp+` to `+stamp+`
VERSION REQUESTS FAILURES RATE P50 MS P90 MS P99 MS
1a2b3c4d 0 0
5e6f7a8b 0 0

Confidence 95%
Nothing can be compared: one of the two has no requests.
`, func(out *strings.Builder) {
		new(session).writeComparison(out, &client.Comparison{Since: at, Until: at, Confidence: 0.95, Count: "assigned", Baseline: client.ComparedRates{VersionID: "1a2b3c4d"}, Candidate: client.ComparedRates{VersionID: "5e6f7a8b"}})
	})
}
