package intake

import (
	"context"
	"strconv"

	"tidegate/pipeline/logpush"
)

var datadogRules = rules{
	path:     "/api/v2/logs",
	paths:    []string{"/api/v2/logs", "/v1/input"},
	required: []string{"header_DD-API-KEY"},
	sent:     []string{"ddsource", "ddtags", "host", "service"},
}

// datadog posts arrays of logs as Datadog's own agent does: a record is the message
// of one, and Datadog makes attributes of a message that is JSON. Time and status
// stand beside it, so that nobody has to teach a pipeline where to find them.
type datadog struct {
	*endpoint
	service bool // the destination_conf names one; otherwise it is the script
}

func openDatadog(e *endpoint, p params, _ Options) (logpush.Sink, error) {
	return datadog{e, p["service"] != ""}, nil
}

// Traits implements logpush.Traiter. Datadog takes 5 MB uncompressed a request and
// 1,000 logs in it, and cuts a log off at 1 MB. Quotes are escaped in a message: in
// the worst case its size doubles.
func (datadog) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 2_400_000, MaxRecords: 1000, MaxRecordBytes: 1_000_000, Records: true}
}

// Put implements logpush.Sink.
func (s datadog) Put(ctx context.Context, o logpush.Object) error {
	return s.postArray(ctx, &o, func(to []byte, item *logpush.Item) []byte {
		status := "info"
		if failed(item.Outcome) {
			status = "error"
		}
		to = append(to, `{"timestamp":`...)
		to = strconv.AppendInt(to, item.Time.UnixMilli(), 10)
		to = append(to, `,"status":"`+status+`"`...)
		if !s.service && item.Script != "" {
			to = append(to, `,"service":`...)
			to = appendString(to, []byte(item.Script))
		}
		to = append(to, `,"message":`...)
		return append(appendString(to, item.Text), '}')
	})
}
