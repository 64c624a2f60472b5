package logjob

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"tidegate/schema"
)

// Split accepts exactly the objects that encoding/json accepts, and finds the
// values that it finds.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"Outcome":"ok","WallTimeMs":12}`, `{"Outcome":"a","Outcome":"b"}`, `{"\u004futcome":"escaped"}`,
		`{"Event": {"a": [1, {"b": null}], "c": "} \" ]"}, "Logs":[ ]}`, ` {"WallTimeMs":-0.5e+3}` + "\n",
		`{"WallTimeMs":01}`, `{"Outcome":"` + "\x01" + `"}`, `{"Outcome":"\x"}`, `{"Outcome":"\u12g4"}`, `{"Outcome":}`,
		`{"Outcome":"ok",}`, `{"Outcome" "ok"}`, `{"a":tru}`, `[]`, `"x"`, ``, `{"a":1}{`, `{"a":[1,]}`, `{"Event":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var want map[string]json.RawMessage
		wantErr := json.Unmarshal(text, &want)
		if wantErr == nil && want == nil { // null
			return
		}
		var r Record
		err := r.Split(text)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("Split says %v, encoding/json %v", err, wantErr)
		}
		for i, field := range schema.Fields {
			got := r.field(i)
			raw, ok := want[field.Name]
			if err != nil || !ok {
				if got != nil {
					t.Fatalf("%s is %q, want nothing", field.Name, got)
				}
				continue
			}
			var compact bytes.Buffer
			if err := json.Compact(&compact, raw); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, compact.Bytes()) {
				t.Fatalf("%s is %q, want %q", field.Name, got, compact.Bytes())
			}
		}
	})
}

func TestRecordsBeyondTheNestingLimitAreRefused(t *testing.T) {
	var r Record
	if err := r.Split([]byte(`{"Event":` + strings.Repeat("[", 2*maxDepth) + strings.Repeat("]", 2*maxDepth) + `}`)); err == nil {
		t.Error("a value nested too deeply was accepted")
	}
}

// split makes a record of an event.
func split(t testing.TB, e *schema.TraceEvent) *Record {
	t.Helper()
	var r Record
	if err := r.Split(e.AppendJSON(nil)); err != nil {
		t.Fatal(err)
	}
	return &r
}

func line(level string, arguments ...string) schema.Log {
	l := schema.Log{Level: level}
	for _, a := range arguments {
		l.Message = append(l.Message, schema.AppendString(nil, a))
	}
	return l
}

func TestTruncate(t *testing.T) {
	x := func(n int) string { return strings.Repeat("ü", n) } // two bytes a character
	f := func(name string, e schema.TraceEvent, wantExceptions []schema.Exception, wantLogs []schema.Log) {
		t.Helper()
		r := split(t, &e)
		if !r.Truncate() {
			t.Errorf("%s: nothing was cut", name)
		}
		var got schema.TraceEvent
		if !decode(r.field(exceptionsField), &got.Exceptions) || !decode(r.field(logsField), &got.Logs) {
			t.Fatalf("%s: the result is not JSON", name)
		}
		for _, diff := range []string{
			cmp.Diff(wantExceptions, got.Exceptions, cmpopts.EquateEmpty()),
			cmp.Diff(wantLogs, got.Logs, cmpopts.EquateEmpty()),
		} {
			if diff != "" {
				t.Errorf("%s (-want +got):\n%.600s", name, diff)
			}
		}
	}
	f("names are spent before messages, messages before logs",
		schema.TraceEvent{
			Exceptions: []schema.Exception{{Name: "A", Message: x(16_000)}, {Name: "B", Message: x(400)}, {Name: "C", Message: "dropped"}},
			Logs:       []schema.Log{line("log", "one")},
		},
		[]schema.Exception{{Name: "A", Message: x(16_000)}, {Name: "B", Message: x(381) + exceptionsTruncated}},
		[]schema.Log{line("log", logsTruncated)})
	f("a log message is cut and the later ones dropped",
		schema.TraceEvent{Logs: []schema.Log{line("log", x(16_380)), line("warn", "12345<", "later"), line("info", "later")}},
		nil,
		[]schema.Log{line("log", x(16_380)), line("warn", "1234"+logsTruncated)})
	f("names alone pass the budget",
		schema.TraceEvent{Exceptions: []schema.Exception{{Name: x(16_383)}, {Name: "AB"}, {Name: "C"}}},
		[]schema.Exception{{Name: x(16_383)}, {Name: "A", Message: exceptionsTruncated}},
		nil)
	f("the first message carries the mark when names took everything",
		schema.TraceEvent{Exceptions: []schema.Exception{{Name: x(16_383), Message: "m"}, {Name: "AB", Message: "m"}}},
		[]schema.Exception{{Name: x(16_383), Message: exceptionsTruncated}},
		nil)
	f("an object is cut as the text of its JSON",
		schema.TraceEvent{Logs: []schema.Log{{Message: []json.RawMessage{json.RawMessage(`{"a":"` + strings.Repeat("b", 17_000) + `"}`)}}}},
		nil,
		[]schema.Log{{Message: []json.RawMessage{schema.AppendString(nil, `{"a":"`+strings.Repeat("b", 16_378)+logsTruncated)}}})
}

