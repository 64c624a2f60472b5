package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"tidegate/pipeline/logpush"
)

// The path names an index or a data stream; the port is Elasticsearch's own.
var elasticRules = rules{port: "9200", sent: []string{"pipeline", "routing"}}

// elastic writes documents with the bulk API of Elasticsearch and OpenSearch. They
// are created under ids made of batch and place, so that a repeat finds them there.
type elastic struct{ *endpoint }

func openElastic(e *endpoint, _ params, _ Options) (logpush.Sink, error) {
	index := strings.Trim(e.url.Path, "/")
	if strings.Contains(index, "/") || strings.HasPrefix(index, "_") || index == "" {
		return nil, errors.New("the path of elastic must be the name of an index or a data stream")
	}
	e.url.Path, e.url.RawPath = "/"+index+"/_bulk", ""
	query := "filter_path=errors,items.*.status,items.*.error.reason" // less to read: no answer tells more
	if e.url.RawQuery != "" {
		query = e.url.RawQuery + "&" + query
	}
	e.url.RawQuery = query
	e.answerMax = 16 << 20 // each of MaxRecords may be refused with a reason
	return elastic{e}, nil
}

// Traits implements logpush.Traiter. The server takes 100 MB a request, and is
// advised to get 5 to 15 MB.
func (elastic) Traits() logpush.Traits {
	return logpush.Traits{MaxBytes: 5_000_000, MaxRecords: 10_000, Records: true}
}

// Put implements logpush.Sink.
func (s elastic) Put(ctx context.Context, o logpush.Object) error {
	p, err := compress("application/x-ndjson", func(w io.Writer) error { return writeBulk(w, &o) })
	if err != nil {
		return &logpush.UploadError{Text: "the batch cannot be compressed: " + err.Error(), Permanent: true}
	}
	answer, err := s.post(ctx, &o, p)
	if err != nil {
		return err
	}
	return bulkError(answer, len(o.Items))
}

func writeBulk(w io.Writer, o *logpush.Object) error {
	var buffer []byte
	for i := range o.Items {
		buffer = append(buffer[:0], `{"create":{`...)
		if o.BatchID != "" {
			buffer = append(buffer, `"_id":`...)
			buffer = appendString(buffer, []byte(o.BatchID+"-"+strconv.FormatInt(o.Items[i].Offset, 10)))
		}
		buffer = append(buffer, "}}\n"...)
		buffer = append(appendDocument(buffer, &o.Items[i]), '\n')
		if _, err := w.Write(buffer); err != nil {
			return err
		}
	}
	return nil
}

// appendDocument appends a record with the time that a data stream wants, on one line.
func appendDocument(to []byte, item *logpush.Item) []byte {
	text := item.Text
	at := `{"@timestamp":"` + item.Time.UTC().Format("2006-01-02T15:04:05.000Z") + `"`
	if !isObject(text) {
		to = append(to, at+`,"message":`...)
		return append(appendString(to, text), '}')
	}
	if bytes.IndexByte(text, '\n') >= 0 {
		var line bytes.Buffer
		if json.Compact(&line, text) == nil { // which isObject has read
			text = line.Bytes()
		}
	}
	if bytes.Contains(text, []byte(`"@timestamp"`)) { // or a console call logged an object that has one
		var own map[string]json.RawMessage
		if json.Unmarshal(text, &own) == nil && own["@timestamp"] != nil {
			return append(to, text...)
		}
	}
	members := bytes.TrimSpace(text[1:])
	to = append(to, at...)
	if members[0] != '}' {
		to = append(to, ',')
	}
	return append(to, members...)
}

// bulkError reads the answer of a request that was taken as such, document by document.
func bulkError(answer []byte, sent int) error {
	bulk := struct {
		Errors *bool
		Items  bulkItems
	}{Items: bulkItems{most: sent}}
	if err := json.Unmarshal(answer, &bulk); err != nil || bulk.Errors == nil || len(bulk.Items.list) != sent {
		return &logpush.UploadError{Text: "the answer is not one of the bulk API: " + logpush.TextOf(answer)}
	}
	refused := &logpush.UploadError{Status: http.StatusBadRequest, Permanent: true}
	for i, item := range bulk.Items.list {
		done := item.Create
		switch {
		case done.Status/100 == 2, done.Status == http.StatusConflict: // it is there since an earlier try
		case done.Status == http.StatusBadRequest, done.Status == http.StatusRequestEntityTooLarge:
			if refused.Records == nil {
				refused.Text = logpush.TextOf([]byte(done.Error.Reason))
			}
			refused.Records = append(refused.Records, i)
		default: // of the index, or of the moment: not of this document
			return &logpush.UploadError{Status: done.Status, Text: logpush.TextOf([]byte(done.Error.Reason)), Permanent: permanent(done.Status)}
		}
	}
	if refused.Records == nil {
		return nil
	}
	refused.Text = fmt.Sprintf("%d of %d records were refused: %s", len(refused.Records), sent, refused.Text)
	return refused
}

// bulkItems reads as many items as were sent. There is room for millions of empty ones
// in an answer.
type bulkItems struct {
	most int
	list []bulkItem
}

// bulkItem is of what was done.
type bulkItem struct {
	Create struct {
		Status int
		Error  struct{ Reason string }
	}
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *bulkItems) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if token, err := d.Token(); err != nil || token != json.Delim('[') {
		return fmt.Errorf("items is no list: it begins with %v", token)
	}
	b.list = b.list[:0] // of two lists the last one counts
	for d.More() {
		if len(b.list) == b.most {
			return fmt.Errorf("there are more than %d items", b.most)
		}
		var item bulkItem
		if err := d.Decode(&item); err != nil {
			return err
		}
		b.list = append(b.list, item)
	}
	return nil
}
