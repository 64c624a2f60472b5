package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// tombstonesAge is how old the list of what is deleted may be when a block is built.
const tombstonesAge = time.Second

// deletedToken names a block of offsets that are deleted. They are more at a later attempt
// if something was deleted in between; so the token says which ones, and what is noted twice
// does no harm.
func deletedToken(token string, offsets []int64) string {
	h := fnv.New64a()
	for _, offset := range offsets {
		_, _ = h.Write(binary.LittleEndian.AppendUint64(nil, uint64(offset))) // #nosec G115 -- the same bits; a hash takes everything
	}
	return fmt.Sprintf("%s-deleted-%016x", token, h.Sum64())
}

// deleted knows what is deleted, for all partitions of a process. It is safe for
// concurrent use. The list lies in ClickHouse because a block needs that anyhow: while
// it cannot be read, nothing could be stored either.
type deleted struct {
	read func(context.Context) ([]schema.Tombstone, error)

	mu     sync.Mutex // held while the list is read: who waits for it needs it too
	list   *schema.Tombstones
	readAt time.Time
}

// current returns a list that is at most tombstonesAge old, or was asked for after the call.
func (d *deleted) current(ctx context.Context) (*schema.Tombstones, error) {
	called := time.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.list != nil && (!d.readAt.Before(called) || time.Since(d.readAt) < tombstonesAge) {
		return d.list, nil
	}
	now := time.Now()
	list, err := d.read(ctx)
	if err != nil {
		return nil, err
	}
	d.list, d.readAt = schema.NewTombstones(list), now
	return d.list, nil
}

// drop leaves the offset of a record that is deleted in the quarantine, and nothing else
// of it.
func (b *block) drop(partition int, r *stream.Record) {
	q := &b.deleted
	q.KafkaPartition = append(q.KafkaPartition, int32(partition)) // #nosec G115 -- a partition's number
	q.KafkaOffset = append(q.KafkaOffset, r.Offset)
	q.KafkaTime = append(q.KafkaTime, clamp(r.Time).Truncate(24*time.Hour))
	q.AccountID = append(q.AccountID, "")
	q.Reason = append(q.Reason, tables.ReasonDeleted)
	q.Detail = append(q.Detail, "")
	q.Value = append(q.Value, "")
	q.ValueBytes = append(q.ValueBytes, 0)
}
