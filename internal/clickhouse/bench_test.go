package clickhouse

import (
	"fmt"
	"testing"
	"time"
)

// realistic is n events as a busy script makes them, with the JSON of a request.
func realistic(n int) []row {
	rows := make([]row, n)
	for i := range rows {
		rows[i] = served(time.Duration(i) * time.Millisecond / 10)
		rows[i].wall = new(int64(i*7919%200 + 3))
		if i%10 == 0 {
			rows[i].version = v2
		}
	}
	return rows
}

func BenchmarkInsertEvents(b *testing.B) {
	for _, n := range []int{1, 100, 1_000, 10_000, 50_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			db := migrated(b)
			block := blockOf(realistic(n)...)
			for i := range block.Event {
				block.Event[i] = fmt.Appendf(nil, `{"RayID":"%016x","Request":{"URL":"http://shop.dev.localhost:8080/product/%d","Method":"GET","Headers":{"user-agent":"Mozilla/5.0"}},"Response":{"Status":200}}`, i, i%977)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := db.InsertEvents(b.Context(), fmt.Sprint(time.Now().UnixNano()), block); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// BenchmarkRateBlocks reads two minutes, as the controller does twice a second, and a day of
// a script with two versions in each second, whose times fill some 40 buckets.
func BenchmarkRateBlocks(b *testing.B) {
	db := migrated(b)
	const history = `INSERT INTO assigned_rates_1s SELECT '%s', '%s', v, toDateTime(%d, 'UTC') + s, 100, 1, 1, 0, 0,
		mapFromArrays(arrayDistinct(arrayMap(i -> toUInt16(60 + i + rand(i) %% 3), range(40))) AS keys, arrayMap(k -> toUInt64(1 + rand(k) %% 9), keys)),
		map(toUInt16(0), toUInt64(60), 16, 30, 26, 10)
		FROM (SELECT arrayJoin(['%s', '%s']) AS v, number AS s FROM numbers(86400))`
	if err := db.conn.Exec(b.Context(), fmt.Sprintf(history, account, script, noon.Unix(), v1, v2)); err != nil {
		b.Fatal(err)
	}
	db.assignedAt.Store(noon.Add(-assignedSettled).UnixMilli())
	for _, length := range []time.Duration{2 * time.Minute, 24 * time.Hour} {
		for _, durations := range []bool{false, true} {
			b.Run(fmt.Sprintf("length=%s/durations=%v", length, durations), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					blocks, err := db.RateBlocks(b.Context(), account, script, noon, noon.Add(length), durations)
					if err != nil || len(blocks) != 2*int(length/time.Second) {
						b.Fatalf("%d blocks, %v", len(blocks), err)
					}
				}
			})
		}
	}
}
