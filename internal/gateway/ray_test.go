package gateway

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// TestRaysBeginWithTheirTime: ClickHouse finds a ray by it (schema/clickhouse/010_rays.sql).
func TestRaysBeginWithTheirTime(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		received := time.Unix(1_790_000_000+rand.Int64N(1<<28), 0)
		ray := newRay(received)
		value, err := strconv.ParseUint(ray, 16, 64)
		if err != nil || len(ray) != 16 {
			t.Fatalf("ray %q is not 16 hex digits", ray)
		}
		if got, want := value>>44, uint64(received.Unix())/rayTick%(1<<20); got != want { // #nosec G115 -- after 1970
			t.Fatalf("ray %s begins with %d, want %d", ray, got, want)
		}
		if seen[ray] {
			t.Fatalf("ray %s came twice", ray)
		}
		seen[ray] = true
	}
}
