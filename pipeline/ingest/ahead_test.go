package ingest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// storedAs is what ClickHouse says after it has stored r.
func storedAs(t *testing.T, rows int64, r stream.Record) tables.Stored {
	t.Helper()
	var b block
	decodeBlock(&b, 4, []stream.Record{r})
	if b.events.Len() == 0 {
		return tables.Stored{Rows: rows, Last: r.Offset, Records: []tables.StoredRecord{{TimeMs: r.Time.UnixMilli()}}}
	}
	return tables.Stored{Rows: rows, Last: r.Offset, Records: []tables.StoredRecord{
		{Event: true, RayID: string(b.events.RayID[0]), TimeMs: b.events.Time[0].UnixMilli() + b.events.SkewMs[0]}}}
}

func TestGoesOnBehindWhatIsStored(t *testing.T) {
	bad := good(119)
	bad.Value = []byte("{}")
	other := storedAs(t, 20, good(119))
	other.Records[0].RayID = "ffffffffffffffff"
	planned := plan{Begin: 103, End: 108, At: good(103).Time.UnixMilli()}
	var tombstones []schema.Tombstone
	f := func(name string, p *fakePartition, stored tables.Stored, want []int64) {
		t.Helper()
		w := &fakeWriter{stored: stored, tombstones: tombstones}
		stop := start(t, newIngest(t, w, nil), p)
		eventually(t, name+": all is committed", func() bool { return p.settledAt(130) })
		if err := stop(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(w.offsets(), want) {
			t.Errorf("%s: inserted offsets are %v, want %v", name, w.offsets(), want)
		}
	}
	all, rest := seq(100, 130), seq(120, 130)
	f("a new group, and nothing stored", newFake(100, 30), tables.Stored{}, all)
	f("the group was removed", newFake(100, 30), storedAs(t, 20, good(119)), rest)
	f("the group was removed, and all is stored", newFake(100, 30), storedAs(t, 30, good(129)), nil)
	f("the topic was made anew", newFake(100, 30), other, all)
	f("set back by hand", newFake(100, 30).committed(105, ""), storedAs(t, 15, good(119)), rest)
	f("set forward by hand", newFake(100, 30).committed(125, ""), storedAs(t, 20, good(119)), seq(125, 130))
	f("the last commits were lost", newFake(100, 30).committed(110, "{}"), storedAs(t, 10, good(119)), rest)
	f("the last commits were lost, and a plan is left", newFake(100, 30).committed(103, newMark(planned, time.Time{}).String()), storedAs(t, 12, good(119)), rest)
	f("a plan whose block is stored", newFake(100, 30).committed(103, newMark(planned, time.Time{}).String()), storedAs(t, 5, good(107)), seq(103, 130))
	both := other
	both.Records = append(both.Records, storedAs(t, 20, good(119)).Records...)
	f("a topic that was made anew is stored beside the old one", newFake(100, 30), both, rest)
	p := newFake(100, 19)
	p.write(bad)
	for o := range int64(10) {
		p.write(good(120 + o))
	}
	f("the last one is in the quarantine", p, storedAs(t, 20, bad), rest)
	alone := tables.Stored{Rows: 20, Last: 119, Records: []tables.StoredRecord{{TimeMs: good(119).Time.UnixMilli()}}}
	f("the last one was one too many for its block", newFake(100, 30), alone, rest)
	note := tables.Stored{Rows: 20, Last: 119, Records: []tables.StoredRecord{{Deleted: true, TimeMs: good(119).Time.Truncate(24 * time.Hour).UnixMilli()}}}
	f("a note of what an old topic had", newFake(100, 30), note, all)
	tombstones = []schema.Tombstone{{AccountID: testAccount, Script: "shop", Before: good(120).Time}}
	f("the last one was deleted", newFake(100, 30), note, rest)
	note.Records[0].TimeMs -= 10 * 24 * time.Hour.Milliseconds()
	f("a note of what an old topic had, and the new one's is deleted, too", newFake(100, 30), note, rest)
}

// Kafka removed the group's offsets a week after the last ingest had ended, or somebody
// did, and everything that the topic held was counted again.
func TestExactlyOnceAfterKafkaForgotTheOffsets(t *testing.T) {
	db, c := openDB(t, serverAddr(t)), startKafka(t, 2)
	stop := c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.produceGood(50)
	c.produce(0, []byte("poison"))
	c.wantExactly(db, 1)
	stop()
	answer, err := c.client.DeleteGroups(t.Context(), &kafka.DeleteGroupsRequest{GroupIDs: []string{"ingest"}})
	if err != nil || answer.Errors["ingest"] != nil {
		t.Fatal(err, answer.Errors)
	}
	stop = c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.wantExactly(db, 1)
	c.produceGood(30)
	c.wantExactly(db, 1)
	stop()

	// Now somebody sets them back by hand.
	if err := c.reset(t.Context(), 10); err != nil {
		t.Fatal(err)
	}
	c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.wantExactly(db, 1)
	c.produceGood(5)
	c.wantExactly(db, 1)
}

// What is stored last lies in a batch that cannot be decoded, and nothing behind it tells
// whether the topic is the one of before.
func TestExactlyOnceWhenABatchThatCannotBeDecodedIsStoredLast(t *testing.T) {
	db, c := openDB(t, serverAddr(t)), startKafka(t, 1)
	stop := c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.produceGood(10)
	c.produceBroken(0, 3)
	c.wantExactly(db, 3)
	stop()
	if err := c.reset(t.Context(), 4); err != nil {
		t.Fatal(err)
	}
	c.run(newIngest(t, db, smallBlocks).HandlePartition)
	c.wantExactly(db, 3)
	c.produceGood(5)
	c.wantExactly(db, 3)
}

// reset sets the offsets of a group without members.
func (c *cluster) reset(ctx context.Context, offset int64) error {
	var commits []kafka.OffsetCommit
	for id := range c.partitions {
		commits = append(commits, kafka.OffsetCommit{Partition: id, Offset: offset})
	}
	answer, err := c.client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: "ingest", GenerationID: -1, Topics: map[string][]kafka.OffsetCommit{"topic": commits}})
	if err != nil {
		return err
	}
	for _, o := range answer.Topics["topic"] {
		if o.Error != nil {
			return o.Error
		}
	}
	return nil
}
