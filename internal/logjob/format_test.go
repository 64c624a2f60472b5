package logjob

import (
	"encoding/csv"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/schema"
)

// Any event that Split takes comes out as one line of JSON with the same values,
// and as a row of CSV that a reader of RFC 4180 takes apart again.
func FuzzFormat(f *testing.F) {
	f.Add([]byte(`{"Outcome":"a\"b\\\n","Logs":[{"a":"\"\\"}],"Event":{},"ScriptTags":["x"],"WallTimeMs":1}`))
	f.Add([]byte(`{ "Outcome" : "\u0022" , "Event" : { "a" : "," } , "WallTimeMs" : null , "ScriptTags" : "odd" }`))
	names := []string{"Outcome", "Event", "Logs", "ScriptTags", "WallTimeMs"}
	formatOf := func(o OutputOptions) *Format {
		o.FieldNames = names
		format, err := (&Job{OutputOptions: &o}).Format()
		if err != nil {
			f.Fatal(err)
		}
		return format
	}
	plain, strung, table := formatOf(OutputOptions{}), formatOf(OutputOptions{StringifyObject: new(true)}), formatOf(OutputOptions{OutputType: CSV})
	f.Fuzz(func(t *testing.T, event []byte) {
		var r Record
		if r.Split(event) != nil {
			return
		}
		line := plain.AppendRecord(nil, &r)
		var values, objects map[string]json.RawMessage
		if err := json.Unmarshal(line, &values); err != nil || strings.Count(string(line), "\n") != 1 {
			t.Fatalf("%q is not a line of JSON: %v", line, err)
		}
		if err := json.Unmarshal(strung.AppendRecord(nil, &r), &objects); err != nil {
			t.Fatal(err)
		}
		row := table.AppendRecord(nil, &r)
		// encoding/csv reads \r\n inside quotes as \n.
		cells, err := csv.NewReader(strings.NewReader(string(row))).Read()
		if err != nil || len(cells) != len(names) {
			t.Fatalf("%q has the cells %q: %v", row, cells, err)
		}
		for i, name := range names {
			raw := values[name]
			want, isObject := string(raw), raw[0] == '{' || raw[0] == '['
			var text string
			if isObject {
				if err := json.Unmarshal(objects[name], &text); err != nil || len(text) == 0 || !json.Valid([]byte(text)) {
					t.Fatalf("%s as a string is %s: %v", name, objects[name], err)
				}
			} else if string(objects[name]) != want {
				t.Fatalf("%s is %s, want %s", name, objects[name], want)
			}
			if inner, ok := Unquote(raw); ok {
				want = string(inner)
			} else if want == "null" {
				want = ""
			}
			if cells[i] != strings.ReplaceAll(want, "\r\n", "\n") {
				t.Fatalf("cell %s is %q, want %q", name, cells[i], want)
			}
		}
	})
}

// Each documented member can be used, and none is below a field that does not exist.
func TestMembersLeadSomewhere(t *testing.T) {
	var unknown []string
	for _, m := range schema.Members {
		key := strings.NewReplacer("<name>", "a.b", "<path>", "a.b").Replace(m.Path)
		kind, field, names, ok := schema.MemberAt(key)
		if _, exists := schema.FieldByName(field); !ok || !exists || kind != m.Type || len(names) == 0 {
			unknown = append(unknown, m.Path)
		}
	}
	if diff := cmp.Diff([]string(nil), unknown); diff != "" {
		t.Error(diff)
	}
}

// Only no template means the fields: whoever blanks the body wants none of them sent.
func TestATemplateOfNothing(t *testing.T) {
	for template, want := range map[string]string{`{{/* nothing */}}`: "{}\n", `{{""}}`: "{}\n"} {
		f, err := (&Job{OutputOptions: &OutputOptions{OutputType: NDJSON, RecordTemplate: &template, FieldNames: []string{"Outcome"}}}).Format()
		if err != nil {
			t.Fatal(err)
		}
		if got := f.AppendRecord(nil, &Record{}); string(got) != want {
			t.Errorf("%s: %q, want %q", template, got, want)
		}
	}
}
