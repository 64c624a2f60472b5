package intake

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	"google.golang.org/protobuf/proto"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

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
	// It was cut off, and taken for none: the records that were rejected were lost.
	long := strings.Repeat("too old; ", 20_000)
	f(partial(1, long), &logpush.UploadError{Status: 400, Text: "1 of 3 records were rejected: " + logpush.TextOf([]byte(long)), Permanent: true})
	f(partial(1, strings.Repeat(long, 30)), &logpush.UploadError{Status: 400, Text: "the answer has 4194304 bytes or more: which records it took is not known", Permanent: true})
	f(partial(3, "too old"), &logpush.UploadError{Status: 400, Text: "3 of 3 records were rejected: too old", Permanent: true, Records: []int{0, 1, 2}})
}

// Of an answer that breaks off nobody knows whether it told of rejected records. A plain
// receiver that answered 200 has the batch.
func TestAnswersThatBreakOff(t *testing.T) {
	for scheme, again := range map[string]bool{"otlp": true, "http": false} {
		r := receive(t)
		r.answer = func(w http.ResponseWriter) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte{10, 98})
		}
		s := openService(t, scheme, r.Listener.Addr().String(), loopback)
		err := s.Put(t.Context(), object(s, "a\n"))
		if !again {
			if err != nil {
				t.Errorf("%s: %v", scheme, err)
			}
			continue
		}
		if e := uploadError(t, err); e.Permanent || !strings.Contains(e.Text, "before the answer") {
			t.Errorf("%s: %+v", scheme, e)
		}
	}
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

func export(t *testing.T, body []byte) *collector.ExportLogsServiceRequest {
	t.Helper()
	var request collector.ExportLogsServiceRequest
	if err := proto.Unmarshal(body, &request); err != nil {
		t.Fatal(err)
	}
	return &request
}
