package intake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func decode(t *testing.T, body []byte, to any) {
	t.Helper()
	if err := json.Unmarshal(body, to); err != nil {
		t.Fatalf("the body is not JSON: %v: %.200s", err, body)
	}
}

// The functions below return the records of a body as lines, as sinktest.Content
// has them.

func textsOfDatadog(t *testing.T, body []byte) []byte {
	t.Helper()
	var logs []struct{ Message string }
	decode(t, body, &logs)
	var texts [][]byte
	for _, l := range logs {
		texts = append(texts, []byte(l.Message))
	}
	return lines(texts)
}

func textsOfIBM(t *testing.T, body []byte) []byte {
	t.Helper()
	var elements []struct{ Text json.RawMessage }
	decode(t, body, &elements)
	var texts [][]byte
	for _, element := range elements {
		if text := ""; json.Unmarshal(element.Text, &text) == nil {
			element.Text = []byte(text)
		}
		texts = append(texts, element.Text)
	}
	return lines(texts)
}

type lokiPush struct {
	Streams []struct {
		Stream map[string]string
		Values [][]json.RawMessage
	}
}

func textsOfLoki(t *testing.T, body []byte) []byte {
	t.Helper()
	var push lokiPush
	decode(t, body, &push)
	texts := map[string][]byte{}
	for _, stream := range push.Streams {
		for _, entry := range stream.Values {
			line := ""
			decode(t, entry[1], &line)
			texts[string(entry[0])] = []byte(line)
		}
	}
	return inOrder(texts)
}

func textsOfOTLP(t *testing.T, body []byte) []byte {
	t.Helper()
	texts := map[string][]byte{}
	for _, resource := range export(t, body).ResourceLogs {
		for _, record := range resource.ScopeLogs[0].LogRecords {
			texts[fmt.Sprint(record.TimeUnixNano)] = []byte(record.Body.GetStringValue())
		}
	}
	return inOrder(texts)
}

// textsOfElastic returns documents without the time that was added, or their messages.
func textsOfElastic(t *testing.T, body []byte) []byte {
	t.Helper()
	added := regexp.MustCompile(`"@timestamp":"[^"]*",?`)
	var texts [][]byte
	for i, line := range bytes.Split(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) {
		if i%2 == 0 {
			continue // what to do with the next one
		}
		var document struct{ Message *string }
		decode(t, line, &document)
		line = added.ReplaceAll(line, nil)
		if document.Message != nil {
			line = []byte(*document.Message)
		}
		texts = append(texts, line)
	}
	return lines(texts)
}

func bulkAnswer(items ...string) string {
	return `{"errors":false,"items":[` + strings.Join(items, ",") + `]}`
}

func export(t *testing.T, body []byte) *collector.ExportLogsServiceRequest {
	t.Helper()
	var request collector.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	return &request
}

func lines(texts [][]byte) []byte { return bytes.Join(texts, []byte("\n")) }

// inOrder returns texts by their times, which have the same number of digits.
func inOrder(texts map[string][]byte) []byte {
	var ordered [][]byte
	for _, at := range slices.Sorted(maps.Keys(texts)) {
		ordered = append(ordered, texts[at])
	}
	return lines(ordered)
}

