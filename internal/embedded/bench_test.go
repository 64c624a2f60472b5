package embedded

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// residentBytes reads a process's resident memory as the kernel counts it, file pages included.
func residentBytes(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), "VmRSS:")
	var kB float64
	if _, err := fmt.Sscan(after, &kB); err != nil {
		b.Fatal(err)
	}
	return kB * 1024
}

// BenchmarkEngineInsert is the load of ingest: blocks of 500 rows into a table with a view, each with a token.
func BenchmarkEngineInsert(b *testing.B) {
	e, err := StartEngine(b.Context(), EngineConfig{Addr: "127.0.0.1:0", DataDir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			b.Error(err)
		}
	}()
	conn, err := clickhouse.Open(&clickhouse.Options{
		Addr: []string{e.Addr()}, Protocol: clickhouse.HTTP, Compression: &clickhouse.Compression{Method: clickhouse.CompressionLZ4},
	})
	if err != nil {
		b.Fatal(err)
	}
	for statement := range strings.SplitSeq(dedupTables, ";") {
		if err := conn.Exec(b.Context(), statement); err != nil {
			b.Fatal(err)
		}
	}
	atRest := residentBytes(b, e.Pid())
	const rows = 500
	name := strings.Repeat("x", 400)
	b.SetBytes(rows * 420)
	b.ReportAllocs()
	for block := 0; b.Loop(); block++ {
		ctx := clickhouse.Context(b.Context(), clickhouse.WithSettings(clickhouse.Settings{"insert_deduplication_token": fmt.Sprint(block)}))
		batch, err := conn.PrepareBatch(ctx, "INSERT INTO events")
		if err != nil {
			b.Fatal(err)
		}
		at := time.Now()
		for i := range rows {
			if err := batch.Append(at, uint8(0), uint64(block*rows+i), name); err != nil {
				b.Fatal(err)
			}
		}
		if err := batch.Send(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*rows)/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(atRest/(1<<20), "MiB-at-rest")
	b.ReportMetric(residentBytes(b, e.Pid())/(1<<20), "MiB-after")
	if err := conn.Close(); err != nil {
		b.Error(err)
	}
}
