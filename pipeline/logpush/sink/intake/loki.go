package intake

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"tidegate/pipeline/logpush"
)

const (
	paramTenant   = "tenant"
	paramMetadata = "structured-metadata"
	prefixLabel   = "label_"
)

var lokiRules = rules{
	path:  "/loki/api/v1/push",
	taken: []string{paramTenant, paramMetadata, prefixLabel + "*"},
}

// Labels of a stream. Each set of their values is a stream, which Loki wants few
// and long ones of: so the version, which changes with each deployment, is
// structured metadata of the entries instead.
const (
	labelService = "service_name" // the script; Loki's own name for it
	labelOutcome = "outcome"
	labelDataset = "dataset"
)

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// loki pushes to Grafana Loki, in its JSON.
type loki struct {
	*endpoint
	labels   map[string]string // of every stream
	metadata bool
}

func openLoki(e *endpoint, p params, _ Options) (logpush.Sink, error) {
	s := &loki{endpoint: e, labels: map[string]string{}, metadata: true}
	if _, given := p[paramMetadata]; given {
		metadata, err := p.flag(paramMetadata)
		if err != nil {
			return nil, err
		}
		s.metadata = metadata
	}
	for parameter, value := range p {
		name, ok := strings.CutPrefix(parameter, prefixLabel)
		if !ok {
			continue
		}
		switch name {
		case labelService, labelOutcome, labelDataset:
			return nil, fmt.Errorf("the parameter %s cannot be set: delivery sets this label itself", parameter)
		}
		if !labelName.MatchString(name) || strings.HasPrefix(name, "__") || value == "" {
			return nil, fmt.Errorf("the parameter %s needs a value, and a name of letters, digits and _ that does not begin with a digit or __", parameter)
		}
		s.labels[name] = value
	}
	const most = 12 // Loki takes 15 labels unless configured otherwise; three are ours
	if len(s.labels) > most {
		return nil, fmt.Errorf("more than %d parameters %s<name>", most, prefixLabel)
	}
	if tenant := p[paramTenant]; tenant != "" {
		if err := e.addHeader("X-Scope-OrgID", tenant); err != nil {
			return nil, fmt.Errorf("the parameter %s cannot be used: %w", paramTenant, err)
		}
	}
	return s, nil
}

// Traits implements logpush.Traiter. A push of more than Loki's burst, 6 MB by
// default, is refused however often it comes, and 1 MiB is what its own agents
// send; a line has 256 KiB at most.
func (*loki) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 1 << 20, MaxRecordBytes: 256 << 10, Records: true}
}

// Put implements logpush.Sink. Of a push with records that are too old or too long
// Loki takes the others and answers 400 without saying which it took. Sent again
// in parts, it keeps one of each, because time, labels and line are the same.
func (s *loki) Put(ctx context.Context, o logpush.Object) error {
	p, err := compress("application/json", func(w io.Writer) error {
		encoder := json.NewEncoder(w)
		encoder.SetEscapeHTML(false)
		return encoder.Encode(map[string]any{"streams": s.streams(&o)})
	})
	if err != nil {
		return &logpush.UploadError{Text: "the batch cannot be compressed: " + err.Error(), Permanent: true}
	}
	_, err = s.post(ctx, &o, p)
	return err
}

type lokiStream struct {
	Labels  map[string]string `json:"stream"`
	Entries [][]any           `json:"values"` // time in ns as a string, line, metadata
}

// streams groups records by their labels, in the order in which they first come.
// Within a stream they are ordered by time, as older servers want it.
func (s *loki) streams(o *logpush.Object) []*lokiStream {
	items := make([]*logpush.Item, len(o.Items))
	for i := range o.Items {
		items[i] = &o.Items[i]
	}
	slices.SortStableFunc(items, func(a, b *logpush.Item) int { return cmp.Compare(timestamp(o, a), timestamp(o, b)) })
	var streams []*lokiStream
	found := map[[2]string]*lokiStream{}
	for _, item := range items {
		key := [2]string{item.Script, item.Outcome}
		stream := found[key]
		if stream == nil {
			stream = &lokiStream{Labels: s.labelsOf(o, item)}
			found[key] = stream
			streams = append(streams, stream)
		}
		stream.Entries = append(stream.Entries, s.entry(o, item))
	}
	return streams
}

func (s *loki) labelsOf(o *logpush.Object, item *logpush.Item) map[string]string {
	labels := map[string]string{labelDataset: o.Dataset}
	for name, value := range s.labels {
		labels[name] = value
	}
	if item.Script != "" { // an empty label is none
		labels[labelService] = item.Script
	}
	if item.Outcome != "" {
		labels[labelOutcome] = item.Outcome
	}
	return labels
}

// timestamp is the entry's time in nanoseconds. Loki drops an entry whose time, labels and line are those of one before
// it, which is how it keeps one of what is sent twice. Events of one millisecond may look alike without being one, so
// the nanoseconds that they do not have tell them apart, the same ones each time a record is sent.
func timestamp(o *logpush.Object, item *logpush.Item) int64 {
	const apart = 618_033 // partitions that grow alike have the same offsets at the same time
	return item.Time.UnixMilli()*1e6 + (item.Offset+int64(o.Partition)*apart)%1e6
}

func (s *loki) entry(o *logpush.Object, item *logpush.Item) []any {
	entry := []any{strconv.FormatInt(timestamp(o, item), 10), string(bytes.TrimRight(item.Text, "\r\n"))}
	if !s.metadata {
		return entry
	}
	metadata := map[string]string{}
	if item.Version != "" {
		metadata["version"] = item.Version
	}
	if item.EventType != "" {
		metadata["event_type"] = item.EventType
	}
	return append(entry, metadata)
}
