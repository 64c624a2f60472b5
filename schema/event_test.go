package schema_test

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"tidegate/schema"
)

// What a Worker logs comes from outside: whatever it is, the event stays valid,
// on one line, and says what was logged.
func TestLogMessagesThatAreNoJSON(t *testing.T) {
	e := schema.TraceEvent{
		EventTimestampMs: 1, EventType: "fetch", Outcome: schema.OutcomeOK, ScriptName: "shop",
		Exceptions: []schema.Exception{{Name: "Error", Message: "a\nb", TimestampMs: 2, Stack: "at <x>"}, {}},
		Logs: []schema.Log{
			{Level: "log", Message: []json.RawMessage{json.RawMessage("{\n\"a\": [1, 2]}"), json.RawMessage(`{"a":`), nil, json.RawMessage(`"ok"`)}, TimestampMs: 3},
			{Level: "warn"},
		},
	}
	text := e.AppendJSON([]byte("before "))[len("before "):]
	want := `{"DispatchNamespace":"","Entrypoint":"","Event":{},"EventTimestampMs":1,"EventType":"fetch",` +
		`"Exceptions":[{"Name":"Error","Message":"a\nb","TimestampMs":2,"Stack":"at <x>"},{"Name":"","Message":"","TimestampMs":0}],` +
		`"Logs":[{"Level":"log","Message":[{"a":[1,2]},"{\"a\":","","ok"],"TimestampMs":3},{"Level":"warn","Message":[],"TimestampMs":0}],` +
		`"Outcome":"ok","ScriptName":"shop","ScriptTags":[],"ScriptVersion":{"id":"","message":"","tag":""},` +
		`"Gateway":{"Decision":"","RayID":""},"ErrorKind":""}`
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
	var back schema.TraceEvent
	if err := schema.DecodeEvent(text, &back); err != nil || back.WallTimeMs != nil || back.CPUTimeMs != nil {
		t.Errorf("read back: %v, wall %v, CPU %v: what nobody measured must be absent", err, back.WallTimeMs, back.CPUTimeMs)
	}
}

func FuzzAppendRaw(f *testing.F) {
	for _, seed := range []string{`1`, `{"a": "\u2028"}`, "\xff", `"`, "[1,\n2]", ``, `{}{}`} {
		f.Add([]byte(seed))
	}
	// The result is valid JSON without a line break, and equal to valid input.
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := schema.AppendRaw(nil, raw)
		for _, c := range out {
			if c == '\n' {
				t.Fatalf("%q became %q, which has a line break", raw, out)
			}
		}
		if !json.Valid(out) {
			t.Fatalf("%q became %q, which is no JSON", raw, out)
		}
	})
}

// An event that waited while others were left out says the same, and how many.
func FuzzWithSampledOut(f *testing.F) {
	f.Add("shop", "connect", `{"RayID":"},\"ErrorKind\":"}`, 1.5, int64(7))
	f.Add(`},"ErrorKind":`, `},"ErrorKind":"x`, `{}`, 0.0, int64(0))
	f.Add("", "\\", ``, -1.0, int64(1)<<32)
	f.Fuzz(func(t *testing.T, name, kind, event string, upstream float64, n int64) {
		if !json.Valid([]byte(event)) || n < 0 || upstream != upstream || upstream-upstream != 0 {
			return
		}
		e := schema.TraceEvent{
			ScriptName: name, ErrorKind: kind, Event: json.RawMessage(event), Outcome: schema.OutcomeOK,
			Gateway: schema.Gateway{Decision: schema.DecisionSplit, RayID: name},
		}
		if upstream != 0 {
			e.Gateway.UpstreamMs = &upstream
		}
		got := schema.WithSampledOut(e.AppendJSON(nil), n)
		e.Gateway.SampledOut = n
		if want := e.AppendJSON(nil); string(got) != string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		if len(got) != cap(got) {
			t.Fatalf("an event of %d bytes holds on to %d", len(got), cap(got))
		}
	})
}

