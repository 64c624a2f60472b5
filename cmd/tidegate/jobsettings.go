package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/logjob"
)

// jobSettings are the flags of what a job can be told. Those that are not given
// change nothing.
type jobSettings struct {
	flags *pflag.FlagSet

	name, destination, filter, outputOptions, challenge string
	options                                             logjob.OutputOptions
	texts                                               map[string]*string // flags of output options that are texts
	sampleRate                                          float64
	defuse, stringify                                   bool
	bytes, records, seconds                             int64
}

// outputTexts are the flags that become members of output_options.
var outputTexts = []struct{ flag, meaning string }{
	{"record-template", "what a record looks like, such as '{{.ScriptName}} {{.Outcome}}' (default: by --output-type)"},
	{"batch-prefix", "text before the first record of a batch"},
	{"batch-suffix", "text after the last record of a batch"},
	{"record-prefix", "text before each record"},
	{"record-suffix", "text after each record"},
	{"record-delimiter", "text between records"},
	{"field-delimiter", "text between fields"},
}

func newJobSettings(command *cobra.Command) *jobSettings {
	s := &jobSettings{flags: command.Flags(), texts: map[string]*string{}}
	f := s.flags
	f.StringVar(&s.destination, "destination", "", "where events go: https://, s3://, file:// and others, with parameters as Logpush has them")
	f.StringVar(&s.filter, "filter", "", "which events, as Logpush's JSON (default: all)")
	f.StringVar(&s.outputOptions, "output-options", "", "output_options as JSON, whole; the flags below change it")
	f.StringSliceVar(&s.options.FieldNames, "fields", nil, "fields of an event, in the order of the output (default: the API's)")
	f.StringVar(&s.options.OutputType, "output-type", "", "ndjson or csv (default ndjson)")
	f.StringVar(&s.options.TimestampFormat, "timestamp-format", "", "unixnano, unix, rfc3339, rfc3339ms or rfc3339ns")
	f.Float64Var(&s.sampleRate, "sample-rate", 1, "share of the events to send, after the filter")
	f.BoolVar(&s.defuse, "cve-2021-44228", false, "write x{ instead of ${")
	f.BoolVar(&s.stringify, "stringify-object", false, "lists and objects as strings of their JSON")
	for _, text := range outputTexts {
		s.texts[text.flag] = f.String(text.flag, "", text.meaning)
	}
	f.Int64Var(&s.bytes, "max-upload-bytes", 0, "uncompressed bytes of a batch at most, 5000000 to 1000000000; 0 is the service's own bound")
	f.Int64Var(&s.records, "max-upload-records", 0, "records of a batch at most, 1000 to 1000000; 0 is the service's own bound")
	f.Int64Var(&s.seconds, "max-upload-interval-seconds", 0, "seconds until a batch is sent at the latest, 30 to 300; 0 is the service's own bound")
	return s
}

// keeps adds the flags of what is only for a job that is stored.
func (s *jobSettings) keeps() {
	s.flags.StringVar(&s.name, "name", "", "name, of letters, digits, dots, underscores and hyphens")
	s.flags.StringVar(&s.challenge, "ownership-challenge", "", "text of the challenge file, where the destination needs one")
}

// update returns what was given. Output options that were not given stay as they were before.
func (s *jobSettings) update(cmd *cobra.Command, before *logjob.OutputOptions) (u logjob.Update, err error) {
	u.Name, u.DestinationConf = given(s.flags, "name", s.name), given(s.flags, "destination", s.destination)
	u.Filter, u.OwnershipChallenge = given(s.flags, "filter", s.filter), given(s.flags, "ownership-challenge", s.challenge)
	u.MaxUploadBytes, u.MaxUploadRecords = given(s.flags, "max-upload-bytes", s.bytes), given(s.flags, "max-upload-records", s.records)
	u.MaxUploadIntervalSeconds = given(s.flags, "max-upload-interval-seconds", s.seconds)
	u.OutputOptions, err = s.output(before)
	if err != nil {
		return u, usage(cmd, err)
	}
	return u, nil
}

// output returns the options with what was given, nil when that is nothing.
func (s *jobSettings) output(before *logjob.OutputOptions) (*logjob.OutputOptions, error) {
	var o logjob.OutputOptions
	changed := s.flags.Changed("output-options")
	if changed {
		if err := json.Unmarshal([]byte(s.outputOptions), &o); err != nil {
			return nil, fmt.Errorf("--output-options: %w", err)
		}
	} else if before != nil {
		o = *before
	}
	set := func(flag string, do func()) {
		if s.flags.Changed(flag) {
			do()
			changed = true
		}
	}
	set("fields", func() { o.FieldNames = s.options.FieldNames })
	set("output-type", func() { o.OutputType = s.options.OutputType })
	set("timestamp-format", func() { o.TimestampFormat = s.options.TimestampFormat })
	set("sample-rate", func() { o.SampleRate = &s.sampleRate })
	set("cve-2021-44228", func() { o.CVE202144228 = &s.defuse })
	set("stringify-object", func() { o.StringifyObject = &s.stringify })
	for flag, member := range map[string]**string{
		"record-template": &o.RecordTemplate, "batch-prefix": &o.BatchPrefix, "batch-suffix": &o.BatchSuffix, "record-prefix": &o.RecordPrefix,
		"record-suffix": &o.RecordSuffix, "record-delimiter": &o.RecordDelimiter, "field-delimiter": &o.FieldDelimiter,
	} {
		set(flag, func() { *member = s.texts[flag] })
	}
	if !changed {
		return nil, nil
	}
	return &o, nil
}

// given returns the value of a flag that is on the command line, nil otherwise.
func given[T any](flags *pflag.FlagSet, flag string, value T) *T {
	if !flags.Changed(flag) {
		return nil
	}
	return &value
}
