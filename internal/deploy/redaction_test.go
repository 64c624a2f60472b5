package deploy

import (
	"encoding/json"
	"reflect"
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
