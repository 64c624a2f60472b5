package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

func TestResumeTellsALostEndFromANewTopic(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(1)
		at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
		produce(t, cfg, 0, at, "a", "b")
		produce(t, cfg, 0, at.Add(time.Minute), "c")
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, p Partition) {
			f := func(name string, e OutOfRangeError, newest time.Time, want Gap, wantNext string) {
				t.Helper()
				got, err := e.Resume(ctx, p, newest)
				if err != nil || got != want {
					t.Errorf("%s: %+v, %v, want %+v", name, got, err, want)
					return
				}
				if wantNext == "" {
					return
				}
				if records, err := fetchRecords(ctx, p); err != nil || string(records[0].Value) != wantNext {
					t.Errorf("%s: it goes on with %v, %v, want %s", name, records, err, wantNext)
				}
			}
			shorter := OutOfRangeError{Position: 9, First: 0, Next: 2}
			f("the first record was read before", shorter, at.Add(time.Second), Gap{GapTruncated, 2, 7}, "c")
			f("it is the newest that was read", shorter, at, Gap{GapTruncated, 2, 7}, "c")
			longer := OutOfRangeError{Position: 9, First: 0, Next: 3}
			f("it has grown since", longer, at, Gap{GapTruncated, 2, 7}, "c")
			f("what was written since is no newer", longer, at.Add(time.Minute), Gap{GapTruncated, 3, 6}, "")
			f("it has grown beyond the position", OutOfRangeError{Position: 2, First: 0, Next: 3}, at, Gap{GapTruncated, 2, 0}, "c")
			f("what is behind the position was never read", OutOfRangeError{Position: 1, First: 0, Next: 3}, at.Add(time.Minute), Gap{GapTruncated, 1, 0}, "b")
			f("the first record is new", shorter, at.Add(-time.Millisecond), Gap{GapRemade, 0, 0}, "a")
			f("nothing is known", shorter, time.Time{}, Gap{GapRemade, 0, 0}, "a")
			f("the beginning is gone", OutOfRangeError{Position: 0, First: 1, Next: 3}, at, Gap{GapRetention, 1, 1}, "b")
			f("it is empty", OutOfRangeError{Position: 9, First: 3, Next: 3}, at, Gap{GapRemade, 3, 0}, "")
		})
	})
}

// A batch that cannot be decoded begins the partition, and its header has the time that
// tells a lost end from a new topic.
func TestResumeReadsABatchThatCannotBeDecoded(t *testing.T) {
	b := startOwnBroker(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	for _, codec := range codecs {
		cfg := b.topic(1)
		produceBroken(t, cfg, codec, 2, at)
		produce(t, cfg, 0, at.Add(time.Minute), "c")
		inPartition(t, testGroup(t, cfg, unique("g")), func(ctx context.Context, p Partition) {
			shorter := OutOfRangeError{Position: 9, First: 0, Next: 3}
			f := func(name string, newest time.Time, want Gap) {
				t.Helper()
				if got, err := shorter.Resume(ctx, p, newest); err != nil || got != want {
					t.Errorf("%s, %s: %+v, %v, want %+v", codec, name, got, err, want)
				}
			}
			f("it was read before", at, Gap{GapTruncated, 2, 7})
			f("it is new", at.Add(-time.Millisecond), Gap{GapRemade, 0, 0})
			for offset, want := range []Record{{Offset: 0, Time: at}, {Offset: 1, Time: at}, {Offset: 2, Time: at.Add(time.Minute), Value: []byte("c")}} {
				got, err := FirstFrom(ctx, p, int64(offset))
				if err != nil || got.Offset != want.Offset || !got.Time.Equal(want.Time) || string(got.Value) != string(want.Value) {
					t.Errorf("%s: at offset %d is %+v, %v", codec, offset, got, err)
				}
			}
		})
	}
}

// produceBroken writes a batch of n records to partition 0 that nobody can decode.
func produceBroken(t *testing.T, cfg Config, codec compress.Compression, n int, at time.Time) {
	t.Helper()
	data := broken(codec, n, 0)
	binary.BigEndian.PutUint64(data[atFirstTimestamp:], uint64(at.UnixMilli()))
	client := newClient(cfg)
	defer closeClient(client)
	answer, err := client.RawProduce(testContext(t), &kafka.RawProduceRequest{Topic: cfg.Topic, RequiredAcks: kafka.RequireAll,
		RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(len(data))), sum(data)))}})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewest(t *testing.T) {
	now := time.Now()
	f := func(want, newest time.Time, times ...time.Time) {
		t.Helper()
		var records []Record
		for _, at := range times {
			records = append(records, Record{Time: at})
		}
		if got := Newest(newest, records); !got.Equal(want) {
			t.Errorf("Newest(%s, %v) = %s, want %s", newest, times, got, want)
		}
	}
	f(time.Time{}, time.Time{})
	f(now, now)
	f(now, time.Time{}, now.Add(-time.Hour), now, now.Add(-time.Second))
	f(now, now, now.Add(-time.Hour))
	// A clock that is far ahead.
	if got := Newest(time.Time{}, []Record{{Time: now.AddDate(50, 0, 0)}}); got.Before(now) || got.After(time.Now()) {
		t.Errorf("a time that is still to come makes %s the newest", got)
	}
}
