package logjob

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"tidegate/internal/errs"
	"tidegate/schema"
)

const published = `{
	"name": "workers-logpush", "dataset": "workers_trace_events", "enabled": true,
	"destination_conf": "https://logs.example/in?header_Authorization=Bearer%20abc",
	"output_options": {"field_names": ["Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"]}
}`

// apply decodes a body as the API does and applies it.
func apply(t *testing.T, j *Job, body string) error {
	t.Helper()
	var u Update
	if err := json.Unmarshal([]byte(body), &u); err != nil {
		return err
	}
	return u.Apply(j)
}

func created(t *testing.T) Job {
	t.Helper()
	j := New("0123456789abcdef0123456789abcdef")
	if err := apply(t, &j, published); err != nil {
		t.Fatal(err)
	}
	return j
}

func TestThePublishedRequestCreatesAJob(t *testing.T) {
	j := created(t)
	got, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":0,"dataset":"workers_trace_events","kind":"","name":"workers-logpush","enabled":true,` +
		`"destination_conf":"https://logs.example/in?header_Authorization=Bearer%20abc",` +
		`"output_options":{"field_names":["Event","EventTimestampMs","Outcome","Logs","ScriptName","ScriptVersion"]},` +
		`"last_complete":null,"last_error":null,"error_message":null}`
	if string(got) != want {
		t.Errorf("job is %s\nwant   %s", got, want)
	}
	if names := j.FieldNames(); !reflect.DeepEqual(names, []string{"Event", "EventTimestampMs", "Outcome", "Logs", "ScriptName", "ScriptVersion"}) {
		t.Errorf("fields are %v", names)
	}
}

func TestUpdates(t *testing.T) {
	f := func(name string, bodies []string, check func(j Job) bool) {
		t.Helper()
		j := created(t)
		for _, body := range bodies {
			if err := apply(t, &j, body); err != nil {
				t.Errorf("%s: %s: %v", name, body, err)
				return
			}
		}
		if !check(j) {
			text, _ := json.Marshal(j)
			t.Errorf("%s: the job is now %s", name, text)
		}
	}
	const filter = `{"filter": "{\"where\":{\"key\":\"Outcome\",\"operator\":\"eq\",\"value\":\"ok\"}}"}`
	f("one member keeps the rest", []string{`{"enabled": false}`}, func(j Job) bool {
		return !j.Enabled && j.Name == "workers-logpush" && j.DestinationConf != "" && j.OutputOptions != nil
	})
	f("null keeps the value", []string{`{"name": null, "output_options": null, "max_upload_bytes": null}`}, func(j Job) bool {
		return j.Name == "workers-logpush" && j.OutputOptions != nil && j.MaxUploadBytes == nil
	})
	f("output_options is replaced whole", []string{`{"output_options": {"output_type": "csv"}}`}, func(j Job) bool {
		return j.OutputOptions.OutputType == CSV && j.OutputOptions.FieldNames == nil && len(j.FieldNames()) == len(schema.DefaultFields())
	})
	f("filter is set", []string{filter}, func(j Job) bool { return strings.HasPrefix(j.Filter, `{"where"`) })
	f("filter is kept", []string{filter, `{"enabled": true}`}, func(j Job) bool { return j.Filter != "" })
	f("filter is cleared", []string{filter, `{"filter": ""}`}, func(j Job) bool { return j.Filter == "" })
	f("the name changes", []string{`{"name": "b.C_2-x"}`}, func(j Job) bool { return j.Name == "b.C_2-x" })
	f("the name is emptied", []string{`{"name": ""}`}, func(j Job) bool { return j.Name == "" })
	f("dataset and kind may be repeated", []string{`{"dataset": "workers_trace_events", "kind": ""}`}, func(j Job) bool { return j.Dataset == schema.Dataset })
	f("bounds are set", []string{`{"max_upload_bytes": 5000000, "max_upload_interval_seconds": 300, "max_upload_records": 0}`}, func(j Job) bool {
		return *j.MaxUploadBytes == 5_000_000 && *j.MaxUploadIntervalSeconds == 300 && *j.MaxUploadRecords == 0
	})
	f("settings that ask for nothing pass", []string{
		`{"filter_attack_traffic": false, "frequency": "low", "ownership_challenge": "", "output_options": {"merge_subrequests": false, "sample_rate": 1}}`,
	}, func(j Job) bool { return j.Frequency == FrequencyLow })
	f("logpull_options do not replace output_options", []string{`{"logpull_options": "fields=Outcome"}`}, func(j Job) bool { return len(j.FieldNames()) == 6 })
	f("the destination changes", []string{`{"destination_conf": "s3://b/{DATE}?region=r&access-key-id=a&secret-access-key=s"}`}, func(j Job) bool {
		return strings.HasPrefix(j.DestinationConf, "s3://")
	})
}

