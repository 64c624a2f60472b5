package schema_test

import (
	"encoding/json"
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
