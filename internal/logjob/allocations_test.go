//go:build !race

package logjob

import (
	"encoding/json"
	"testing"

	"tidegate/schema"
)

// The path of a record through a job allocates nothing. Under the race detector a
// sync.Pool forgets at random.
func TestAllocationsOfARecord(t *testing.T) {
	event := (&schema.TraceEvent{
		Event:   json.RawMessage(`{"Request":{"Headers":{"user-agent":"a\"b"}},"Response":{"Status":503}}`),
		Outcome: "exception", Logs: []schema.Log{line("warn", "one\ntwo")}, Exceptions: []schema.Exception{{Name: "E"}},
		ScriptTags: []string{"\"", "b"}, ScriptVersion: schema.ScriptVersion{ID: "1"}, EventTimestampMs: 5,
	}).AppendJSON(nil)
	filter, err := ParseFilter(`{"where":{"and":[
		{"key":"Outcome","operator":"in","value":["ok","exception"]},
		{"key":"Event.Response.Status","operator":"geq","value":500},
		{"key":"Event.Request.Headers.user-agent","operator":"eq","value":"a\"b"},
		{"key":"Logs[].Message","operator":"contains","value":"\ntwo"},
		{"key":"Exceptions[].Name","operator":"!in","value":["F"]},
		{"key":"ScriptTags","operator":"contains","value":"b"},
		{"key":"ScriptVersion.id","operator":"startsWith","value":"1"}]}}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []OutputOptions{{}, {OutputType: CSV}, {StringifyObject: new(true)}, {RecordTemplate: new("{{.Logs}}")}} {
		format, err := (&Job{OutputOptions: &o}).Format()
		if err != nil {
			t.Fatal(err)
		}
		var r Record
		var out []byte
		n := testing.AllocsPerRun(200, func() {
			if err := r.Split(event); err != nil || r.Truncate() || !filter.Match(&r) {
				t.Fatal("the event was dropped", err)
			}
			out = format.AppendRecord(out[:0], &r)
		})
		if n >= 1 {
			t.Errorf("%+v: a record costs %v allocations", o, n)
		}
	}
}