func TestLogpullOptionsCountWithoutOutputOptions(t *testing.T) {
	j := New("a")
	if err := apply(t, &j, `{"dataset": "workers_trace_events", "destination_conf": "https://x/",
		"logpull_options": "fields=Outcome,ScriptName&timestamps=rfc3339&sample=0.25&CVE-2021-44228=true"}`); err != nil {
		t.Fatal(err)
	}
	o := j.Output()
	if !reflect.DeepEqual(j.FieldNames(), []string{"Outcome", "ScriptName"}) || o.TimestampFormat != "rfc3339" || *o.SampleRate != 0.25 || !*o.CVE202144228 {
		t.Errorf("options are %+v", o)
	}
}

func TestRefusedCreates(t *testing.T) {
	const rest = `"dataset": "workers_trace_events", "destination_conf": "https://x/"`
	f := func(body string, kind errs.Kind, code int, pointer, message string) {
		t.Helper()
		j := New("a")
		refused(t, &j, body, kind, code, pointer, message)
	}
	bad := func(body, pointer, message string) { t.Helper(); f(body, errs.Invalid, 1002, pointer, message) }

	bad(`{"destination_conf": "https://x/"}`, "/dataset", "dataset is missing")
	bad(`{"dataset": "http_requests", "destination_conf": "https://x/"}`, "/dataset", `"http_requests"`)
	bad(`{"dataset": "workers_trace_events"}`, "/destination_conf", "is missing")
	bad(`{`+rest+`, "kind": "edge"}`, "/kind", "edge")
	bad(`{`+rest+`, "kind": "instant-logs"}`, "/kind", "instant-logs")
	bad(`{`+rest+`, "name": "a b"}`, "/name", `"a b"`)
	bad(`{`+rest+`, "name": "`+strings.Repeat("n", 513)+`"}`, "/name", "513")
	bad(`{`+rest+`, "frequency": "often"}`, "/frequency", `"often"`)
	bad(`{`+rest+`, "max_upload_bytes": 4999999}`, "/max_upload_bytes", "4999999")
	bad(`{`+rest+`, "max_upload_bytes": 1000000001}`, "/max_upload_bytes", "1000000001")
	bad(`{`+rest+`, "max_upload_interval_seconds": 29}`, "/max_upload_interval_seconds", "29")
	bad(`{`+rest+`, "max_upload_interval_seconds": 301}`, "/max_upload_interval_seconds", "301")
	bad(`{`+rest+`, "max_upload_records": 999}`, "/max_upload_records", "999")
	bad(`{`+rest+`, "max_upload_records": -1}`, "/max_upload_records", "-1")
	bad(`{`+rest+`, "transformer_id": 7}`, "/transformer_id", "transformer 7 not found for this account")
	bad(`{`+rest+`, "transformer_id": "a1"}`, "/transformer_id", `transformer "a1" not found for this account`)
	bad(`{`+rest+`, "filter_attack_traffic": true}`, "/filter_attack_traffic", "true")
	bad(`{`+rest+`, "ownership_challenge": "a b"}`, "/ownership_challenge", "letters")
	bad(`{`+rest+`, "output_options": {"output_type": "xml"}}`, "/output_options/output_type", `"xml"`)
	bad(`{`+rest+`, "output_options": {"field_names": ["Outcome", "Outcome"]}}`, "/output_options/field_names/1", "twice")
	bad(`{`+rest+`, "output_options": {"sample_rate": 0}}`, "/output_options/sample_rate", "0")
	bad(`{`+rest+`, "output_options": {"sample_rate": 1.5}}`, "/output_options/sample_rate", "1.5")
	bad(`{`+rest+`, "output_options": {"merge_subrequests": true}}`, "/output_options/merge_subrequests", "true")
	bad(`{`+rest+`, "output_options": {"timestamp_format": "iso"}}`, "/output_options/timestamp_format", `"iso"`)
	bad(`{`+rest+`, "output_options": {"record_template": "{{if .Outcome}}"}}`, "/output_options/record_template", "{{if")
	bad(`{`+rest+`, "output_options": {"batch_prefix": "`+strings.Repeat("p", 4097)+`"}}`, "/output_options/batch_prefix", "4097")
	bad(`{`+rest+`, "output_options": {"stringify_object": "yes"}}`, "/output_options/stringify_object", "string")
	bad(`{`+rest+`, "output_options": {"colour": "red"}}`, "/output_options", "colour")
	bad(`{`+rest+`, "output_options": {"field_names": ["Outcome", "*"]}}`, "/output_options/field_names/1", "only one")
	bad(`{`+rest+`, "output_options": {"field_names": ["*", "Gateway"]}}`, "/output_options/field_names/0", "only one")
	bad(`{`+rest+`, "logpull_options": "fields=*,Outcome"}`, "/logpull_options", "only one")
	bad(`{`+rest+`, "output_options": {"field_names": "Outcome"}}`, "/output_options/field_names", "string")
	bad(`{`+rest+`, "logpull_options": "fields=Outcome&colour=red"}`, "/logpull_options", "colour")
	bad(`{`+rest+`, "logpull_options": "timestamps=rfc3339ns"}`, "/logpull_options", "rfc3339ns")
	bad(`{`+rest+`, "logpull_options": "sample=0"}`, "/logpull_options", `"0"`)
	bad(`{`+rest+`, "logpull_options": "sample=NaN"}`, "/logpull_options", "NaN")
	bad(`{`+rest+`, "logpull_options": "CVE-2021-44228=maybe"}`, "/logpull_options", "maybe")
	bad(`{`+rest+`, "logpull_options": "sample=1&sample=1"}`, "/logpull_options", "more than once")
	bad(`{`+rest+`, "logpull_options": "%zz"}`, "/logpull_options", "%zz")

	conf := func(value string) string {
		text, _ := json.Marshal(value)
		return `{"dataset": "workers_trace_events", "destination_conf": ` + string(text) + `}`
	}
	bad(conf("nonsense"), "/destination_conf", "not a URL")
	bad(conf("https://x:a/?k=v"), "/destination_conf", "not a URL")
	bad(conf("https://x/?a=%zz"), "/destination_conf", "URL-encoded")
	bad(conf("https://x/?header_A=b#c"), "/destination_conf", "fragment")
	bad(conf("https://x/"+strings.Repeat("p", 4096)), "/destination_conf", "4106")

	forbidden := func(body, pointer, message string) { t.Helper(); f(body, errs.Forbidden, 1004, pointer, message) }
	forbidden(`{`+rest+`, "filter": "{\"where\":{\"key\":\"WallTimeMs\",\"operator\":\"in\",\"value\":\"200,201\"}}"}`, "/filter",
		`bad predicate: failed to decode value "\"200,201\""`)
	forbidden(`{`+rest+`, "filter": "`+strings.Repeat(" ", 1001)+`"}`, "/filter", "1001 bytes")
	forbidden(`{`+rest+`, "output_options": {"field_names": ["Outcome", "ClientIP"]}}`, "/output_options/field_names/1", `"ClientIP"`)
	forbidden(`{`+rest+`, "output_options": {"record_template": "{{.ClientIP}}"}}`, "/output_options/record_template", `"ClientIP"`)
	forbidden(`{`+rest+`, "logpull_options": "fields=ClientIP"}`, "/logpull_options", `"ClientIP"`)
	// Names in another case were told not to exist, and not that case counts.
	forbidden(`{`+rest+`, "output_options": {"field_names": ["event"]}}`, "/output_options/field_names/0", `has no such field; did you mean Event?`)
	forbidden(`{`+rest+`, "output_options": {"record_template": "{{.outcome}}"}}`, "/output_options/record_template", "did you mean Outcome?")
	forbidden(`{`+rest+`, "logpull_options": "fields=Outcome,cputimems"}`, "/logpull_options", "did you mean CPUTimeMs?")
}

