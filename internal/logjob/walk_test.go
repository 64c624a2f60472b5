package logjob

import (
	"bytes"
	"encoding/json"
	"testing"
)

// What anyAt calls test with are the values that encoding/json finds there.
func FuzzAnyAt(f *testing.F) {
	for _, seed := range []string{
		`{"a":{"b":1}}`, `{"a":[{"b":"x\\"},{"b":["\"]",-1.5e3,null,{}]},[{"b":true}]]}`, `{"\u0061":{"b":1,"b":2}}`, `{"a":null}`, `{"a":{}}`, `[]`, `"\\\\"`, `{"x":"}","a":{"c":[[]],"b":0}}`,
	} {
		f.Add([]byte(seed))
	}
	names := []string{"a", "b"}
	f.Fuzz(func(t *testing.T, text []byte) {
		var compact bytes.Buffer
		if json.Compact(&compact, text) != nil {
			return
		}
		var want, got []string
		expected(compact.Bytes(), names, &want)
		anyAt(compact.Bytes(), names, func(value []byte) bool { got = append(got, string(value)); return false })
		if len(got) != len(want) {
			t.Fatalf("%s has %q, want %q", compact.Bytes(), got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%s has %q, want %q", compact.Bytes(), got, want)
			}
		}
	})
}

func expected(value json.RawMessage, names []string, found *[]string) {
	var list []json.RawMessage
	var object map[string]json.RawMessage
	switch {
	case value[0] == '[' && json.Unmarshal(value, &list) == nil:
		for _, element := range list {
			expected(element, names, found)
		}
	case len(names) == 0:
		if string(value) != "null" {
			*found = append(*found, string(value))
		}
	case value[0] == '{' && json.Unmarshal(value, &object) == nil:
		if member, ok := object[names[0]]; ok {
			expected(member, names[1:], found)
		}
	}
}
