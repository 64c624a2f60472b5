package intake

import (
	"context"

	"tidegate/pipeline/logpush"
)

var datadogRules = rules{
	path:     "/api/v2/logs",
	paths:    []string{"/api/v2/logs", "/v1/input"},
	required: []string{"header_DD-API-KEY"},
	sent:     []string{"ddsource", "ddtags", "host", "service"},
}

// datadog posts JSON arrays. A record that is no JSON object becomes one whose
// message it is, which Datadog's pipelines read.
type datadog struct{ *endpoint }

func openDatadog(e *endpoint, _ params, _ Options) (logpush.Sink, error) { return datadog{e}, nil }

// Traits implements logpush.Traiter with the limits of Datadog's API reference:
// 5 MB uncompressed a request, 1,000 logs in an array, 1 MB a log, which it cuts
// off there. A thousand bytes are left for the array around the records.
func (datadog) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 5_000_000 - 1000, MaxRecords: 1000, MaxRecordBytes: 1_000_000, Records: true}
}

// Put implements logpush.Sink.
func (s datadog) Put(ctx context.Context, o logpush.Object) error {
	return s.postArray(ctx, &o, func(to []byte, item *logpush.Item) []byte {
		if isObject(item.Text) {
			return append(to, item.Text...)
		}
		to = append(to, `{"message":`...)
		return append(appendString(to, item.Text), '}')
	})
}