func TestRefusedUpdatesChangeNothing(t *testing.T) {
	f := func(body, pointer string) {
		t.Helper()
		j := created(t)
		refused(t, &j, body, errs.Invalid, 1002, pointer, "")
	}
	f(`{"enabled": false, "dataset": "http_requests"}`, "/dataset")
	f(`{"enabled": false, "kind": "edge"}`, "/kind")
	f(`{"enabled": false, "destination_conf": ""}`, "/destination_conf")
	f(`{"enabled": false, "name": "new", "max_upload_records": 5}`, "/max_upload_records")
}

// refused checks an error to the letter and that the job stayed as it was.
func refused(t *testing.T, j *Job, body string, kind errs.Kind, code int, pointer, message string) {
	t.Helper()
	before := *j
	err := apply(t, j, body)
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		t.Errorf("%s gave %v, want an *errs.Error", body, err)
		return
	}
	if e.Kind != kind || e.Code != code || e.Pointer != pointer || !strings.Contains(e.Message, message) {
		t.Errorf("%s gave %s %d at %s: %s\nwant %s %d at %s with %q", body, e.Kind, e.Code, e.Pointer, e.Message, kind, code, pointer, message)
	}
	if !reflect.DeepEqual(before, *j) {
		t.Errorf("%s changed the job to %+v", body, *j)
	}
}

