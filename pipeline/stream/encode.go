package stream

import (
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/protocol"
)

// compression of the batches: zstd at its fastest takes 1 µs for an event of 700 bytes, as
// lz4 does, and leaves 50 to 60 bytes of it where lz4 leaves 90. Its slower levels take
// longer and leave no less: events repeat each other in long pieces, and soon
// (BenchmarkEncode).
const compression = protocol.Zstd

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
	atProducer       = 43 // its id, its epoch, and the sequence of the first event: all ones for none
	atProducerEpoch  = 51
	atSequence       = 53
	atRecordCount    = 57
	batchHeaderBytes = 61
)

// windowBytes is how far back repetitions are looked for, some 90 events. Further back
// there is nothing new, and a small window stays in a processor's cache.
const windowBytes = 64 << 10

// encoder has the memory for one batch at a time.
type encoder struct {
	zstd *zstd.Encoder
	data []byte
}

var encoders = sync.Pool{New: func() any {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(windowBytes), zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true)) // the batch has a checksum
	if err != nil {
		panic(err) // the options are ours, and constants
	}
	return &encoder{zstd: z}
}}

// records are the events of a batch as they come: each is written once, as the record
// that it will be. It belongs to one goroutine at a time, or to a lock.
type records struct {
	data          []byte
	events        int
	size          int   // of the events, as event.size has it
	firstMS, last int64 // times of the first event, and of the latest one
}

// recordsPool keeps the memory of records, which has grown to that of a batch.
var recordsPool = sync.Pool{New: func() any { return new(records) }}

func newRecords() *records { return recordsPool.Get().(*records) }

// release gives r back, which must not be used any more.
func (r *records) release() {
	*r = records{data: r.data[:0]}
	recordsPool.Put(r)
}

// add copies e, whose size is given.
func (r *records) add(e *event, size int, schema string) {
	if r.events == 0 {
		r.firstMS = e.timeMS
	}
	r.data = e.append(r.data, int64(r.events), r.firstMS, schema)
	r.last = max(r.last, e.timeMS)
	r.events++
	r.size += size
}

// encode makes a batch of events, which must not be empty.
func encode(events []event, schema string) batch {
	r := newRecords()
	defer r.release()
	for i := range events {
		r.add(&events[i], events[i].size(), schema)
	}
	return r.encode()
}

// encode makes a batch of r, which must not be empty. kafka-go's own way compresses at a
// slower level, a field at a time, for 2.5 µs an event.
func (r *records) encode() batch {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	e.data = slices.Grow(e.data[:0], lengthBytes+batchHeaderBytes)[:lengthBytes+batchHeaderBytes]
	e.data = e.zstd.EncodeAll(r.data, e.data)

	data := slices.Clone(e.data) // exactly as large as it must be, since it may wait
	b, be := data[lengthBytes:], binary.BigEndian
	be.PutUint32(data, uint32(len(b)))
	be.PutUint64(b, 0) // the base offset, which the broker sets
	be.PutUint32(b[atBatchLength:], uint32(len(b)-atLeaderEpoch))
	be.PutUint32(b[atLeaderEpoch:], math.MaxUint32) // unknown: the leader writes over it
	b[atMagic] = 2
	be.PutUint16(b[atAttributes:], uint16(compression))
	be.PutUint32(b[atLastOffset:], uint32(r.events-1))
	be.PutUint64(b[atFirstTimestamp:], uint64(r.firstMS))
	be.PutUint64(b[atMaxTimestamp:], uint64(r.last))
	be.PutUint32(b[atRecordCount:], uint32(r.events))
	made := batch{data: data, events: r.events}
	made.bind(nil) // and the checksum
	return made
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