func TestTruncateLeavesTheBudgetAlone(t *testing.T) {
	r := split(t, &schema.TraceEvent{
		Exceptions: []schema.Exception{{Name: "E", Message: strings.Repeat("ü", textBudget-10), Stack: strings.Repeat("s", 50_000)}},
		Logs:       []schema.Log{line("log", "123456789")},
	})
	before := string(r.field(exceptionsField))
	if r.Truncate() || string(r.field(exceptionsField)) != before {
		t.Error("a record within the budget was changed")
	}
}

// BenchmarkAppend is the whole path of a record that a job keeps.
func BenchmarkAppend(b *testing.B) {
	event := (&schema.TraceEvent{
		Event: (&schema.FetchEvent{RayID: "8a1f00000000abcd", Request: schema.FetchRequest{URL: "https://shop.example/items/42?ref=home", Method: "GET",
			Headers: map[string]string{"user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36", "accept": "text/html"}},
			Response: &schema.FetchResponse{Status: 200}}).AppendJSON(nil),
		EventTimestampMs: 1714878560011, EventType: "fetch", Outcome: "ok", ScriptName: "shop",
		ScriptVersion: schema.ScriptVersion{ID: "11111111-1111-4111-8111-111111111111", Tag: "v1"}, WallTimeMs: new(int64(12)),
		Gateway: schema.Gateway{Decision: "split", RayID: "8a1f00000000abcd"},
	}).AppendJSON(nil)
	filter, err := ParseFilter(`{"where":{"and":[{"key":"Outcome","operator":"!eq","value":"canceled"},{"key":"WallTimeMs","operator":"lt","value":1000}]}}`)
	if err != nil {
		b.Fatal(err)
	}
	for _, outputType := range []string{NDJSON, CSV} {
		format, err := (&Job{OutputOptions: &OutputOptions{OutputType: outputType,
			FieldNames: []string{"Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"}}}).Format()
		if err != nil {
			b.Fatal(err)
		}
		b.Run(outputType, func(b *testing.B) {
			var r Record
			var out []byte
			b.ReportAllocs()
			b.SetBytes(int64(len(event)))
			for b.Loop() {
				if err := r.Split(event); err != nil {
					b.Fatal(err)
				}
				if !filter.Match(&r) {
					b.Fatal("the filter dropped the event")
				}
				r.Truncate()
				out = format.AppendRecord(out[:0], &r)
			}
		})
	}
	b.Run("split by encoding/json", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(event)))
		for b.Loop() {
			var m struct {
				Event, EventTimestampMs, Outcome, Logs, ScriptName, ScriptVersion, Exceptions, WallTimeMs json.RawMessage
			}
			if err := json.Unmarshal(event, &m); err != nil {
				b.Fatal(err)
			}
		}
	})
}
