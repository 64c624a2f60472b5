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
