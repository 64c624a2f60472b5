package stream

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"
)

// Batches are some record batches of one partition, complete and undamaged, as the
// broker keeps them: compressed, most often. Nobody changes them, and any number of
// goroutines may decode them.
type Batches struct {
	// From First on to Next they are all that the partition has. First is at most the
	// offset that was asked for, if they are the first of an answer.
	First, Next int64
	// Ahead is the offset behind an answer that was about as long as one may be, if
	// these are in the middle of it: more is likely to be there already, and wanted soon.
	// Of all others it is 0.
	Ahead int64

	data    []byte
	records []Record // instead of data
}

// piecesBytes is where Batches end. One batch of a busy producer is more, and comes to
// a megabyte decoded, about what a processor has in its own cache; of an idle producer's
// small batches there are many in one.
const piecesBytes = 32 << 10

// BatchesOf makes Batches of records that need no decoding, of which there must be one.
func BatchesOf(records []Record) Batches {
	return Batches{First: records[0].Offset, Next: records[len(records)-1].Offset + 1, records: records}
}

// Size returns the bytes that they take in memory.
func (b *Batches) Size() int {
	size := cap(b.data)
	for i := range b.records {
		size += recordBytes + len(b.records[i].Value)
	}
	return size
}

// Single takes them apart into Batches of one record batch each: where one cannot be
// decoded, the others can.
func (b *Batches) Single() []Batches {
	if b.records != nil {
		return []Batches{*b}
	}
	var list []Batches
	for data := b.data; len(data) > 0; {
		batch, rest, err := takeBatch(data)
		if err != nil || batch == nil {
			break // cut has seen that they are whole
		}
		list = append(list, Batches{First: max(batch.base(), b.First), Next: batch.end(), data: slices.Clip(batch)})
		data = rest
	}
	return list
}

// Raw stands for Batches that cannot be decoded: the offset of the first, the time that
// its header has, and as the value what the broker holds of them.
func (b *Batches) Raw() Record {
	if len(b.data) < batchHeaderBytes {
		return Record{Offset: b.First}
	}
	ms := int64(binary.BigEndian.Uint64(b.data[atFirstTimestamp:])) // #nosec G115 -- as the protocol has it
	return Record{Offset: b.First, Time: time.UnixMilli(ms), Value: b.data}
}

// cut takes the record batches of an answer apart, as far as they are complete and have
// records from offset first on. It returns the offset behind the last one. What lies
// before a batch that was damaged is returned without an error, which the next fetch gets.
func cut(data []byte, first int64) (pieces []Batches, next int64, err error) {
	answer := len(data)
	next = first
	var piece Batches
	end := func() {
		if len(piece.data) > 0 {
			piece.data = slices.Clip(piece.data)
			pieces = append(pieces, piece)
		}
		piece = Batches{}
	}
	for {
		batch, rest, err := nextBatch(data)
		if err != nil && next == first {
			return nil, first, err
		}
		if batch == nil {
			break
		}
		before := data
		data, next = rest, max(next, batch.end())
		switch {
		case batch.end() <= first:
			continue
		case batch.isControl(): // nothing for anybody
			end()
			continue
		case len(piece.data) == 0:
			piece.First = batch.base()
			if len(pieces) == 0 {
				piece.First = min(piece.First, first)
			}
			piece.data = before[:0]
		}
		piece.data, piece.Next = piece.data[:len(piece.data)+len(batch)], batch.end()
		if len(piece.data) >= piecesBytes {
			end()
		}
	}
	end()
	if n := len(pieces); n > 0 && answer >= fetchBytesMax/2 {
		pieces[(n-1)/2].Ahead = next
	}
	return pieces, next, nil
}

// recordBytes are those of a Record itself.
const recordBytes = 112

// Memory is what the records of one Decode lie in. The next Decode uses it again. The
// zero value is ready. It belongs to one goroutine at a time.
type Memory struct {
	decoder recordDecoder
	records []Record
}

// Undecodable is one or more record batches in a row that are undamaged, because their
// checksums are right, and all the same cannot be decoded: what their producer made is
// wrong, or newer than we are. Another try would end the same way.
type Undecodable struct {
	First, Next int64 // their offsets, as they say themselves
	Err         error // of the first one
}

// Decode returns the records, which are valid until the Memory is used again. There may
// be none. Batches that cannot be decoded are left out of them, and returned in their order.
func (b *Batches) Decode(m *Memory) ([]Record, []Undecodable) {
	if b.records != nil {
		return b.records, nil
	}
	m.records, m.decoder.text = m.records[:0], m.decoder.text[:0]
	var bad []Undecodable
	for data := b.data; len(data) > 0; {
		batch, rest, err := takeBatch(data)
		if err != nil || batch == nil { // cut lets no such data in
			break
		}
		before := len(m.records)
		m.records, err = m.decoder.batch(m.records, batch)
		if err == nil {
			err = inOrder(m.records[before:], batch)
		}
		if err != nil {
			m.records = m.records[:before]
			if n := len(bad); n > 0 && bad[n-1].Next == batch.base() {
				bad[n-1].Next = batch.end()
			} else {
				bad = append(bad, Undecodable{First: batch.base(), Next: batch.end(), Err: err})
			}
		}
		data = rest
	}
	return m.records, bad
}

// inOrder tells whether the records of a batch have offsets as a broker gives them. It
// takes over what a producer wrote unless it compresses the batch anew.
func inOrder(records []Record, batch rawBatch) error {
	next, end := batch.base(), batch.end()
	for i := range records {
		if at := records[i].Offset; at < next || at >= end {
			return fmt.Errorf("decode the batch at offset %d: record %d of it has offset %d, which is not in order, or not below %d", batch.base(), i, at, end)
		}
		next = records[i].Offset + 1
	}
	return nil
}

// DecodeAll is Decode for those who take all batches or none.
func (b *Batches) DecodeAll(m *Memory) ([]Record, error) {
	records, bad := b.Decode(m)
	if len(bad) > 0 {
		return nil, bad[0].Err
	}
	return records, nil
}

// FirstFrom seeks p to an offset and returns the first record there or behind. Like
// FetchBatches it blocks until there is one, and fails with the same errors. Of a record
// in a batch that cannot be decoded it knows the offset, which is the one asked for if
// that lies in the batch, and the time that the batch's header has.
func FirstFrom(ctx context.Context, p Partition, offset int64) (Record, error) {
	p.SeekTo(offset)
	for {
		batches, err := p.FetchBatches(ctx)
		if err != nil {
			return Record{}, err
		}
		for i := range batches {
			for _, single := range batches[i].Single() {
				records, err := single.DecodeAll(new(Memory))
				if err != nil {
					return Record{Offset: max(single.First, offset), Time: single.Raw().Time}, nil
				}
				for _, r := range records {
					if r.Offset >= offset {
						return r, nil
					}
				}
			}
		}
	}
}

// Size returns the bytes of the memory.
func (m *Memory) Size() int {
	return cap(m.decoder.text) + cap(m.records)*recordBytes
}
