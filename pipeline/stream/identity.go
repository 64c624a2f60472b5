package stream

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
)

// identity is what a batch gets at its first try and keeps until Kafka has it: the
// partition that it goes to, and what the partition's leader recognises it by when it
// comes again (KIP-98).
type identity struct {
	cluster   clusterID // that gave the producer id; another one may give the same
	producer  int64
	epoch     int16
	sequence  int32 // of its first event
	partition int32
}

// clusterID is a digest of a cluster's id, which is a text of any length.
type clusterID [16]byte

func clusterOf(id string) clusterID {
	sum := sha256.Sum256([]byte(id))
	return clusterID(sum[:16])
}

// isOf tells that a leader in the cluster could recognise id.
func (id *identity) isOf(cluster clusterID, partitions []kafka.Partition) bool {
	return id.cluster == cluster &&
		slices.ContainsFunc(partitions, func(of kafka.Partition) bool { return of.ID == int(id.partition) })
}

// identityBytes is how long an identity is in the spool.
const identityBytes = 34

// noProducer is Kafka's producer id of a batch without an identity.
const noProducer = -1

// append writes id, which may be nil.
func (id *identity) append(to []byte) []byte {
	if id == nil {
		id = &identity{producer: noProducer}
	}
	be := binary.BigEndian
	to = be.AppendUint64(to, uint64(id.producer))
	to = be.AppendUint16(to, uint16(id.epoch))
	to = be.AppendUint32(to, uint32(id.sequence))
	to = be.AppendUint32(to, uint32(id.partition))
	return append(to, id.cluster[:]...)
}

// readIdentity is the inverse of append. It takes identityBytes.
func readIdentity(b []byte) *identity {
	be := binary.BigEndian
	id := &identity{
		producer:  int64(be.Uint64(b)),
		epoch:     int16(be.Uint16(b[8:])),
		sequence:  int32(be.Uint32(b[10:])),
		partition: int32(be.Uint32(b[14:])),
		cluster:   clusterID(b[18:identityBytes]),
	}
	if id.producer == noProducer {
		return nil
	}
	return id
}

// lengthBytes are in front of a record batch: its length.
const lengthBytes = 4

// bind gives b an identity, or with nil takes it away. Its bytes are changed in place.
func (b *batch) bind(id *identity) {
	b.id = id
	stamp(b.data, id)
}

// stamp writes an identity, or none, where Kafka has it in a batch.
func stamp(data []byte, id *identity) {
	if len(data) < lengthBytes+batchHeaderBytes {
		return
	}
	if id == nil {
		id = &identity{producer: noProducer, epoch: -1, sequence: -1}
	}
	h, be := data[lengthBytes:], binary.BigEndian
	be.PutUint64(h[atProducer:], uint64(id.producer))
	be.PutUint16(h[atProducerEpoch:], uint16(id.epoch))
	be.PutUint32(h[atSequence:], uint32(id.sequence))
	be.PutUint32(h[atChecksum:], crc32.Checksum(h[atAttributes:], castagnoli))
}

// latest returns the time of b's latest event.
func (b *batch) latest() time.Time {
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b.data[lengthBytes+atMaxTimestamp:])))
}
