package deploy

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What is not known must be noted, survive a copy, and be refused from a person.
func TestRedactionNotesWhatItDoesNotKnow(t *testing.T) {
	f := func(text string, want Redaction) {
		t.Helper()
		var got, copied Redaction
		if err := json.Unmarshal([]byte(text), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s became %+v, error %v, want %+v", text, got, err, want)
		}
		again, err := json.Marshal(got)
		if err == nil {
			err = json.Unmarshal(again, &copied)
		}
		if err != nil || !copied.Equal(&want) {
			t.Errorf("%s was copied as %s, error %v", text, again, err)
		}
		if known := len(want.Unknown) == 0; (got.Validate() == nil) != known || got.Empty() {
			t.Errorf("%s is valid: %v, empty: %v", text, got.Validate(), got.Empty())
		}
	}
	f(`{"headers": ["a"], "built_ins": ["emails"]}`, Redaction{Headers: []string{"a"}, BuiltIns: []RedactionBuiltIn{RedactEmails}})
	f(`{"Headers": ["a"]}`, Redaction{Headers: []string{"a"}})
	f(`{"headers": ["a"], "cookies": ["b"], "bodies": null}`, Redaction{Headers: []string{"a"}, Unknown: []string{"bodies", "cookies"}})
	f(`{"cookies": 1, "unknown": ["bodies"]}`, Redaction{Unknown: []string{"bodies", "cookies"}})

	if got := (Redaction{Unknown: []string{"a"}}).With(Redaction{Unknown: []string{"b"}}); !reflect.DeepEqual(got.Unknown, []string{"a", "b"}) {
		t.Errorf("together they note %v", got.Unknown)
	}
	for _, bad := range []string{`{"headers": "a"}`, `[]`, `"a"`} {
		if err := json.Unmarshal([]byte(bad), new(Redaction)); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// A gateway keeps a copy of the rules: it must hold all of them, and note the same members that it does not know.
func FuzzRedaction(f *testing.F) {
	for _, seed := range []string{
		`{"headers": ["a"], "built_ins": ["emails"]}`, `{"Headers": ["a"], "headers": null}`, `{"cookies": ["b"], "bodies": null, "unknown": ["x"]}`,
		`{"paths": ["/a/*"], "patterns": ["a+"], "query_parameters": ["q"]}`, `{"\u212aeaders": 1}`, `null`, `{"": 0}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var rules, copied Redaction
		if json.Unmarshal(text, &rules) != nil {
			return
		}
		again, err := json.Marshal(rules)
		if err == nil {
			err = json.Unmarshal(again, &copied)
		}
		if err != nil || !copied.Equal(&rules) {
			t.Fatalf("%q is %+v, copied as %s, which is %+v, %v", text, rules, again, copied, err)
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			t.Fatalf("%q is %+v, but no object: %v", text, rules, err)
		}
		for name := range members {
			known := slices.ContainsFunc(redactionMembers, func(member string) bool { return strings.EqualFold(member, name) })
			if !known && !slices.Contains(rules.Unknown, name) {
				t.Fatalf("%q has %q, which was dropped: %+v", text, name, rules)
			}
		}
	})
}
