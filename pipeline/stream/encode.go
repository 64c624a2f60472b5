package stream

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"sync/atomic"

	"github.com/segmentio/kafka-go/protocol"
)

// compression of the batches. Snappy takes a fifth of what zstd takes at its fastest, and a
// producer shares its processors with those whose events it sends; it leaves 80 to 120 bytes
// of an event of 700 where zstd leaves 25 to 60 (BenchmarkEncode).
const compression = protocol.Snappy

// Where the fields of a batch are, from its base offset on (Kafka's record batch of
// format 2), and how long the header is before the records.
const (
	atBatchLength    = 8
	atLeaderEpoch    = 12
	atMagic          = 16
	atChecksum       = 17
	atAttributes     = 21
	atLastOffset     = 23
	atFirstTimestamp = 27
	atMaxTimestamp   = 35
	atProducer       = 43 // its id, its epoch, its first sequence: 14 bytes, all ones for none
	atRecordCount    = 57
	batchHeaderBytes = 61
)

// records are the events of a batch as they come: each is written once, as the record
// that it will be, and what has become a piece is compressed by whoever finds it full. So
// a batch needs little memory until it is complete, and that is still in a processor's
// cache when it is read. Fields belong to a lock, or to one goroutine.
type records struct {
	pieces        []*piece
	text          []byte         // of the piece that comes after them
	working       sync.WaitGroup // those who compress pieces
	saved         atomic.Int64   // bytes, by compressing pieces
	events        int
	size          int   // of the events, as event.size has it
	firstMS, last int64 // times of the first event, and of the latest one
}

// add copies e, whose size is given. If it returns a piece, the caller must compress
// that, for which it needs no lock.
func (r *records) add(e *event, size int, schema string) (full *piece) {
	if len(r.text) > 0 && len(r.text)+size > pieceBytes {
		full = r.cut()
	}
	if r.text == nil {
		r.text = newText()
	}
	if r.events == 0 {
		r.firstMS = e.timeMS
	}
	r.text = e.append(r.text, int64(r.events), r.firstMS, schema)
	r.last = max(r.last, e.timeMS)
	r.events++
	r.size += size
	return full
}

// sent returns at least as many bytes as would be sent of r.
func (r *records) sent() int { return r.size - int(r.saved.Load()) }

// cut ends the piece that is being filled.
func (r *records) cut() *piece {
	p := &piece{text: r.text, of: r}
	r.working.Add(1)
	r.pieces, r.text = append(r.pieces, p), nil
	return p
}

// encode makes a batch of events, which must not be empty.
func encode(events []event, schema string) batch {
	r := &records{}
	for i := range events {
		if full := r.add(&events[i], events[i].size(), schema); full != nil {
			full.compress()
		}
	}
	return r.encode()
}

// encode makes a batch of r, which must not be empty and not be used any more. It waits
// for those who compress pieces.
func (r *records) encode() batch {
	if len(r.text) > 0 {
		r.cut().compress()
	}
	r.working.Wait()
	const sizeBytes = 4
	size := sizeBytes + batchHeaderBytes + len(snappyHeader)
	for _, p := range r.pieces {
		size += len(p.data)
	}
	data := make([]byte, sizeBytes+batchHeaderBytes, size) // no larger than it must be, since it may wait
	data = append(data, snappyHeader...)
	for _, p := range r.pieces {
		data = append(data, p.data...)
	}
	b, be := data[sizeBytes:], binary.BigEndian
	be.PutUint32(data, uint32(len(b)))
	be.PutUint64(b, 0) // the base offset, which the broker sets
	be.PutUint32(b[atBatchLength:], uint32(len(b)-atLeaderEpoch))
	be.PutUint32(b[atLeaderEpoch:], ^uint32(0))
	b[atMagic] = 2
	be.PutUint16(b[atAttributes:], uint16(compression))
	be.PutUint32(b[atLastOffset:], uint32(r.events-1))
	be.PutUint64(b[atFirstTimestamp:], uint64(r.firstMS))
	be.PutUint64(b[atMaxTimestamp:], uint64(r.last))
	for i := atProducer; i < atRecordCount; i++ {
		b[i] = 0xff
	}
	be.PutUint32(b[atRecordCount:], uint32(r.events))
	be.PutUint32(b[atChecksum:], crc32.Checksum(b[atAttributes:], castagnoli))
	return batch{data: data, events: r.events}
}

// append writes the event as the record of a batch: its length, attributes, time and
// offset as differences to the first one's, no key, its value, and its headers.
func (e *event) append(b []byte, offset, firstMS int64, schema string) []byte {
	size := 1 + varintSize(e.timeMS-firstMS) + varintSize(offset) + varintSize(-1) + stringSize(len(e.value)) + varintSize(int64(2+len(e.headers))) +
		stringSize(len(headerAccount)) + stringSize(len(e.account)) + stringSize(len(headerSchema)) + stringSize(len(schema))
	for _, h := range e.headers {
		size += stringSize(len(h.Name)) + stringSize(len(h.Value))
	}
	b = append(binary.AppendVarint(b, int64(size)), 0)
	b = binary.AppendVarint(b, e.timeMS-firstMS)
	b = binary.AppendVarint(b, offset)
	b = binary.AppendVarint(b, -1)
	b = append(binary.AppendVarint(b, int64(len(e.value))), e.value...)
	b = binary.AppendVarint(b, int64(2+len(e.headers)))
	b = appendHeader(b, headerAccount, e.account)
	b = appendHeader(b, headerSchema, schema)
	for _, h := range e.headers {
		b = appendHeader(b, h.Name, h.Value)
	}
	return b
}

func appendHeader(b []byte, name, value string) []byte {
	b = append(binary.AppendVarint(b, int64(len(name))), name...)
	return append(binary.AppendVarint(b, int64(len(value))), value...)
}

func stringSize(n int) int { return varintSize(int64(n)) + n }

// varintSize is how many bytes binary.AppendVarint takes.
func varintSize(v int64) int {
	size := 1
	for u := uint64(v<<1) ^ uint64(v>>63); u >= 0x80; u >>= 7 {
		size++
	}
	return size
}
