package intake

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	logs "go.opentelemetry.io/proto/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"tidegate/pipeline/logpush"
)

// OTLP over HTTP, https://opentelemetry.io/docs/specs/otlp/#otlphttp. The port is
// the one registered for it.
var otlpRules = rules{path: "/v1/logs", port: "4318"}

type otlp struct{ *endpoint }

func openOTLP(e *endpoint, _ params, _ Options) (logpush.Sink, error) {
	// A message may repeat a reason for each record that was rejected. Of an answer that is
	// cut off nobody could tell that any was. 4 MiB is what gRPC takes.
	e.answerMax, e.answerCounts = 4<<20, true
	return otlp{e}, nil
}

// Traits implements logpush.Traiter. A collector takes 20 MiB a request, but passes
// it on over gRPC, which takes 4 MiB: half of that leaves room for the attributes of
// short records.
func (otlp) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 2_000_000, MaxRecords: 10_000, MaxRecordBytes: 1_000_000, Records: true}
}

// Put implements logpush.Sink. A destination that rejects some records says how
// many, not which: the batch is then refused as a whole, so that whoever sends it
// in parts finds them, and those that it took come twice.
func (s otlp) Put(ctx context.Context, o logpush.Object) error {
	p, err := compress("application/x-protobuf", func(w io.Writer) error {
		body, err := proto.Marshal(exportOf(&o, time.Now()))
		if err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	})
	if err != nil {
		return &logpush.UploadError{Text: "the batch cannot be encoded: " + err.Error(), Permanent: true}
	}
	answer, err := s.post(ctx, &o, p)
	if err != nil {
		return err
	}
	const partialSuccess = 1<<3 | 2 // the tag with which an answer begins that may tell of rejected records
	if int64(len(answer)) == s.answerMax && answer[0] == partialSuccess {
		// How many stands behind what was read. Fewer records get a shorter answer.
		return &logpush.UploadError{Status: http.StatusBadRequest, Text: fmt.Sprintf("the answer has %d bytes or more: which records it took is not known", s.answerMax), Permanent: true}
	}
	return rejected(answer, len(o.Items))
}

// rejected is the error of an answer that tells of rejected records. An answer that
// is not of the protocol, as a proxy may give one, tells of none.
func rejected(answer []byte, sent int) error {
	var response collector.ExportLogsServiceResponse
	if proto.Unmarshal(answer, &response) != nil {
		return nil
	}
	partial := response.GetPartialSuccess()
	if partial.GetRejectedLogRecords() <= 0 { // a message alone is a warning
		return nil
	}
	failure := &logpush.UploadError{
		Status:    http.StatusBadRequest, // which HTTP's 200 hides
		Text:      fmt.Sprintf("%d of %d records were rejected: %s", partial.GetRejectedLogRecords(), sent, logpush.TextOf([]byte(partial.GetErrorMessage()))),
		Permanent: true,
	}
	if partial.GetRejectedLogRecords() >= int64(sent) {
		for i := range sent {
			failure.Records = append(failure.Records, i)
		}
	}
	return failure
}

// exportOf returns the request: a resource for each version of each script.
func exportOf(o *logpush.Object, now time.Time) *collector.ExportLogsServiceRequest {
	request := &collector.ExportLogsServiceRequest{}
	found := map[[2]string]*logs.ScopeLogs{}
	for i := range o.Items {
		item := &o.Items[i]
		key := [2]string{item.Script, item.Version}
		scope := found[key]
		if scope == nil {
			scope = &logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: "tidegate/logpush"}}
			found[key] = scope
			request.ResourceLogs = append(request.ResourceLogs, &logs.ResourceLogs{
				Resource:  &resource.Resource{Attributes: attributes("service.name", item.Script, "service.version", item.Version)},
				ScopeLogs: []*logs.ScopeLogs{scope},
			})
		}
		scope.LogRecords = append(scope.LogRecords, recordOf(o, item, now))
	}
	return request
}

func recordOf(o *logpush.Object, item *logpush.Item, now time.Time) *logs.LogRecord {
	record := &logs.LogRecord{
		TimeUnixNano:         uint64(item.Time.UnixNano()),
		ObservedTimeUnixNano: uint64(now.UnixNano()),
		SeverityNumber:       logs.SeverityNumber_SEVERITY_NUMBER_INFO,
		SeverityText:         "INFO",
		Body:                 stringValue(string(bytes.TrimRight(item.Text, "\r\n"))),
		Attributes: attributes("tidegate.outcome", item.Outcome, "tidegate.event_type", item.EventType,
			"tidegate.dataset", o.Dataset, "tidegate.batch_id", o.BatchID),
	}
	if failed(item.Outcome) {
		record.SeverityNumber, record.SeverityText = logs.SeverityNumber_SEVERITY_NUMBER_ERROR, "ERROR"
	}
	return record
}

// attributes takes names and values by turns and leaves out empty values.
func attributes(pairs ...string) []*common.KeyValue {
	var list []*common.KeyValue
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			list = append(list, &common.KeyValue{Key: pairs[i], Value: stringValue(pairs[i+1])})
		}
	}
	return list
}

// stringValue makes text UTF-8: one bad byte of one record would keep the batch
// from being encoded at all.
func stringValue(text string) *common.AnyValue {
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: strings.ToValidUTF8(text, "\uFFFD")}}
}
