package logjob

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"tidegate/schema"
)

// The race detector looks on: jobs of all kinds read one record at a time.
func TestJobsShareARecord(t *testing.T) {
	value := (&schema.TraceEvent{Outcome: "ok", Logs: []schema.Log{line("log", strings.Repeat("\n", 20_000))}}).AppendJSON(nil)
	before := bytes.Clone(value)
	var r Record
	if err := r.Split(value); err != nil {
		t.Fatal(err)
	}
	if !r.Truncate() {
		t.Fatal("nothing was cut")
	}
	if !bytes.Equal(value, before) {
		t.Fatal("the event's own bytes were changed")
	}
	filter, err := ParseFilter(`{"where":{"key":"Outcome","operator":"in","value":["ok"]}}`)
	if err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	for _, outputType := range []string{NDJSON, CSV} {
		format, err := (&Job{OutputOptions: &OutputOptions{OutputType: outputType}}).Format()
		if err != nil {
			t.Fatal(err)
		}
		want := format.AppendRecord(nil, &r)
		for range 4 {
			readers.Go(func() {
				for range 20 {
					if got := format.AppendRecord(nil, &r); !filter.Match(&r) || !bytes.Equal(got, want) {
						t.Error("a reader saw something else")
						return
					}
				}
			})
		}
	}
	readers.Wait()
}

// Unquote finds the text that encoding/json finds.
func FuzzUnquote(f *testing.F) {
	for _, seed := range []string{`""`, `"a"`, `"\""`, `"\u00e9\ud83d\ude00\n\/"`, `"\ud83d"`, `"\ud83dx"`, `"\ud83d\u0041"`, `"\ude00\ud83d"`, `"\ud83d\ud83d\ude00"`, `1`, `"\b\f\r\t\\"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var want string
		if json.Unmarshal(raw, &want) != nil || raw[0] != '"' || raw[len(raw)-1] != '"' || !json.Valid(raw) {
			return
		}
		got, ok := Unquote(raw)
		// encoding/json repairs bytes that are not UTF-8; here they stay.
		if clean := strings.ReplaceAll(strings.ToValidUTF8(string(got), ""), "\uFFFD", ""); !ok || clean != strings.ReplaceAll(want, "\uFFFD", "") {
			t.Fatalf("%s is %q, want %q", raw, got, want)
		}
	})
}
