package logjob

import (
	"bytes"
	"encoding/json"

	"tidegate/schema"
)

// fieldIndex finds a field's place in schema.Fields, and so in Record.fields.
var fieldIndex = func() map[string]int {
	index := make(map[string]int, len(schema.Fields))
	for i, f := range schema.Fields {
		index[f.Name] = i
	}
	return index
}()

var (
	exceptionsField = fieldIndex["Exceptions"]
	logsField       = fieldIndex["Logs"]
)

// Record is one trace event split into the raw JSON of its fields: a job copies
// them to its output without decoding them. The zero value is ready; reuse it
// for the next event. It keeps pointing into the bytes that it was split from.
type Record struct {
	fields [][]byte // by index in schema.Fields; nil where the event has no such member
}

// Split takes the fields out of value, which must be one JSON object. Members
// that are no fields are skipped; of a repeated one the last counts, as in
// encoding/json. White space inside a field is removed, because a line of NDJSON
// must not break. After an error the record is empty.
func (r *Record) Split(value []byte) error {
	if r.fields == nil {
		r.fields = make([][]byte, len(schema.Fields))
	}
	clear(r.fields)
	err := members(value, func(name, raw []byte, spaced bool) error {
		text, _ := unquote(name)
		i, known := fieldIndex[string(text)]
		if !known {
			return nil
		}
		if spaced {
			var compact bytes.Buffer
			if err := json.Compact(&compact, raw); err != nil {
				return err
			}
			raw = compact.Bytes()
		}
		r.fields[i] = raw
		return nil
	})
	if err != nil {
		clear(r.fields)
	}
	return err
}

// value returns the raw JSON of a field, and false where it is absent or null.
func (r *Record) value(field int) ([]byte, bool) {
	raw := r.fields[field]
	return raw, raw != nil && string(raw) != "null"
}
