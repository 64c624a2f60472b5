package stream

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// identity is what a batch gets at its first try and keeps until Kafka has it: the
// partition that it goes to, and what the partition's leader recognises it by when it
// comes again (KIP-98).
type identity struct {
	producer  int64 // -1: the batch has no identity yet
	epoch     int16
	sequence  int32 // of its first event
	partition int32
}

var (
	noIdentity = identity{-1, -1, -1, -1}
	// withdrawn is noted in place of an identity that a spooled batch must not have again.
	withdrawn = identity{-2, -1, -1, -1}
)

// lengthBytes are in front of a record batch: its length.
const lengthBytes = 4

// identity reads b's from its header. All but the partition is where Kafka has it. The
// partition is in the field of the leader's epoch, which the leader writes over and no
// checksum covers, so that what the spool holds is what goes over the wire.
func (b batch) identity() identity {
	if len(b.data) < lengthBytes+batchHeaderBytes {
		return noIdentity
	}
	h, be := b.data[lengthBytes:], binary.BigEndian
	return identity{
		producer:  int64(be.Uint64(h[atProducer:])),
		epoch:     int16(be.Uint16(h[atProducerEpoch:])),
		sequence:  int32(be.Uint32(h[atSequence:])),
		partition: int32(be.Uint32(h[atLeaderEpoch:])),
	}
}

// bound tells that b has an identity.
func (b batch) bound() bool { return b.identity().producer >= 0 }

// bind gives b an identity in place, or takes it away.
func (b batch) bind(id identity) {
	if len(b.data) < lengthBytes+batchHeaderBytes {
		return
	}
	h, be := b.data[lengthBytes:], binary.BigEndian
	be.PutUint64(h[atProducer:], uint64(id.producer))
	be.PutUint16(h[atProducerEpoch:], uint16(id.epoch))
	be.PutUint32(h[atSequence:], uint32(id.sequence))
	be.PutUint32(h[atLeaderEpoch:], uint32(id.partition))
	be.PutUint32(h[atChecksum:], crc32.Checksum(h[atAttributes:], castagnoli))
}

// latest returns the time of b's latest event.
func (b batch) latest() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b.data[lengthBytes+atMaxTimestamp:])))
}
