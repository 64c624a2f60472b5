package logjob

import "bytes"

// Format writes the batches of one job:
//
//	batch  = BatchPrefix + join(records, Delimiter) + BatchSuffix
//	record = record_prefix + body + record_suffix
//
// where body is the template, or the fields with field_delimiter between them.
// It is immutable and safe for concurrent use.
type Format struct {
	BatchPrefix, BatchSuffix, Delimiter []byte
	ContentType                         string // of the uncompressed batch

	parts     []formatPart
	tail      []byte // follows the last part
	csv       bool
	stringify bool
	defuse    bool
}

// formatPart is a constant text and the field after it, as its place in schema.Fields.
type formatPart struct {
	before []byte
	field  int
}

// Format compiles the output options in force. The job must have passed Apply.
func (j *Job) Format() (*Format, error) {
	o := j.Output()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	f := &Format{
		BatchPrefix: []byte(deref(o.BatchPrefix)),
		BatchSuffix: []byte(deref(o.BatchSuffix)),
		Delimiter:   []byte(deref(o.RecordDelimiter)),
		ContentType: "application/x-ndjson",
		csv:         o.OutputType == CSV,
		stringify:   deref(o.StringifyObject),
		defuse:      deref(o.CVE202144228),
	}
	prefix, suffix := "{", "}\n"
	if f.csv {
		f.ContentType = "text/csv; charset=utf-8"
		prefix, suffix = "", "\n"
	}
	f.add(orElse(o.RecordPrefix, prefix))
	if err := f.addBody(o, j.FieldNames()); err != nil {
		return nil, err
	}
	f.add(orElse(o.RecordSuffix, suffix))
	return f, nil
}

func (f *Format) addBody(o *OutputOptions, names []string) error {
	parts, err := parseTemplate(deref(o.RecordTemplate))
	if err != nil {
		return err
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[name] = true
	}
	for _, p := range parts {
		switch {
		case p.text != "":
			f.add(p.text)
		case listed[p.field]:
			f.addField(p.field)
		default: // as Logpush has it, for both output types
			f.add("null")
		}
	}
	if deref(o.RecordTemplate) != "" { // also one that comes to nothing
		return nil
	}
	for i, name := range names {
		if i > 0 {
			f.add(orElse(o.FieldDelimiter, ","))
		}
		if !f.csv {
			f.add(`"` + name + `":`)
		}
		f.addField(name)
	}
	return nil
}

func (f *Format) add(text string) { f.tail = append(f.tail, text...) }

func (f *Format) addField(name string) {
	f.parts = append(f.parts, formatPart{before: f.tail, field: fieldNumber([]byte(name))})
	f.tail = nil
}

// RecordBytesMax bounds the text of a record. An event is far shorter; a record_template
// that names a long field hundreds of times makes much of little.
const RecordBytesMax = 8 << 20

// AppendRecord appends one record, without delimiter. It stops when it has appended more
// than RecordBytesMax: what it returns then is not a record.
func (f *Format) AppendRecord(b []byte, r *Record) []byte {
	before := len(b)
	for i := range f.parts {
		if len(b)-before > RecordBytesMax {
			return b
		}
		b = append(b, f.parts[i].before...)
		raw := r.field(f.parts[i].field)
		switch {
		case f.csv:
			b = appendCSV(b, raw)
		case raw == nil:
			b = append(b, "null"...)
		case f.stringify && (raw[0] == '{' || raw[0] == '['):
			b = appendJSONString(b, raw)
		default:
			b = append(b, raw...)
		}
	}
	return append(b, f.tail...)
}

// appendJSONString appends valid JSON as a JSON string: it has no control characters.
func appendJSONString(b, raw []byte) []byte {
	b = append(b, '"')
	start := 0
	for i, c := range raw {
		if c == '"' || c == '\\' {
			b = append(append(b, raw[start:i]...), '\\', c)
			start = i + 1
		}
	}
	return append(append(b, raw[start:]...), '"')
}

// appendCSV appends a value as a CSV cell: text in double quotes, with those
// inside doubled (RFC 4180); numbers and booleans bare; lists and objects as the
// text of their JSON; nothing for a missing value.
func appendCSV(b, raw []byte) []byte {
	if raw == nil {
		return b
	}
	switch raw[0] {
	case 'n': // null
		return b
	case '"', '{', '[':
	default:
		return append(b, raw...)
	}
	b = append(b, '"')
	start := len(b)
	if text, escaped, ok := inside(raw); !ok {
		b = append(b, raw...)
	} else if escaped {
		b = appendUnescaped(b, text)
	} else {
		return append(append(b, text...), '"') // and no quote can be in it
	}
	return append(doubleQuotes(b, start), '"')
}

// doubleQuotes doubles the quotes of b from start on, in place from the end.
func doubleQuotes(b []byte, start int) []byte {
	from := len(b)
	b = append(b, make([]byte, bytes.Count(b[start:], []byte{'"'}))...)
	for to := len(b); to > from; {
		from--
		to--
		b[to] = b[from]
		if b[from] == '"' {
			to--
			b[to] = '"'
		}
	}
	return b
}

// Defuse rewrites "${" into "x{" throughout b, in place, if the job asks for it
// (option CVE-2021-44228): no receiver's logger shall look anything up.
func (f *Format) Defuse(b []byte) {
	if !f.defuse {
		return
	}
	for {
		i := bytes.Index(b, []byte("${"))
		if i < 0 {
			return
		}
		b[i] = 'x'
		b = b[i+2:]
	}
}

func orElse(text *string, otherwise string) string {
	if text == nil {
		return otherwise
	}
	return *text
}
