package logjob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// Output types.
const (
	NDJSON = "ndjson"
	CSV    = "csv"
)

// maxOptionBytes of one prefix, suffix, delimiter or template; the same as of a
// destination_conf.
const maxOptionBytes = 4096

// allFields, alone in field_names, selects the dataset's fields, also those that
// are added to it later, and none of ours.
const allFields = "*"

// timestampFormats are of fields of timestamp type, of which this dataset has none:
// its times are integers of milliseconds, which stay as they are.
var timestampFormats = []string{"unixnano", "unix", "rfc3339", "rfc3339ms", "rfc3339ns"}

// UnmarshalJSON refuses members that are not in the documentation: they would be
// ignored, and the output not look as asked.
func (o *OutputOptions) UnmarshalJSON(text []byte) error {
	type members OutputOptions // without this method
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var m members
	err := d.Decode(&m)
	if err == nil {
		*o = OutputOptions(m)
		return nil
	}
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return badValue("/output_options/"+strings.ReplaceAll(e.Field, ".", "/"),
			"output_options.%s cannot be a %s", e.Field, e.Value)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return badValue("/output_options", "output_options is not valid JSON")
	}
	return badValue("/output_options", "output_options: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// Validate checks the options by themselves. Its errors are *errs.Error.
func (o *OutputOptions) Validate() error {
	if err := validateFieldNames("/output_options/field_names", o.FieldNames); err != nil {
		return err
	}
	if !slices.Contains([]string{"", NDJSON, CSV}, o.OutputType) {
		return badValue("/output_options/output_type", "output_type %q must be %q or %q", shown(o.OutputType), NDJSON, CSV)
	}
	for _, text := range []struct {
		name  string
		value *string
	}{
		{"batch_prefix", o.BatchPrefix}, {"batch_suffix", o.BatchSuffix},
		{"record_prefix", o.RecordPrefix}, {"record_suffix", o.RecordSuffix},
		{"record_delimiter", o.RecordDelimiter}, {"field_delimiter", o.FieldDelimiter},
		{"record_template", o.RecordTemplate},
	} {
		if n := len(deref(text.value)); n > maxOptionBytes {
			return badValue("/output_options/"+text.name, "%s has %d bytes, more than the %d allowed", text.name, n, maxOptionBytes)
		}
	}
	if _, err := parseTemplate(deref(o.RecordTemplate)); err != nil {
		return err
	}
	if o.TimestampFormat != "" && !slices.Contains(timestampFormats, o.TimestampFormat) {
		return badValue("/output_options/timestamp_format", "timestamp_format %q must be one of %s",
			shown(o.TimestampFormat), strings.Join(timestampFormats, ", "))
	}
	if r := o.SampleRate; r != nil && !(*r > 0 && *r <= 1) {
		return badValue("/output_options/sample_rate", "sample_rate %v must be greater than 0 and at most 1", *r)
	}
	if o.MergeSubreqs != nil && *o.MergeSubreqs {
		return badValue("/output_options/merge_subrequests",
			"merge_subrequests true cannot be honoured: subrequests exist only in the dataset http_requests")
	}
	return nil
}

func validateFieldNames(pointer string, names []string) error {
	if len(names) == 1 && names[0] == allFields {
		return nil
	}
	for i, name := range names {
		at := fmt.Sprintf("%s/%d", pointer, i)
		if name == allFields {
			return badValue(at, `field "*" stands for all fields: it must be the only one`)
		}
		if _, ok := schema.FieldByName(name); !ok {
			return notAllowed(at, "field %q is not allowed: the dataset %s has no such field%s", shown(name), schema.Dataset, meantField(name))
		}
		if slices.Contains(names[:i], name) {
			return badValue(at, "field %q is named twice", name)
		}
	}
	return nil
}

// meantField ends a refusal of a field whose name differs from another's in case alone.
func meantField(name string) string {
	for _, f := range schema.Fields {
		if strings.EqualFold(f.Name, name) {
			return fmt.Sprintf("; did you mean %s?", f.Name)
		}
	}
	return ""
}

// ParseLogpullOptions reads the deprecated query string that says the same as
// output_options: fields, timestamps, sample and CVE-2021-44228.
func ParseLogpullOptions(text string) (*OutputOptions, error) {
	const pointer = "/logpull_options"
	if len(text) > maxOptionBytes {
		return nil, badValue(pointer, "logpull_options has %d bytes, more than the %d allowed", len(text), maxOptionBytes)
	}
	query, err := url.ParseQuery(text)
	if err != nil {
		return nil, badValue(pointer, "logpull_options %q is not a query string: %v", shown(text), err)
	}
	var o OutputOptions
	for key, values := range query {
		if len(values) > 1 {
			return nil, badValue(pointer, "logpull_options gives %q more than once", shown(key))
		}
		value := values[0]
		switch key {
		case "fields":
			if value != "" {
				o.FieldNames = strings.Split(value, ",")
			}
			if e, ok := errors.AsType[*errs.Error](validateFieldNames("", o.FieldNames)); ok {
				err = e.At(pointer)
			}
		case "timestamps":
			o.TimestampFormat = value
			if !slices.Contains([]string{"unixnano", "unix", "rfc3339"}, value) {
				err = badValue(pointer, "timestamps %q in logpull_options must be unixnano, unix or rfc3339", shown(value))
			}
		case "sample":
			rate, parseErr := strconv.ParseFloat(value, 64)
			o.SampleRate = &rate
			if parseErr != nil || !(rate > 0 && rate <= 1) {
				err = badValue(pointer, "sample %q in logpull_options must be a number greater than 0 and at most 1", shown(value))
			}
		case "CVE-2021-44228":
			on, parseErr := strconv.ParseBool(value)
			o.CVE202144228 = &on
			if parseErr != nil {
				err = badValue(pointer, "CVE-2021-44228 %q in logpull_options must be true or false", shown(value))
			}
		default:
			err = badValue(pointer, "logpull_options has the unknown parameter %q", shown(key))
		}
		if err != nil {
			return nil, err
		}
	}
	return &o, nil
}

// Output returns the options in force: output_options, or else what
// logpull_options says, or else the defaults. It never returns nil.
func (j *Job) Output() *OutputOptions {
	if j.OutputOptions != nil {
		return j.OutputOptions
	}
	o, err := ParseLogpullOptions(j.LogpullOptions)
	if err != nil { // Apply let no such job pass
		return &OutputOptions{}
	}
	return o
}

// FieldNames returns the fields that the job sends, in order.
func (j *Job) FieldNames() []string {
	names := j.Output().FieldNames
	if len(names) == 0 || names[0] == allFields {
		return schema.DefaultFields()
	}
	return names
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
