package ingest

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"tidegate/schema"
)

// shaped are events that a gateway writes, of every kind.
func shaped() (list []string) {
	text := "<a href=\"x\">&\u2028\u00fc\n\x01\\"
	full := schema.TraceEvent{
		CPUTimeMs: new(int64(0)), DispatchNamespace: text, Entrypoint: text, EventTimestampMs: noon.UnixMilli() + 7, EventType: "fetch",
		Event:      (&schema.FetchEvent{RayID: "r", Request: schema.FetchRequest{URL: "http://x/?" + text, Method: "PUT", Headers: map[string]string{"a": text, "b": ""}}, Response: &schema.FetchResponse{Status: 503}}).AppendJSON(nil),
		Exceptions: []schema.Exception{{Name: "Error", Message: text, TimestampMs: 5, Stack: text}, {}},
		Logs:       []schema.Log{{Level: "log", Message: messages(`"<b>&"`, `{"a":["<",1.50,1e3,null]}`, `"\u003c"`), TimestampMs: 1 << 49}, {}},
		Outcome:    schema.OutcomeException, ScriptName: "shop", ScriptTags: []string{text, ""},
		ScriptVersion: schema.ScriptVersion{ID: "v", Message: text, Tag: "<t>"}, WallTimeMs: new(int64(1 << 40)),
		Gateway:   schema.Gateway{Decision: schema.DecisionAffinity, RayID: "ray", AffinityRule: 3, UpstreamMs: new(0.1), CallerScript: "front", CallerVersionID: text, SampledOut: 1 << 32},
		ErrorKind: schema.ErrorKindTLS,
	}
	scheduled := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), EventType: "scheduled", Outcome: "somethingNew", ScriptName: "cron", Event: []byte(`{"b":1,"a":{"<":[]}}`)}
	odd := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), EventType: "fetch", Outcome: "ok", ScriptName: "s", Event: []byte(`{"RayID":"r","Request":{"Method":"GET","URL":"x"},"Response":{"Status":200}}`)}
	negative := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), Outcome: "ok", ScriptName: "s", WallTimeMs: new(int64(-5)), Gateway: schema.Gateway{UpstreamMs: new(-0.25)}}
	bare := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), Outcome: schema.OutcomeOK, ScriptName: "s"}
	for _, e := range []schema.TraceEvent{full, scheduled, odd, negative, bare} {
		list = append(list, string(e.AppendJSON(nil)))
	}
	return append(list, string(value(1)), string(value(2)))
}

// What gateways write is read by its shape, and nothing is made anew of it.
func TestShapeIsWhatGatewaysWrite(t *testing.T) {
	for _, text := range shaped() {
		var e event
		if !readShape([]byte(text), &e) {
			t.Errorf("not read by its shape: %s", text)
		}
	}
}

func TestShapeAllocatesNothing(t *testing.T) {
	text := value(1)
	var e event
	if n := testing.AllocsPerRun(100, func() { readShape(text, &e) }); n != 0 {
		t.Errorf("an event takes %.0f allocations", n)
	}
}

// What differs from the shape is left to encoding/json.
func TestOtherShapes(t *testing.T) {
	f := func(old, new string) {
		t.Helper()
		text := strings.Replace(shaped()[0], old, new, 1)
		if text == shaped()[0] {
			t.Fatalf("%s is not in the event", old)
		}
		var e event
		if readShape([]byte(text), &e) {
			t.Errorf("read by its shape: %s", text)
		}
	}
	f(`{`, ` {`)
	f(`"ErrorKind"`, `"errorKind"`)
	f(`"Outcome":"exception"`, `"Outcome":""`)
	f(`"Outcome":"exception"`, `"Outcome":null`)
	f(`"ScriptName":"shop"`, `"ScriptName":7`)
	f(`"WallTimeMs":1099511627776`, `"WallTimeMs":1e3`)
	f(`"WallTimeMs":1099511627776`, `"WallTimeMs":01`)
	f(`"WallTimeMs":1099511627776`, `"WallTimeMs":`)
	f(`"WallTimeMs":1099511627776`, `"WallTimeMs":1234567890123456`)
	f(`"UpstreamMs":0.1`, `"UpstreamMs":.1`)
	f(`"UpstreamMs":0.1`, `"UpstreamMs":1.`)
	f(`"SampledOut":4294967296`, `"SampledOut":4294967297`)
	f(`"SampledOut":4294967296`, `"SampledOut":-1`)
	f(`"Logs":[`, `"Logs":[1,`)
	f(`"Level":"log"`, `"Level":1`)
	f(`"Exceptions":[`, `"Exceptions":[null,`)
	f(`"Stack":`, `"Other":`)
	f(`1.50`, `1.50 `)
	f(`"ErrorKind":"tls"}`, `"ErrorKind":"tls"} x`)
	f(`"ErrorKind":"tls"}`, `"ErrorKind":"tls"`)
	f(`"ErrorKind":"tls"}`, `"ErrorKind":"tls","Newer":1}`)
}