func TestAFilterHasAtMostThirtyOperators(t *testing.T) {
	nested := func(groups int) string {
		return `{"where":` + strings.Repeat(`{"and":[`, groups) + `{"key":"Outcome","operator":"eq","value":"ok"}` + strings.Repeat(`]}`, groups) + `}`
	}
	if _, err := ParseFilter(nested(29)); err != nil {
		t.Errorf("30 operators are refused: %v", err)
	}
	if _, err := ParseFilter(nested(30)); err == nil || !strings.Contains(err.Error(), "more than 30 operators") {
		t.Errorf("31 operators give %v", err)
	}
}

func FuzzFilter(f *testing.F) {
	f.Add(`{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`)
	f.Add(`{"where":{"and":[{"key":"WallTimeMs","operator":"!in","value":[1,"2"]},{"or":[{"key":"ScriptTags","operator":"contains","value":"\u0065u"}]}]}}`)
	f.Add(`{"where":{"or":[]}}`)
	f.Add(`{"where":{"and":null}}`)
	records := events(f)
	// An accepted filter is valid JSON within its limit, and answers for any
	// record, also one without members.
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		if text != "" && (!json.Valid([]byte(text)) || len(text) > maxFilterBytes) {
			t.Fatalf("accepted %q", text)
		}
		for _, r := range records {
			filter.Match(r)
		}
		var empty Record
		if err := empty.Split([]byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		filter.Match(&empty)
	})
}

// What is accepted can be used: every named field exists and the rate is in range.
func FuzzLogpullOptions(f *testing.F) {
	f.Add("fields=Outcome,ScriptName&timestamps=rfc3339&sample=0.1&CVE-2021-44228=true")
	f.Add("")
	f.Add("fields=&sample=1e-9")
	f.Fuzz(func(t *testing.T, text string) {
		o, err := ParseLogpullOptions(text)
		if err != nil {
			return
		}
		if err := o.Validate(); err != nil {
			t.Fatalf("%q was accepted as options that are refused: %v", text, err)
		}
	})
}
