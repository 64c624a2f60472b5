package logjob

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"tidegate/schema"
)

// Record is one trace event split into the raw JSON of its fields: a job copies
// them to its output without decoding them. The zero value is ready; reuse it
// for the next event. It keeps pointing into the bytes that it was split from,
// and never changes them.
//
// Split and Truncate are for its owner. From then on any number of goroutines may
// match and format the same Record: nothing else changes it.
type Record struct {
	data   []byte
	fields [len(schema.Fields)]span // by index in schema.Fields
}

// span is a part of Record.data; the zero span is a field that the event has not.
type span struct{ start, end uint32 }

// field returns the raw JSON of a field, nil where the event has no such member.
func (r *Record) field(i int) []byte {
	s := r.fields[i]
	if s.end == 0 {
		return nil
	}
	return r.data[s.start:s.end:s.end]
}

// value returns the raw JSON of a field, and false where it is absent or null.
func (r *Record) value(i int) ([]byte, bool) {
	raw := r.field(i)
	return raw, raw != nil && raw[0] != 'n'
}

// Split takes the fields out of value, which must be one JSON object. Members
// that are no fields are skipped; of a repeated one the last counts, as in
// encoding/json. White space outside strings is removed, because a line of NDJSON
// must not break; then the record has a copy of value. After an error the record
// is empty.
func (r *Record) Split(value []byte) error {
	if len(value) > math.MaxInt32 { // more than Kafka has room for
		*r = Record{}
		return fmt.Errorf("the event has %d bytes", len(value))
	}
	spaced, err := r.split(value)
	if err == nil && spaced {
		var compact bytes.Buffer
		if err = json.Compact(&compact, value); err == nil {
			_, err = r.split(compact.Bytes())
		}
	}
	if err != nil {
		*r = Record{}
	}
	return err
}

func (r *Record) split(value []byte) (spaced bool, err error) {
	r.data = value
	clear(r.fields[:])
	s := scanner{data: value}
	next := 0 // events come with their members in the table's order, nearly
	err = s.members(func(name, raw []byte) error {
		i := fieldAfter(next, name[1:len(name)-1])
		if i < 0 {
			return nil
		}
		next = i + 1
		r.fields[i] = span{uint32(s.pos - len(raw)), uint32(s.pos)}
		return nil
	})
	return s.spaced, err
}

// fieldsByLength has the places of the fields in schema.Fields by the length of their names.
var fieldsByLength = func() (table [32][]int) {
	for i, f := range schema.Fields {
		table[len(f.Name)] = append(table[len(f.Name)], i)
	}
	return table
}()

// fieldNumber finds a field's place in schema.Fields, -1 for a name that is none.
func fieldNumber(name []byte) int {
	if len(name) >= len(fieldsByLength) {
		return -1
	}
	for _, i := range fieldsByLength[len(name)] {
		if schema.Fields[i].Name == string(name) {
			return i
		}
	}
	return -1
}

// fieldAfter is fieldNumber of the inside of a JSON string, which tries next first.
func fieldAfter(next int, name []byte) int {
	if next < len(schema.Fields) && schema.Fields[next].Name == string(name) {
		return next
	}
	i := fieldNumber(name)
	if i < 0 && bytes.IndexByte(name, '\\') >= 0 {
		i = fieldNumber(appendUnescaped(nil, name))
	}
	return i
}

var (
	exceptionsField = fieldNumber([]byte("Exceptions"))
	logsField       = fieldNumber([]byte("Logs"))
)
