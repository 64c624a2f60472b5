package stream

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go/protocol"
)

// Names of the record headers.
const (
	headerAccount = "account"
	headerSchema  = "schema"
)

// event is one record on its way to Kafka.
type event struct {
	timeMS  int64 // Unix milliseconds, when it was emitted
	account string
	headers []Header // beside account and schema
	value   []byte
}

// size is what an event adds to a batch before compression: its value, its
// account, its other headers, and at most 48 bytes of lengths, deltas and the
// names of the headers that all have.
func (e *event) size() int {
	size := len(e.value) + len(e.account) + 48
	for _, h := range e.headers {
		size += len(h.Name) + len(h.Value) + 10
	}
	return size
}

// batch is a Kafka record batch as it goes over the wire and into the spool:
// encoded and compressed once, whatever happens to it. In the spool it has no identity in
// data, but beside it.
type batch struct {
	data   []byte // 4 bytes of length, then one record batch of format 2
	events int
	id     *identity // nil before the first try; in data, too
}

type valueBytes struct{ bytes.Reader }

func (*valueBytes) Close() error { return nil }

// decode is the inverse of encode.
func decode(b batch) ([]event, string, error) {
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bytes.NewReader(b.data)); err != nil {
		return nil, "", fmt.Errorf("decode a batch of %d events: %w", b.events, err)
	}
	stream, ok := set.Records.(*protocol.RecordStream)
	if !ok {
		return nil, "", fmt.Errorf("decode a batch of %d events: it is incomplete", b.events)
	}
	var headers interned
	records, err := headers.decode(stream, 0)
	if err != nil {
		return nil, "", err
	}
	events := make([]event, len(records))
	schema := ""
	for i, r := range records {
		events[i] = event{timeMS: r.Time.UnixMilli(), account: r.Account, headers: r.Headers, value: r.Value}
		schema = r.Schema
	}
	return events, schema, nil
}

// interned keeps one copy of each header value it has seen: there are few
// accounts and fewer schemas, and each would otherwise be copied per record.
type interned map[string]string

// internedMax bounds the memory for header values that never repeat.
const internedMax = 10_000

func (in *interned) string(b []byte) string {
	if s, ok := (*in)[string(b)]; ok {
		return s
	}
	if *in == nil || len(*in) >= internedMax {
		*in = interned{}
	}
	s := string(b)
	(*in)[s] = s
	return s
}

// decode returns the records of a stream from offset first on. Values share one
// allocation per call, so keeping one value keeps them all.
func (in *interned) decode(stream *protocol.RecordStream, first int64) ([]Record, error) {
	var records []Record
	var values []protocol.Bytes // of records; they point into pages until closed
	defer func() {
		for _, v := range values {
			_ = v.Close() // gives the pages back; can't fail
		}
	}()
	size := 0
	for {
		r, err := stream.ReadRecord()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read a record: %w", err)
		}
		if r.Key != nil {
			_ = r.Key.Close()
		}
		value := r.Value
		if value == nil {
			value = &valueBytes{}
		}
		if r.Offset < first {
			_ = value.Close()
			continue
		}
		record := Record{Offset: r.Offset, Time: r.Time}
		for _, h := range r.Headers {
			switch h.Key {
			case headerAccount:
				record.Account = in.string(h.Value)
			case headerSchema:
				record.Schema = in.string(h.Value)
			default:
				record.Headers = append(record.Headers, Header{in.string([]byte(h.Key)), in.string(h.Value)})
			}
		}
		records, values = append(records, record), append(values, value)
		size += value.Len()
	}
	all := make([]byte, size)
	for i, value := range values {
		n := value.Len()
		if _, err := io.ReadFull(value, all[:n]); err != nil {
			return nil, fmt.Errorf("read the record at offset %d: %w", records[i].Offset, err)
		}
		records[i].Value, all = all[:n:n], all[n:]
	}
	return records, nil
}
