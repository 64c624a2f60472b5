package ingest

import (
	"encoding/base64"
	"fmt"
	"time"
)

// refusedMax offsets may be in a block of which some are refused: 20,000 bits are 3,334
// characters of the 4,096 that Kafka takes as the metadata of a commit
// (offset.metadata.max.bytes).
const refusedMax = 20_000

// refused are offsets of a block, as bits from its first one on. The zero value is none.
type refused struct {
	begin int64
	bits  []byte
}

func (r *refused) add(offset int64) {
	i := int(offset - r.begin)
	for len(r.bits) <= i/8 {
		r.bits = append(r.bits, 0)
	}
	r.bits[i/8] |= 1 << (i % 8)
}

func (r *refused) has(offset int64) bool {
	i := offset - r.begin
	return i >= 0 && i/8 < int64(len(r.bits)) && r.bits[i/8]&(1<<(i%8)) != 0
}

// String is what a plan has of it.
func (r *refused) String() string { return base64.RawStdEncoding.EncodeToString(r.bits) }

// refused are the records that a plan refuses.
func (p plan) refused() (refused, error) {
	bits, err := base64.RawStdEncoding.Strict().DecodeString(p.Refused)
	if err == nil && len(bits) > refusedMax/8 {
		err = fmt.Errorf("%d bytes are more than %d", len(bits), refusedMax/8)
	}
	if err != nil {
		return refused{}, fmt.Errorf("read which records are refused: %w", err)
	}
	return refused{p.Begin, bits}, nil
}

// refuse decides which records of the slot's block are refused because too many names are
// in use, if a bound is near for one of them. The block ends where a plan can say no more of it.
func (r *reader) refuse(next plan) plan {
	now := time.Now()
	if !r.names.tight(r.slot.records, now) {
		return next
	}
	records := r.slot.records
	for records[len(records)-1].Offset >= next.Begin+refusedMax {
		records = records[:len(records)-1]
	}
	r.slot.records = records
	next.End = records[len(records)-1].Offset + 1
	b := &r.slot.block
	b.refused = refused{begin: next.Begin}
	var last cell // most records have the name of the one before
	var had bool
	b.hasPlace = func(k cell) bool {
		if k != last {
			last, had = k, r.names.take(k, now)
		}
		return had
	}
	b.tombstones = nil // of now may not be those of later; whoever is deleted has a place in vain
	decodeBlock(b, r.p.ID(), records)
	b.hasPlace = nil
	next.Refused = b.refused.String()
	return next
}
