package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/pipeline/stream"
)

// BenchmarkDecodeBlock is what ingest does with a record besides moving it.
func BenchmarkDecodeBlock(b *testing.B) {
	const n = 10_000
	records, bytes := make([]stream.Record, n), 0
	for i := range records {
		records[i] = good(int64(i))
		bytes += len(records[i].Value)
	}
	var scratch block
	b.SetBytes(int64(bytes))
	b.ReportAllocs()
	for b.Loop() {
		decodeBlock(&scratch, 0, records)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkIngest moves events from a real broker into a real engine, and then
// inserts the same blocks, prepared, as fast as the engine takes them. The ratio
// of the two is what is left to gain.
func BenchmarkIngest(b *testing.B) {
	const partitions, perPartition = 2, 100_000
	for b.Loop() {
		db, c := openDB(b, serverAddr(b)), startKafka(b, partitions)
		var values [][]byte
		for i := range 1_000 {
			values = append(values, value(i))
		}
		for range perPartition / len(values) {
			for p := range partitions {
				c.produce(p, values...)
			}
		}
		start := time.Now()
		stop := c.run(newIngest(b, db, func(cfg *Config) { cfg.Interval = DefaultConfig("").Interval }).HandlePartition)
		c.wantExactly(db, 0)
		ingested := time.Since(start)
		stop()

		limit := insertPrepared(b, openDB(b, serverAddr(b)), partitions, perPartition)
		events := float64(partitions * perPartition)
		b.ReportMetric(events/ingested.Seconds(), "events/s")
		b.ReportMetric(events/limit.Seconds(), "prepared/s")
		b.ReportMetric(limit.Seconds()/ingested.Seconds(), "of-limit")
	}
}

// insertPrepared inserts as many events as BenchmarkIngest moves, in blocks of
// the same size and as many at once, decoded beforehand.
func insertPrepared(b *testing.B, db *clickhouse.DB, partitions, perPartition int) time.Duration {
	rows := DefaultConfig("").RowsMax
	records := make([]stream.Record, rows)
	for i := range records {
		records[i] = good(int64(i % 1_000))
	}
	var prepared block
	decodeBlock(&prepared, 0, records)
	start := time.Now()
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			for n := 0; n < perPartition; n += rows {
				if err := db.InsertEvents(b.Context(), fmt.Sprint("prepared-", p, "-", n), &prepared.events); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// BenchmarkFreshness writes 2,000 events a second to four partitions, in batches
// of 50 ms as the gateway does, and watches when they show up in version_rates_1s.
func BenchmarkFreshness(b *testing.B) {
	const perSecond, lasting = 2_000, 10 * time.Second
	for b.Loop() {
		db, c := openDB(b, serverAddr(b)), startKafka(b, 4)
		c.run(newIngest(b, db, func(cfg *Config) { cfg.Interval = DefaultConfig("").Interval }).HandlePartition)
		for p := range 4 {
			c.produce(p, value(p)) // the group has found every partition when these are there
		}
		eventually(b, "the first events are visible", func() bool { return stored(b, db) == 4 })

		var mu sync.Mutex
		var sent []time.Time // of each event, the fourth and later
		ctx, cancel := context.WithTimeout(b.Context(), lasting)
		var producer sync.WaitGroup
		producer.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			batch := make([][]byte, perSecond/20)
			for n := 0; ; n++ {
				begun := time.Now() // the first of the batch has waited since the last tick
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				for i := range batch {
					batch[i] = value(i)
				}
				mu.Lock()
				for range batch {
					sent = append(sent, begun)
				}
				mu.Unlock()
				c.produce(n%4, batch...)
			}
		})
		var waits []time.Duration
		for visible := 0; ctx.Err() == nil; {
			rates, err := db.RatesBetween(b.Context(), testAccount, "shop", noon, noon.Add(time.Minute))
			if err != nil || len(rates) == 0 {
				b.Fatal(rates, err)
			}
			now := time.Now()
			mu.Lock()
			// Counted, not followed: the nth event is late until n are visible.
			for total := int(rates[0].Requests) - 4; visible < total; visible++ {
				waits = append(waits, now.Sub(sent[visible]))
			}
			mu.Unlock()
		}
		cancel()
		producer.Wait()
		slices.Sort(waits)
		b.ReportMetric(float64(waits[len(waits)/2].Milliseconds()), "p50-ms")
		b.ReportMetric(float64(waits[len(waits)*99/100].Milliseconds()), "p99-ms")
		b.ReportMetric(float64(len(waits))/float64(len(sent)), "seen")
	}
}
