package intake

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"tidegate/pipeline/logpush"
)

// Failures are told by their outcome, as everywhere on the platform: neither ok
// nor canceled.
func failed(outcome string) bool {
	switch outcome {
	case "", "ok", "canceled": // none: the test upload
		return false
	}
	return true
}

// isObject reports whether a record is a JSON object, as it is unless the job's
// output options made csv or a text of it.
func isObject(text []byte) bool {
	return len(text) > 0 && text[0] == '{' && json.Valid(text)
}

// appendString appends text as a JSON string, without the line ends of csv.
func appendString(to, text []byte) []byte {
	var quoted bytes.Buffer
	encoder := json.NewEncoder(&quoted)
	encoder.SetEscapeHTML(false) // which would make six bytes of one
	if err := encoder.Encode(string(bytes.TrimRight(text, "\r\n"))); err != nil {
		panic(err) // a string has a form in JSON, and a buffer takes everything
	}
	return append(to, bytes.TrimSuffix(quoted.Bytes(), []byte("\n"))...)
}

// postArray posts one JSON array with an element for each record.
func (e *endpoint) postArray(ctx context.Context, o *logpush.Object, element func(to []byte, item *logpush.Item) []byte) error {
	p, err := compress("application/json", func(w io.Writer) error { return writeArray(w, o.Items, element) })
	if err != nil {
		return &logpush.UploadError{Text: "the batch cannot be compressed: " + err.Error(), Permanent: true}
	}
	_, err = e.post(ctx, o, p)
	return err
}

func writeArray(w io.Writer, items []logpush.Item, element func(to []byte, item *logpush.Item) []byte) error {
	buffer := []byte{'['}
	for i := range items {
		if i > 0 {
			buffer = append(buffer, ',')
		}
		buffer = element(buffer, &items[i])
		if _, err := w.Write(buffer); err != nil {
			return err
		}
		buffer = buffer[:0]
	}
	_, err := w.Write(append(buffer, ']'))
	return err
}
