package stream

import (
	"errors"
	"fmt"
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

// decode is the inverse of encode.
func decode(b batch) ([]event, string, error) {
	const lengthBytes = 4
	pieces, _, err := cut(b.data[min(lengthBytes, len(b.data)):], 0)
	if err == nil && len(pieces) != 1 {
		err = errors.New("it is incomplete")
	}
	var records []Record
	if err == nil {
		records, err = pieces[0].DecodeAll(new(Memory))
	}
	if err != nil {
		return nil, "", fmt.Errorf("decode a batch of %d events: %w", b.events, err)
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
