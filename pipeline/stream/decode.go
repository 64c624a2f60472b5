package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/segmentio/kafka-go/compress"
)

const (
	// batchTextMax bounds a decompressed batch. Producers' batches are of a megabyte.
	batchTextMax = 128 << 20

	attributeCodec      = 0x07
	attributeAppendTime = 0x08 // records have the time of the broker
	attributeControl    = 0x20 // a transaction's marker
)

// recordDecoder takes record batches of format 2 apart. kafka-go's own way costs
// three times as much, because it reads every number through several layers. It
// belongs to one goroutine.
type recordDecoder struct {
	strings interned
	last    headers // of the record before, which those of the next one mostly equal
}

// headers are a record's, as they were read and as they are handed on.
type headers struct {
	raw             []byte
	account, schema string
	others          []Header
}

// growMax is how many records room is made for at once, on the word of a batch.
const growMax = 1 << 16

var errShort = errors.New("a record is longer than its batch")

var zstdDecoders = sync.Pool{New: func() any {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(batchTextMax))
	if err != nil {
		panic(err) // the options are ours, and constants
	}
	return z
}}

// decode returns the records of the batches in data from offset first on, and the
// offset behind the last batch that is complete; a part of one may end data. Values
// share the memory of their batch, and of data where that is not compressed.
func (d *recordDecoder) decode(data []byte, first int64) ([]Record, int64, error) {
	var records []Record
	be, next := binary.BigEndian, first
	records = slices.Grow(records, announced(data))
	defer func() { d.last.raw = nil }() // a batch's memory is its records'
	for len(data) >= batchHeaderBytes {
		base, length := int64(be.Uint64(data)), int(be.Uint32(data[atBatchLength:])) // #nosec G115 -- as the protocol has it; checked below
		if length < batchHeaderBytes-atLeaderEpoch || data[atMagic] != 2 {
			return records, next, fmt.Errorf("the batch at offset %d has %d bytes and format %d: only format 2 is read", base, length, data[atMagic])
		}
		if len(data)-atLeaderEpoch < length {
			break
		}
		batch := data[:atLeaderEpoch+length]
		data = data[len(batch):]
		if crc32.Checksum(batch[atAttributes:], castagnoli) != be.Uint32(batch[atChecksum:]) {
			return records, next, fmt.Errorf("the batch at offset %d was damaged on its way", base)
		}
		end := base + int64(be.Uint32(batch[atLastOffset:])) + 1
		attributes := be.Uint16(batch[atAttributes:])
		if end > first && attributes&attributeControl == 0 {
			text, err := decompress(compress.Compression(attributes&attributeCodec), batch[batchHeaderBytes:])
			if err == nil {
				records, err = d.records(records, batch, text, base, first)
			}
			if err != nil {
				return records, next, fmt.Errorf("decode the batch at offset %d: %w", base, err)
			}
		}
		next = max(next, end)
	}
	return records, next, nil
}

// announced returns how many records the batches in data say they have. Room for
// all of them at once spares copies, of one and a half times as much.
func announced(data []byte) int {
	be, count := binary.BigEndian, 0
	for len(data) >= batchHeaderBytes && count < growMax {
		length := int(be.Uint32(data[atBatchLength:]))
		if length < batchHeaderBytes-atLeaderEpoch || len(data)-atLeaderEpoch < length {
			break
		}
		count += int(be.Uint32(data[atRecordCount:]))
		data = data[atLeaderEpoch+length:]
	}
	return min(count, growMax)
}

func decompress(codec compress.Compression, data []byte) ([]byte, error) {
	switch codec {
	case compress.None:
		return data, nil
	case compress.Zstd:
		z := zstdDecoders.Get().(*zstd.Decoder)
		defer zstdDecoders.Put(z)
		return z.DecodeAll(data, nil)
	}
	c := codec.Codec()
	if c == nil {
		return nil, fmt.Errorf("it is compressed by the unknown codec %d", codec)
	}
	r := c.NewReader(bytes.NewReader(data))
	defer r.Close() // it only gives memory back
	text, err := io.ReadAll(io.LimitReader(r, batchTextMax+1))
	if len(text) > batchTextMax {
		return nil, fmt.Errorf("it has more than %d bytes", batchTextMax)
	}
	return text, err
}

// records appends those of one batch whose records, uncompressed, are text.
func (d *recordDecoder) records(records []Record, batch, text []byte, base, first int64) ([]Record, error) {
	be := binary.BigEndian
	from := int64(be.Uint64(batch[atFirstTimestamp:]))                                           // #nosec G115 -- as the protocol has it
	highest, count := int64(be.Uint64(batch[atMaxTimestamp:])), be.Uint32(batch[atRecordCount:]) // #nosec G115 -- as the protocol has it
	appendTime := be.Uint16(batch[atAttributes:])&attributeAppendTime != 0
	const leastBytes = 7 // of a record
	records = slices.Grow(records, min(int(count), len(text)/leastBytes))
	all := cursor{rest: text}
	for range count {
		r := cursor{rest: all.take(all.varint())}
		r.take(1) // attributes, of which there are none
		at := from + r.varint()
		offset := base + r.varint()
		r.bytes() // the key
		value := r.bytes()
		if r.failed || all.failed {
			return records, errShort
		}
		if offset < first {
			continue
		}
		if appendTime {
			at = highest
		}
		record := Record{Offset: offset, Time: time.UnixMilli(at), Value: value}
		if !d.headers(&record, &r) {
			return records, errShort
		}
		records = append(records, record)
	}
	return records, nil
}

func (d *recordDecoder) headers(record *Record, r *cursor) bool {
	if d.last.raw == nil || !bytes.Equal(r.rest, d.last.raw) {
		if !d.readHeaders(*r) {
			return false
		}
	}
	record.Account, record.Schema, record.Headers = d.last.account, d.last.schema, slices.Clip(d.last.others)
	return true
}

// readHeaders reads the headers that are the rest of a record.
func (d *recordDecoder) readHeaders(r cursor) bool {
	d.last = headers{raw: r.rest}
	for n := r.varint(); n > 0 && !r.failed; n-- {
		name, value := r.bytes(), d.strings.string(r.bytes())
		switch string(name) {
		case headerAccount:
			d.last.account = value
		case headerSchema:
			d.last.schema = value
		default:
			d.last.others = append(d.last.others, Header{d.strings.string(name), value})
		}
	}
	if r.failed {
		d.last.raw = nil
	}
	return !r.failed
}

// cursor reads what a record is made of. After a failure it reads nothing.
type cursor struct {
	rest   []byte
	failed bool
}

func (c *cursor) varint() int64 {
	if len(c.rest) > 0 && c.rest[0] < 0x80 { // Fast path - most numbers are small
		v := c.rest[0]
		c.rest = c.rest[1:]
		return int64(v>>1) ^ -int64(v&1)
	}
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.rest, c.failed = nil, true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *cursor) take(n int64) []byte {
	if n < 0 || n > int64(len(c.rest)) {
		c.rest, c.failed = nil, true
		return nil
	}
	taken := c.rest[:n:n]
	c.rest = c.rest[n:]
	return taken
}

// bytes reads a length and as many bytes; nil where the length is negative.
func (c *cursor) bytes() []byte {
	n := c.varint()
	if n < 0 {
		return nil
	}
	return c.take(n)
}
