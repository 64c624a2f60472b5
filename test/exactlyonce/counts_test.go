package exactlyonce

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const account = "0123456789abcdef0123456789abcdef"

// load produces events until it is stopped.
type load struct {
	broker  *broker
	pause   sync.Mutex // held while a batch is written
	acked   atomic.Int64
	unknown atomic.Int64 // records of batches whose answer was lost
	stop    func()
}

func startLoad(t *testing.T, b *broker, seed uint64) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{broker: b}
	var done sync.WaitGroup
	done.Go(func() {
		dice := rand.New(rand.NewPCG(seed, 1)) // #nosec G404 -- repeatable on purpose
		for n := 0; ctx.Err() == nil; n++ {
			l.batch(dice, n)
			if stream.Sleep(ctx, 4*time.Millisecond) != nil {
				return
			}
		}
	})
	l.stop = sync.OnceFunc(func() {
		cancel()
		done.Wait()
	})
	t.Cleanup(l.stop)
	return l
}

// paused calls do while nothing is produced.
func (l *load) paused(do func()) {
	l.pause.Lock()
	defer l.pause.Unlock()
	do()
}

// batch writes up to 30 records to one partition: most are events of three versions,
// some of which stand for others, and a few are none.
func (l *load) batch(dice *rand.Rand, n int) {
	l.pause.Lock()
	defer l.pause.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	partitions, err := l.broker.partitions(ctx)
	if err != nil || partitions == 0 {
		return // away; nothing was sent
	}
	records := make([]kafka.Record, 1+dice.IntN(30))
	now := time.Now()
	for i := range records {
		text := event(dice, now, n*100+i)
		if dice.IntN(200) == 0 {
			text = []byte(`{"ScriptName":7}`)
		}
		records[i] = kafka.Record{Time: now, Value: kafka.NewBytes(text), Headers: []kafka.Header{
			{Key: schema.HeaderAccount, Value: []byte(account)}, {Key: schema.HeaderSchema, Value: []byte(schema.EventSchemaVersion)}}}
	}
	answer, err := l.broker.client.Produce(ctx, &kafka.ProduceRequest{Topic: schema.Topic, Partition: dice.IntN(partitions),
		RequiredAcks: kafka.RequireAll, Records: kafka.NewRecordReader(records...)})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		l.unknown.Add(int64(len(records)))
		return
	}
	l.acked.Add(int64(len(records)))
}

func event(dice *rand.Rand, now time.Time, n int) []byte {
	e := schema.TraceEvent{
		ScriptName: []string{"shop", "cart"}[n%2], ScriptVersion: schema.ScriptVersion{ID: fmt.Sprintf("v%d", dice.IntN(3))},
		EventTimestampMs: now.Add(-time.Duration(dice.IntN(90)) * time.Second).UnixMilli(), EventType: "fetch", Outcome: schema.OutcomeOK,
		WallTimeMs: new(int64(dice.IntN(50))), Gateway: schema.Gateway{Decision: schema.DecisionSplit, RayID: fmt.Sprintf("%016x", n)},
	}
	switch dice.IntN(6) {
	case 0:
		e.Gateway.SampledOut = int64(dice.IntN(9))
	case 1:
		e.Outcome = "exception"
	}
	return e.AppendJSON(nil)
}

// tally is what a version has in one place.
type tally struct{ events, others int64 }

// topic is what Kafka holds, read once and kept: the truth that tables are held
// against. What was produced is not: the answer to a produce may be lost.
type topic struct {
	broker      *broker
	reader      *stream.Reader
	next        []int64 // by partition
	versions    map[string]tally
	records     int64
	quarantined int64
}

// read goes on to the end of each partition.
func (k *topic) read(ctx context.Context) error {
	n, err := k.broker.partitions(ctx)
	if err != nil {
		return err
	}
	for len(k.next) < n {
		k.next = append(k.next, 0)
	}
	for id := range k.next {
		_, end, err := k.reader.Bounds(ctx, id)
		if err != nil {
			return err
		}
		for k.next[id] < end {
			batches, err := k.reader.FetchBatches(ctx, id, k.next[id], false)
			if err != nil {
				return err
			}
			if len(batches) == 0 {
				break
			}
			for i := range batches {
				records, err := batches[i].DecodeAll(new(stream.Memory))
				if err != nil {
					return err
				}
				for j := range records {
					if records[j].Offset >= k.next[id] {
						k.count(&records[j])
					}
				}
			}
			k.next[id] = batches[len(batches)-1].Next
		}
	}
	return nil
}

func (k *topic) count(r *stream.Record) {
	k.records++
	var e schema.TraceEvent
	if schema.DecodeEvent(r.Value, &e) != nil {
		k.quarantined++
		return
	}
	t := k.versions[e.ScriptVersion.ID]
	k.versions[e.ScriptVersion.ID] = tally{t.events + 1, t.others + e.Gateway.SampledOut}
}

// compare says what the tables have otherwise than Kafka.
func (k *topic) compare(ctx context.Context, db *tables) error {
	rows, err := db.ask(ctx, `SELECT count(), uniqExact(kafka_partition, kafka_offset) FROM
		(SELECT kafka_partition, kafka_offset FROM trace_events UNION ALL SELECT kafka_partition, kafka_offset FROM trace_events_quarantine)`)
	if err != nil {
		return err
	}
	var wrong []error
	if want := strconv.FormatInt(k.records, 10); rows[0][0] != want || rows[0][1] != want {
		wrong = append(wrong, fmt.Errorf("Kafka holds %s records, the tables %s rows of %s offsets", want, rows[0][0], rows[0][1]))
	}
	if rows, err = db.ask(ctx, "SELECT count() FROM trace_events_quarantine"); err != nil {
		return err
	}
	if want := strconv.FormatInt(k.quarantined, 10); rows[0][0] != want {
		wrong = append(wrong, fmt.Errorf("the quarantine has %s records, want %s", rows[0][0], want))
	}
	for _, table := range []string{"trace_events", "version_rates_1s", "version_rates_1m", "version_rates_1h"} {
		sum := "sum(requests) - sum(sampled_out)"
		if table == "trace_events" {
			sum = "count()"
		}
		rows, err := db.ask(ctx, "SELECT version_id, "+sum+", sum(sampled_out) FROM "+table+" GROUP BY version_id")
		if err != nil {
			return err
		}
		if len(rows) != len(k.versions) {
			wrong = append(wrong, fmt.Errorf("%s has %d versions, want %d", table, len(rows), len(k.versions)))
		}
		for _, row := range rows {
			want := k.versions[row[0]]
			if got := row[1] + " and " + row[2]; got != fmt.Sprintf("%d and %d", want.events, want.others) {
				wrong = append(wrong, fmt.Errorf("%s has of %s %s others, want %d and %d", table, row[0], got, want.events, want.others))
			}
		}
	}
	return errors.Join(wrong...)
}
