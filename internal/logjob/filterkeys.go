package logjob

import (
	"strings"

	"tidegate/schema"
)

// FilterKey is something that a comparison of a filter can look at.
type FilterKey struct {
	// Key is a field, or a member below one as schema.Members writes it: with <name>
	// or <path> at its end where the rest is for whoever asks.
	Key         string           `json:"key"`
	Type        schema.FieldType `json:"type"`
	Operators   []string         `json:"operators"`
	Description string           `json:"description"` // of the field
}

// operators that newTest knows, by type. The lists are shared: they must not be changed.
var operators = map[schema.FieldType][]string{
	schema.TypeInt:         {"eq", "!eq", "lt", "leq", "gt", "geq", "in", "!in"},
	schema.TypeString:      {"eq", "!eq", "contains", "!contains", "startsWith", "!startsWith", "endsWith", "!endsWith", "in", "!in"},
	schema.TypeStringArray: {"contains", "!contains"},
}

// FilterKeys lists what can be filtered: fields in the dataset's order, each followed
// by its members.
func FilterKeys() []FilterKey {
	var keys []FilterKey
	for _, f := range schema.Fields {
		if ops, ok := operators[f.Type]; ok {
			keys = append(keys, FilterKey{f.Name, f.Type, ops, f.Description})
		}
		for _, m := range schema.Members {
			if rest, ok := strings.CutPrefix(m.Path, f.Name); ok && strings.IndexAny(rest, ".[") == 0 {
				keys = append(keys, FilterKey{m.Path, m.Type, operators[m.Type], f.Description})
			}
		}
	}
	return keys
}