// ibmTokens gives tokens away, and returns where.
func ibmTokens(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if q.FormValue("grant_type") != "urn:ibm:params:oauth:grant-type:apikey" || q.FormValue("apikey") != "k3y" {
			http.Error(w, `{"errorMessage":"Provided API key could not be found."}`, http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"access_token":"t0k3n","token_type":"Bearer","expires_in":3600}`)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func putTo(t *testing.T, scheme string, o logpush.Object) (*http.Request, []byte) {
	t.Helper()
	r := receive(t)
	if err := openService(t, scheme, r.Listener.Addr().String(), loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return r.only(t)
}

func TestEveryServiceGetsTheTestUpload(t *testing.T) {
	for scheme, service := range services {
		r := receive(t)
		sinks := logpush.Sinks{scheme: func(*url.URL) (logpush.Sink, error) {
			return openService(t, scheme, r.Listener.Addr().String(), loopback), nil
		}}
		if err := sinks.TestUpload(t.Context(), scheme+"://h/"); err != nil {
			t.Errorf("%s: %v", scheme, err)
			continue
		}
		q, body := r.only(t)
		texts := unzip(t, body)
		if service.texts != nil {
			texts = service.texts(t, texts)
		}
		if string(texts) != `{"content":"tests"}` || q.Header.Get(HeaderBatchID)+q.Header.Get(HeaderJobID) != "" {
			t.Errorf("%s got %s with the headers %v", scheme, texts, q.Header)
		}
	}
}

func TestSplunkRequest(t *testing.T) {
	r := receive(t)
	conf := "splunk://" + r.Listener.Addr().String() + "/services/collector/raw?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11" +
		"&insecure-skip-verify=false&sourcetype=cloudflare%3Ajson&header_Authorization=Splunk%20t0k3n&insecure=true"
	if err := open(t, conf, loopback).Put(t.Context(), sinktest.Object("a", "a")); err != nil {
		t.Fatal(err)
	}
	q, _ := r.only(t)
	if got, want := q.URL.String(), "/services/collector/raw?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11&sourcetype=cloudflare%3Ajson"; got != want {
		t.Errorf("the URL is %s, want %s", got, want)
	}
	if q.Header.Get("Authorization") != "Splunk t0k3n" || q.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("the headers are %v", q.Header)
	}
}

func TestSplunkMayHaveItsOwnCertificate(t *testing.T) {
	server := httptest.NewTLSServer(receive(t))
	defer server.Close()
	conf := "splunk://" + server.Listener.Addr().String() + "?channel=0c5c5d2f-5b4f-4b26-8c21-6f7d5a0f3c11" +
		"&sourcetype=x&header_Authorization=Splunk%20t0k3n&insecure-skip-verify="
	if err := open(t, conf+"true", loopback).Put(t.Context(), sinktest.Object("a", "a")); err != nil {
		t.Error(err)
	}
	if e := uploadError(t, open(t, conf+"false", loopback).Put(t.Context(), sinktest.Object("a", "a"))); !strings.Contains(e.Text, "certificate") {
		t.Errorf("an unknown certificate gave %v", e)
	}
}

func TestDatadogRequest(t *testing.T) {
	f := func(parameters, url, service string) {
		t.Helper()
		r := receive(t)
		o := sinktest.Items("a", `{"Outcome":"<ok>"}`+"\n"+`"exception",1`+"\n")
		if err := open(t, "datadog://"+r.Listener.Addr().String()+parameters, loopback).Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		q, body := r.only(t)
		if got := q.URL.String(); got != url {
			t.Errorf("the URL is %s, want %s", got, url)
		}
		if q.Header.Get("Dd-Api-Key") != "k3y" || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("the headers are %v", q.Header)
		}
		at := o.Date.UnixMilli()
		want := fmt.Sprintf(`[{"timestamp":%d,"status":"info"%s,"message":"{\"Outcome\":\"<ok>\"}"},{"timestamp":%d,"status":"error"%[2]s,"message":"\"exception\",1"}]`,
			at, service, at+1)
		if got := string(unzip(t, body)); got != want {
			t.Errorf("the body is\n%s, want\n%s", got, want)
		}
	}
	f("/v1/input?header_DD-API-KEY=k3y&ddsource=cloudflare&service=web&host=h&ddtags=env%3Aprod,team%3Ared&insecure=true",
		"/v1/input?ddsource=cloudflare&service=web&host=h&ddtags=env%3Aprod,team%3Ared", "")
	f("?insecure=true&header_DD-API-KEY=k3y", "/api/v2/logs", `,"service":"shop"`)
}

// What stands around records must fit into what the cap leaves, when each byte of
// them is escaped.
func TestDatadogBatchesStayBelowItsLimit(t *testing.T) {
	traits := datadog{}.Traits()
	const around = len(`,{"timestamp":1790000000000,"status":"error","service":"","message":""}`) + 63
	if most := 2*int(traits.MaxBytes) + traits.MaxRecords*around + 2; most > 5_000_000 {
		t.Errorf("a batch may have %d bytes", most)
	}
}

func TestIBMRequest(t *testing.T) {
	own := `{"applicationName":"ibm-platform-log","subsystemName":"internet-svcs:logpush","text":{"Outcome":"ok"}}`
	o := sinktest.Items("a", own+"\n"+`{"Outcome":"exception"}`+"\ntext\n")
	q, body := putTo(t, "ibmcl", o)
	if q.URL.RawQuery != "" || q.Header.Get("Authorization") != "Bearer t0k3n" {
		t.Errorf("%s with the headers %v", q.URL, q.Header)
	}
	at := o.Items[1].Time.UnixMilli()
	want := fmt.Sprintf(`[%s,{"applicationName":"tidegate","subsystemName":"shop","severity":5,"timestamp":%d,"text":{"Outcome":"exception"}},`+
		`{"applicationName":"tidegate","subsystemName":"shop","severity":3,"timestamp":%d,"text":"text"}]`, own, at, at+1)
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

// What stands around a record must fit into what the cap leaves, for the longest
// script name.
func TestIBMBatchesStayBelowItsLimit(t *testing.T) {
	item := logpush.Item{Text: []byte("{}"), Time: time.Now(), Script: strings.Repeat("s", 63), Outcome: "exception"}
	traits := (*ibm)(nil).Traits()
	around := len(appendIBM([]byte(","), &item)) - len(item.Text)
	if most := int(traits.MaxBytes) + traits.MaxRecords*around + 2; most > 2_000_000 {
		t.Errorf("a batch may have %d bytes", most)
	}
}

func TestIBMTokens(t *testing.T) {
	var fetched, refused atomic.Int32
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"access_token":"t0k3n%d","expires_in":3600}`, fetched.Add(1))
	}))
	defer tokens.Close()
	var valid atomic.Value
	valid.Store("Bearer t0k3n1")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		_, _ = io.Copy(io.Discard, q.Body)
		if q.Header.Get("Authorization") != valid.Load() {
			refused.Add(1)
			http.Error(w, "bad "+q.Header.Get("Authorization"), http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	options := loopback
	options.iam = tokens.URL
	s := open(t, "ibmcl://"+server.Listener.Addr().String()+"?ibm_api_key=k3y&insecure=true", options)
	put := func() error { return s.Put(t.Context(), sinktest.Items("a", "a\n")) }
	for range 2 {
		if err := put(); err != nil {
			t.Fatal(err)
		}
	}
	if n := fetched.Load(); n != 1 {
		t.Errorf("%d tokens were fetched for two batches, want 1", n)
	}
	// The token is taken back: a new one does, and the batch does not fail.
	valid.Store("Bearer t0k3n2")
	if err := put(); err != nil || fetched.Load() != 2 || refused.Load() != 1 {
		t.Errorf("with a token taken back: %v, %d fetched, %d refused", err, fetched.Load(), refused.Load())
	}
	// No token does: the error comes after one new try, and tells no token.
	valid.Store("none")
	e := uploadError(t, put())
	if e.Status != http.StatusUnauthorized || !e.Permanent || strings.Contains(e.Text, "t0k3n") || refused.Load() != 3 {
		t.Errorf("with no good token: %+v, %d refused", e, refused.Load())
	}
}

func TestIBMKeysThatAreRefused(t *testing.T) {
	f := func(status int, body string, wantStatus int, permanent bool) {
		t.Helper()
		tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		defer tokens.Close()
		options := loopback
		options.iam = tokens.URL
		s := open(t, "ibmcl://127.0.0.1:1?ibm_api_key=k3y&insecure=true", options)
		e := uploadError(t, s.Put(t.Context(), sinktest.Items("a", "a\n")))
		if e.Status != wantStatus || e.Permanent != permanent || !strings.Contains(e.Text, "ibm_api_key") {
			t.Errorf("IAM's %d gave %+v", status, e)
		}
	}
	f(400, `{"errorMessage":"Provided API key could not be found."}`, 401, true)
	f(503, "", 503, false)
	f(200, `{"access_token":""}`, 0, false)
	f(200, `<html>`, 0, false)
}

func TestLokiRequest(t *testing.T) {
	r := receive(t)
	conf := "loki://" + r.Listener.Addr().String() + "/loki/api/v1/push?insecure=true&tenant=red&label_env=prod"
	o := sinktest.Items("a", "first\nsecond\nthird\n")
	o.Items[0].Time, o.Items[2].Time = o.Items[2].Time, o.Items[0].Time
	if err := open(t, conf, loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	q, body := r.only(t)
	if q.URL.RawQuery != "" || q.Header.Get("X-Scope-Orgid") != "red" || q.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s with the headers %v", q.URL, q.Header)
	}
	at := o.Date.UnixNano()
	entry := func(ns int64, line, version string) string {
		return fmt.Sprintf(`["%d","%s",{"event_type":"fetch","version":"0190f5f6-0000-7000-8000-00000000000%s"}]`, at+ns, line, version)
	}
	want := `{"streams":[` +
		`{"stream":{"dataset":"workers_trace_events","env":"prod","outcome":"ok","service_name":"shop"},"values":[` +
		entry(0, "third", "1") + `,` + entry(2e6, "first", "1") + `]},` +
		`{"stream":{"dataset":"workers_trace_events","env":"prod","outcome":"exception","service_name":"shop"},"values":[` +
		entry(1e6, "second", "2") + `]}]}` + "\n"
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

func TestLokiWithoutStructuredMetadata(t *testing.T) {
	r := receive(t)
	s := open(t, "loki://"+r.Listener.Addr().String()+"?insecure=true&structured-metadata=false", loopback)
	if err := s.Put(t.Context(), sinktest.Items("a", "a\n")); err != nil {
		t.Fatal(err)
	}
	_, body := r.only(t)
	var push lokiPush
	decode(t, unzip(t, body), &push)
	if n := len(push.Streams[0].Values[0]); n != 2 {
		t.Errorf("an entry has %d parts, want 2", n)
	}
}

func TestOTLPRequest(t *testing.T) {
	o := sinktest.Items("a", "first\nsecond\nbad \xff\n")
	q, body := putTo(t, "otlp", o)
	if q.Header.Get("Content-Type") != "application/x-protobuf" {
		t.Errorf("the headers are %v", q.Header)
	}
	var got []string
	for _, resource := range export(t, unzip(t, body)).ResourceLogs {
		for _, record := range resource.ScopeLogs[0].LogRecords {
			line := fmt.Sprintf("%d %s %s", record.TimeUnixNano-uint64(o.Date.UnixNano()), record.SeverityText, record.Body.GetStringValue())
			for _, attribute := range slices.Concat(resource.Resource.Attributes, record.Attributes) {
				line += " " + attribute.Key + "=" + attribute.Value.GetStringValue()
			}
			got = append(got, line)
		}
	}
	want := []string{
		"0 INFO first service.name=shop service.version=0190f5f6-0000-7000-8000-000000000001 tidegate.outcome=ok tidegate.event_type=fetch tidegate.dataset=workers_trace_events tidegate.batch_id=7-0-a",
		"2000000 INFO bad \uFFFD service.name=shop service.version=0190f5f6-0000-7000-8000-000000000001 tidegate.outcome=ok tidegate.event_type=fetch tidegate.dataset=workers_trace_events tidegate.batch_id=7-0-a",
		"1000000 ERROR second service.name=shop service.version=0190f5f6-0000-7000-8000-000000000002 tidegate.outcome=exception tidegate.event_type=fetch tidegate.dataset=workers_trace_events tidegate.batch_id=7-0-a",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the records are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestOTLPPartialSuccess(t *testing.T) {
	f := func(answer []byte, want *logpush.UploadError) {
		t.Helper()
		r := receive(t)
		r.answer = func(w http.ResponseWriter) { _, _ = w.Write(answer) }
		err := openService(t, "otlp", r.Listener.Addr().String(), loopback).Put(t.Context(), sinktest.Items("a", "a\nb\nc\n"))
		if want == nil {
			if err != nil {
				t.Errorf("the answer %q gave %v", answer, err)
			}
			return
		}
		if e := uploadError(t, err); !reflect.DeepEqual(e, want) {
			t.Errorf("the answer %q gave %+v, want %+v", answer, e, want)
		}
	}
	partial := func(n int64, message string) []byte {
		body, err := proto.Marshal(&collector.ExportLogsServiceResponse{PartialSuccess: &collector.ExportLogsPartialSuccess{
			RejectedLogRecords: n, ErrorMessage: message,
		}})
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	f(nil, nil)
	f(partial(0, ""), nil)
	f(partial(0, "old fields are going away"), nil)
	f([]byte("<html>OK</html>"), nil)
	f(partial(1, "too old"), &logpush.UploadError{Status: 400, Text: "1 of 3 records were rejected: too old", Permanent: true})
	f(partial(3, "too old"), &logpush.UploadError{Status: 400, Text: "3 of 3 records were rejected: too old", Permanent: true, Records: []int{0, 1, 2}})
}

func TestElasticRequest(t *testing.T) {
	r := receive(t)
	conf := "elastic://u:p@" + r.Listener.Addr().String() + "/logs-tidegate/?insecure=true&pipeline=p"
	o := sinktest.Items("a", `{"Outcome":"ok"}`+"\n{}\n"+`{"@timestamp":1}`+"\ntext\n")
	o.Items[0].Text = []byte("{\n \"Outcome\": \"ok\"\n}")
	if err := open(t, conf, loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	q, body := r.only(t)
	if got, want := q.URL.String(), "/logs-tidegate/_bulk?pipeline=p&filter_path=errors,items.*.status,items.*.error.reason"; got != want {
		t.Errorf("the URL is %s, want %s", got, want)
	}
	if user, password, _ := q.BasicAuth(); user != "u" || password != "p" || q.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("the headers are %v", q.Header)
	}
	want := `{"create":{"_id":"7-0-a-0"}}
{"@timestamp":"2026-10-09T23:59:59.000Z","Outcome":"ok"}
{"create":{"_id":"7-0-a-1"}}
{"@timestamp":"2026-10-09T23:59:59.001Z"}
{"create":{"_id":"7-0-a-2"}}
{"@timestamp":1}
{"create":{"_id":"7-0-a-3"}}
{"@timestamp":"2026-10-09T23:59:59.003Z","message":"text"}
`
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

func TestElasticAnswersForEachRecord(t *testing.T) {
	f := func(answer string, want *logpush.UploadError) {
		t.Helper()
		r := receive(t)
		r.answer = func(w http.ResponseWriter) { _, _ = io.WriteString(w, answer) }
		err := openService(t, "elastic", r.Listener.Addr().String(), loopback).Put(t.Context(), sinktest.Items("a", "a\nb\nc\n"))
		if want == nil {
			if err != nil {
				t.Errorf("the answer %s gave %v", answer, err)
			}
			return
		}
		if e := uploadError(t, err); !reflect.DeepEqual(e, want) {
			t.Errorf("the answer %s gave %+v, want %+v", answer, e, want)
		}
	}
	const created, conflict = `{"create":{"status":201}}`, `{"create":{"status":409,"error":{"reason":"document already exists"}}}`
	failed := func(status int) string {
		return fmt.Sprintf(`{"create":{"status":%d,"error":{"reason":"because"}}}`, status)
	}
	f(bulkAnswer(created, created, created), nil)
	f(bulkAnswer(conflict, created, conflict), nil) // a repeat
	f(bulkAnswer(created, failed(400), failed(400)), &logpush.UploadError{
		Status: 400, Text: "2 of 3 records were refused: because", Permanent: true, Records: []int{1, 2}})
	f(bulkAnswer(failed(400), failed(429), created), &logpush.UploadError{Status: 429, Text: "because"})
	f(bulkAnswer(failed(503), created, created), &logpush.UploadError{Status: 503, Text: "because"})
	f(bulkAnswer(failed(403), failed(403), failed(403)), &logpush.UploadError{Status: 403, Text: "because", Permanent: true})
	f(bulkAnswer(failed(404), failed(404), failed(404)), &logpush.UploadError{Status: 404, Text: "because", Permanent: true})
	f(bulkAnswer(created), &logpush.UploadError{Text: "the answer is not one of the bulk API: " + bulkAnswer(created)})
	f("", &logpush.UploadError{Text: "the answer is not one of the bulk API: "})
	f("{}", &logpush.UploadError{Text: "the answer is not one of the bulk API: {}"})
}

// A document is one line, whatever the record is.
func FuzzAppendDocument(f *testing.F) {
	f.Add(`{"Outcome":"ok"}`)
	f.Add("{\r\n\t}")
	f.Add("{} \n")
	f.Add("a,b\r\n")
	f.Add(`{"@timestamp":null}`)
	f.Fuzz(func(t *testing.T, text string) {
		item := logpush.Item{Text: []byte(text), Time: time.Unix(0, 0)}
		document := appendDocument(nil, &item)
		if !isObject(document) || bytes.ContainsRune(document, '\n') {
			t.Fatalf("%q became %q", text, document)
		}
		if array := append(appendIBM([]byte{'['}, &item), ']'); !json.Valid(array) {
			t.Fatalf("%q became %q", text, array)
		}
	})
}
