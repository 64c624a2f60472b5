package logjob

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidegate/schema"
)

// Clients offer what FilterKeys lists, so the parser must take all of it, and nothing else.
func TestFilterKeysAreWhatTheParserTakes(t *testing.T) {
	keys := FilterKeys()
	all := []string{"lt", "leq", "gt", "geq", "!lt", "!leq", "!gt", "!geq", "like"}
	for _, list := range operators {
		all = append(all, list...)
	}
	values := map[schema.FieldType]string{schema.TypeInt: "5", schema.TypeString: `"a"`, schema.TypeStringArray: `"a"`}
	for _, k := range keys {
		key := strings.NewReplacer("<name>", "accept", "<path>", "tls.version").Replace(k.Key)
		for _, op := range all {
			value := values[k.Type]
			if strings.HasSuffix(op, "in") {
				value = "[" + value + "]"
			}
			_, err := ParseFilter(fmt.Sprintf(`{"where":{"key":%q,"operator":%q,"value":%s}}`, key, op, value))
			if listed := slices.Contains(k.Operators, op); listed != (err == nil) {
				t.Errorf("%s %s: listed is %v, and the parser says %v", k.Key, op, listed, err)
			}
		}
		if k.Description == "" {
			t.Errorf("%s has no description", k.Key)
		}
	}
	fields := 0
	for _, f := range schema.Fields {
		if f.Type != schema.TypeObject && f.Type != schema.TypeObjectArray {
			fields++
		}
	}
	if want := fields + len(schema.Members); len(keys) != want {
		t.Errorf("%d keys are listed, not all %d", len(keys), want)
	}
}
