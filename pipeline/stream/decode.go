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
	// batchTextMax bounds a decompressed batch, and batchRecordsMax and batchHeadersMax what
	// is made of one. Producers' batches are of a megabyte. A header may have two bytes, and
	// takes 32 in memory; those of a record that has the same as the one before it are not counted.
	batchTextMax    = 128 << 20
	batchRecordsMax = 1 << 20
	batchHeadersMax = 1 << 20

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
	text    []byte  // what was decompressed, or copied: all that records lie in
	others  int     // headers that were made of the batch at hand
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

// batch appends the records of one batch. What it decompresses is appended to d.text.
func (d *recordDecoder) batch(records []Record, batch rawBatch) ([]Record, error) {
	defer func() { d.last.raw, d.others = nil, 0 }() // a batch's memory is its records'
	start := len(d.text)
	text, err := d.decompress(batch.codec(), batch[batchHeaderBytes:])
	if err == nil {
		records, err = d.records(records, batch, text[start:])
	}
	if err != nil {
		return records, fmt.Errorf("decode the batch at offset %d: %w", batch.base(), err)
	}
	return records, nil
}

// rawBatch is one complete record batch of format 2.
type rawBatch []byte

func (b rawBatch) base() int64 { return int64(binary.BigEndian.Uint64(b)) } // #nosec G115 -- as the protocol has it
func (b rawBatch) end() int64 { // the offset behind its last record
	return b.base() + int64(binary.BigEndian.Uint32(b[atLastOffset:])) + 1
}
func (b rawBatch) attributes() uint16 { return binary.BigEndian.Uint16(b[atAttributes:]) }
func (b rawBatch) isControl() bool    { return b.attributes()&attributeControl != 0 }
func (b rawBatch) codec() compress.Compression {
	return compress.Compression(b.attributes() & attributeCodec)
}

// nextBatch takes the first batch, which is whole and undamaged, off data. It is nil
// where data holds only a part of one.
func nextBatch(data []byte) (batch rawBatch, rest []byte, err error) {
	batch, rest, err = takeBatch(data)
	if batch != nil && crc32.Checksum(batch[atAttributes:], castagnoli) != binary.BigEndian.Uint32(batch[atChecksum:]) {
		return nil, data, fmt.Errorf("the batch at offset %d was damaged on its way", batch.base())
	}
	return batch, rest, err
}

// takeBatch is nextBatch for data whose checksums were looked at.
func takeBatch(data []byte) (batch rawBatch, rest []byte, err error) {
	if len(data) < batchHeaderBytes {
		return nil, data, nil
	}
	length := int(binary.BigEndian.Uint32(data[atBatchLength:]))
	if length < batchHeaderBytes-atLeaderEpoch || data[atMagic] != 2 {
		return nil, data, fmt.Errorf("the batch at offset %d has %d bytes and format %d: only format 2 is read", rawBatch(data).base(), length, data[atMagic])
	}
	if len(data)-atLeaderEpoch < length {
		return nil, data, nil
	}
	return data[:atLeaderEpoch+length], data[atLeaderEpoch+length:], nil
}

// decompress returns the text of d and what data is decompressed to behind it.
func (d *recordDecoder) decompress(codec compress.Compression, data []byte) ([]byte, error) {
	var err error
	switch codec {
	case compress.None:
		d.text = append(d.text, data...)
	case compress.Zstd:
		z := zstdDecoders.Get().(*zstd.Decoder)
		defer zstdDecoders.Put(z)
		d.text, err = z.DecodeAll(data, d.text)
	case compress.Snappy:
		d.text, err = appendSnappy(d.text, data, batchTextMax)
	default:
		c := codec.Codec()
		if c == nil {
			return nil, fmt.Errorf("it is compressed by the unknown codec %d", codec)
		}
		r := c.NewReader(bytes.NewReader(data))
		defer r.Close() // it only gives memory back
		text := bytes.NewBuffer(d.text)
		var n int64
		if n, err = text.ReadFrom(io.LimitReader(r, batchTextMax+1)); n > batchTextMax {
			return nil, fmt.Errorf("it has more than %d bytes", batchTextMax)
		}
		d.text = text.Bytes()
	}
	return d.text, err
}

// records appends those of one batch whose records, uncompressed, are text.
func (d *recordDecoder) records(records []Record, batch rawBatch, text []byte) ([]Record, error) {
	be := binary.BigEndian
	from := int64(be.Uint64(batch[atFirstTimestamp:]))                                           // #nosec G115 -- as the protocol has it
	highest, count := int64(be.Uint64(batch[atMaxTimestamp:])), be.Uint32(batch[atRecordCount:]) // #nosec G115 -- as the protocol has it
	appendTime := batch.attributes()&attributeAppendTime != 0
	if count > batchRecordsMax {
		return records, fmt.Errorf("it has %d records, more than %d", count, batchRecordsMax)
	}
	const leastBytes = 7 // of a record
	records = slices.Grow(records, min(int(count), len(text)/leastBytes, growMax))
	all := cursor{rest: text}
	for range count {
		r := cursor{rest: all.take(all.varint())}
		r.take(1) // attributes, of which there are none
		at := from + r.varint()
		offset := batch.base() + r.varint()
		r.bytes() // the key
		value := r.bytes()
		if r.failed || all.failed {
			return records, errShort
		}
		if appendTime {
			at = highest
		}
		record := Record{Offset: offset, Time: time.UnixMilli(at), Value: value}
		if err := d.headers(&record, &r); err != nil {
			return records, err
		}
		records = append(records, record)
	}
	return records, nil
}

func (d *recordDecoder) headers(record *Record, r *cursor) error {
	if d.last.raw == nil || !bytes.Equal(r.rest, d.last.raw) {
		if err := d.readHeaders(*r); err != nil {
			d.last.raw = nil
			return err
		}
	}
	record.Account, record.Schema, record.Headers = d.last.account, d.last.schema, slices.Clip(d.last.others)
	return nil
}

// readHeaders reads the headers that are the rest of a record.
func (d *recordDecoder) readHeaders(r cursor) error {
	d.last = headers{raw: r.rest}
	for n := r.varint(); n > 0 && !r.failed; n-- {
		name, value := r.bytes(), d.strings.string(r.bytes())
		switch string(name) {
		case headerAccount:
			d.last.account = value
		case headerSchema:
			d.last.schema = value
		default:
			if d.others++; d.others > batchHeadersMax {
				return fmt.Errorf("it has more than %d headers", batchHeadersMax)
			}
			d.last.others = append(d.last.others, Header{d.strings.string(name), value})
		}
	}
	if r.failed {
		return errShort
	}
	return nil
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