// What events of a version have in common may be at hand, and most begin and go on alike:
// they are written as all others are.
func FuzzAppendJSONOf(f *testing.F) {
	f.Add("shop", "team:web", "v1", "", "fetch", schema.OutcomeOK, "")
	f.Add("s\"", "\n", "\xff", "entry", "scheduled", schema.OutcomeException, "x")
	f.Add("", "", "", "", "fetch", schema.OutcomeCanceled, "")
	f.Fuzz(func(t *testing.T, name, tag, version, entrypoint, eventType, outcome, log string) {
		e := schema.TraceEvent{
			Entrypoint: entrypoint, Event: json.RawMessage(`{"a":1}`), EventTimestampMs: 5, EventType: eventType, Outcome: outcome, Exceptions: []schema.Exception{},
			Logs: []schema.Log{}, ScriptName: name, ScriptTags: []string{tag}, ScriptVersion: schema.ScriptVersion{ID: version, Message: tag, Tag: name},
		}
		if log != "" {
			e.Logs = append(e.Logs, schema.Log{Level: log, Message: []json.RawMessage{json.RawMessage(`1`)}})
		}
		got := e.AppendJSON(nil)
		if of := e.AppendJSONOf(nil, schema.AppendScript(nil, name, e.ScriptTags, e.ScriptVersion)); string(of) != string(got) {
			t.Fatalf("got  %s\nwant %s", of, got)
		}
		var want bytes.Buffer
		encoder := json.NewEncoder(&want)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(e); err != nil {
			t.Fatal(err)
		}
		var a, b any
		if json.Unmarshal(got, &a) != nil || json.Unmarshal(want.Bytes(), &b) != nil || !reflect.DeepEqual(a, b) {
			t.Fatalf("got  %s\nwant %s", got, want.Bytes())
		}
	})
}

// A count that no gateway writes would outweigh all others in the rates.
func TestImpossibleSampledOutIsNoEvent(t *testing.T) {
	const event = `{"ScriptName":"shop","EventTimestampMs":1,"Outcome":"ok","Gateway":{"SampledOut":%s}}`
	f := func(n string, want int64, ok bool) {
		t.Helper()
		var e schema.TraceEvent
		err := schema.DecodeEvent([]byte(strings.Replace(event, "%s", n, 1)), &e)
		if (err == nil) != ok || ok && e.Gateway.SampledOut != want {
			t.Errorf("SampledOut %s: read as %d, error %v", n, e.Gateway.SampledOut, err)
		}
	}
	f("0", 0, true)
	f("99", 99, true)
	f("4294967296", 1<<32, true)
	f("4294967297", 0, false)
	f("-1", 0, false)
	f("1.5", 0, false)
	f("1e99", 0, false)
}

// What a reader makes of a record, written again, is the same event to it: what passes through survives.
func FuzzDecodeEvent(f *testing.F) {
	for _, seed := range []string{
		`{"EventTimestampMs":1,"EventType":"fetch","Outcome":"ok","ScriptName":"shop","Event":{"Response":{"Status":200}},"WallTimeMs":1.5}`,
		`{"EventTimestampMs":2,"Outcome":"exception","ScriptName":"a","Exceptions":[{"Name":"E","TimestampMs":3,"Stack":"at x"}],"Logs":[{"Level":"log","Message":[1,{"a":null}],"TimestampMs":4}]}`,
		`{"EventTimestampMs":1,"Outcome":"ok","ScriptName":"shop","Gateway":{"SampledOut":3,"RayID":"a"},"Unknown":[]}`,
		`{"eventtimestampms":1,"OUTCOME":"ok","scriptname":"\ud800"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		var e, again schema.TraceEvent
		if schema.DecodeEvent(value, &e) != nil {
			return
		}
		text := e.AppendJSON(nil)
		if err := schema.DecodeEvent(text, &again); err != nil {
			t.Fatalf("%q was taken, and is written as %s, which is not: %v", value, text, err)
		}
		if twice := again.AppendJSON(nil); !bytes.Equal(text, twice) {
			t.Fatalf("%q is written as\n%s\nand read from that as\n%s", value, text, twice)
		}
	})
}