// ClickHouse reads the exceptions of an event to count them by kind. It takes JSON with half a
// surrogate pair, or with bytes that are no UTF-8, for none, so that such an exception was in no
// list of them. No gateway writes it, but who does is read with U+FFFD in its place.
func TestExceptionsThatClickHouseCannotRead(t *testing.T) {
	f := func(name, want string) {
		t.Helper()
		text := strings.Replace(shaped()[0], `"Name":"Error"`, `"Name":"`+name+`"`, 1)
		var e event
		if err := decodeEvent([]byte(text), &e); err != nil || !strings.HasPrefix(string(e.exceptions), `[{"Name":"`+want+`",`) {
			t.Errorf("%q: %q, %v, want %q", name, e.exceptions, err, want)
		}
	}
	f(`half \ud83d`, "half \uFFFD")
	f(`half \uDE00`, "half \uFFFD")
	f("half \xf0\x9f", "half \uFFFD\uFFFD")
	f(`both \ud83d\ude00`, "both \U0001F600")
	f(`\\ud83d`, `\\ud83d`)
}

// FuzzShape holds readShape to encoding/json: what it reads is an event there too, with
// the same members; lists that it hands on as they came mean the same as those that are
// written anew.
func FuzzShape(f *testing.F) {
	for _, text := range shaped() {
		f.Add([]byte(text))
	}
	f.Add([]byte(strings.Replace(shaped()[0], `"tls"`, "\"\xff\"", 1)))
	f.Add([]byte(strings.Replace(shaped()[0], `"shop"`, `"\ud800\u0041"`, 1)))
	f.Add([]byte(strings.Replace(shaped()[2], `"Status":200`, `"Status":"200"`, 1)))
	f.Fuzz(agree)
}

// Every byte of an event gone, or replaced by, or with something before it that means
// something in JSON: few of these are events, and what is read is the same.
func TestShapeAgreesOnEveryChange(t *testing.T) {
	pieces := strings.Split(`"|\|{|}|[|]|,|:|0|1|-|.|e|n|null| |\u00e9|\ud800|`+"\x00|\n|\xff|\u2028", "|")
	read := 0
	for _, text := range shaped() {
		for at := range len(text) {
			change := func(piece string, cut int) {
				b := []byte(text[:at] + piece + text[at+cut:])
				if agree(t, b); readShape(b, new(event)) {
					read++
				}
			}
			change("", 1)
			for _, piece := range pieces {
				change(piece, 0)
				change(piece, 1)
			}
		}
	}
	if read < 1000 {
		t.Errorf("%d changed events are read by their shape: this compares nothing", read)
	}
}

func agree(t *testing.T, text []byte) {
	var shape, any event
	if !readShape(text, &shape) {
		return
	}
	if err := decodeAny(text, &any); err != nil {
		t.Fatalf("%s is read by its shape, and otherwise is none: %v", text, err)
	}
	same[[]schema.Exception](t, shape.exceptions, any.exceptions)
	same[[]schema.Log](t, shape.logs, any.logs)
	same[[]string](t, shape.tags, any.tags)
	any.exceptions, any.logs, any.tags = shape.exceptions, shape.logs, shape.tags
	if s, a := printable(&shape), printable(&any); !reflect.DeepEqual(s, a) {
		t.Fatalf("%s\nby its shape  %v\nby the other  %v", text, s, a)
	}
}

func same[T any](t *testing.T, shape, any []byte) {
	t.Helper()
	var a, b T
	if err := json.Unmarshal(shape, &a); err != nil {
		t.Fatalf("%s: %v", shape, err)
	}
	if err := json.Unmarshal(any, &b); err != nil || !reflect.DeepEqual(a, b) {
		t.Fatalf("%s\n%s: %v", shape, any, err)
	}
}

// printable is an event with texts for bytes, of which an empty one may be nil.
func printable(e *event) []any {
	return []any{
		e.timestampMs, e.cpuMs, e.wallMs, string(e.scriptName), string(e.versionID), string(e.versionTag), string(e.versionMessage),
		string(e.eventType), string(e.outcome), string(e.errorKind), string(e.entrypoint), string(e.dispatchNamespace),
		string(e.decision), string(e.rayID), e.upstreamMs, e.affinityRule, e.sampledOut,
		string(e.event), string(e.exceptions), string(e.logs), string(e.tags),
		string(e.request.url), string(e.request.method), e.request.status,
	}
}
