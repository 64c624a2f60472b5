// Package scale holds the arithmetic of docs/scale.md to its table.
package scale

import (
	"flag"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/scale.md instead of comparing")

// Measured (docs/benchmarks.md) and assumed values, as docs/scale.md names them.
const (
	gatewayMicros  = 15.4 // CPU of a request with its event: bench/gateway
	kafkaBytes     = 68.0 // of an event: bench/storage
	rawBytes       = 51.77
	rateBytes      = 2.47 + 0.32 + 0.09 + 1.16 // an upper bound: rows of rates do not grow with events
	busy           = 0.6                       // of a core, at most: assumed
	partitionRate  = 50_000.0                  // events/s of a partition: assumed
	ingestMicros   = 3.26                      // CPU of an event: bench/ingest
	ingestCores    = 2.0                       // of a process
	shardRate      = 200_000.0                 // of a shard: assumed
	replicas       = 3.0                       // of Kafka
	shardReplicas  = 3.0                       // of a shard of ClickHouse
	free           = 0.7                       // of a disk that is filled, at most: assumed
	kafkaHours     = 24.0
	rawDays        = 30.0
	gigabyte       = 1e9
	day            = 86_400.0
	pricePerGBDisk = 0.1  // a month, assumed
	pricePerCore   = 20.0 // a month, assumed
)

func row(rate float64) string {
	up := func(x float64) float64 { return math.Ceil(x - 1e-9) }
	gateways := up(rate * gatewayMicros / 1e6 / busy)
	partitions := max(4, up(rate/partitionRate))
	ingests := max(1, up(rate*ingestMicros/1e6/busy/ingestCores))
	kafkaGB := rate * kafkaBytes * kafkaHours * 3600 * replicas / free / gigabyte
	shards := max(1, up(rate/shardRate))
	houseGB := rate * (rawBytes + rateBytes) * day * rawDays * shardReplicas / free / gigabyte
	replicaTB := houseGB / shards / shardReplicas / 1000
	cores := gateways + ingestCores*ingests + 4*shards*shardReplicas
	cost := cores*pricePerCore + (kafkaGB+houseGB)*pricePerGBDisk
	return fmt.Sprintf("| %.0f | %.0f | %.0f | %.1f | %.0f | %.0f | %.0f | %.0f | %.2f | %.0f | %.0f |",
		rate, gateways, partitions, rate*kafkaBytes/1e6, kafkaGB, ingests, shards, houseGB, replicaTB, cores, cost)
}

// An insert is answered when most replicas have it, and Kafka confirms by two of three: one of
// either may be away without counting coming to a halt.
func TestOneReplicaMayBeAway(t *testing.T) {
	for name, n := range map[string]float64{"Kafka": replicas, "a shard": shardReplicas} {
		if most := math.Floor(n/2) + 1; n-1 < most {
			t.Errorf("%s has %.0f replicas, of which %.0f must be there", name, n, most)
		}
	}
}

func TestTableOfThePage(t *testing.T) {
	const begin, end = "<!-- table -->\n", "<!-- end of table -->"
	var b strings.Builder
	b.WriteString("| Events/s | Gateway cores | Partitions | Kafka in, MB/s | Kafka disk, GB | Ingest processes | Shards | ClickHouse disk, GB | Of a replica, TB | Cores but Kafka's | Units of money a month |\n|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, rate := range []float64{1e3, 1e4, 1e5, 1e6} {
		b.WriteString(row(rate) + "\n")
	}
	const page = "../../docs/scale.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	table, after, ended := strings.Cut(rest, end)
	if !ok || !ended {
		t.Fatalf("%s has no table between %q and %q", page, begin, end)
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+b.String()+end+after), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != b.String() {
		t.Errorf("the table of %s is not what its formulas give; run with -update. Want\n%s", page, b.String())
	}
}
