package gateway

import (
	"strconv"
	"testing"
	"time"
)

// TestRaysBeginWithTheirTime: ClickHouse finds a ray by it (schema/clickhouse/010_rays.sql).
func TestRaysBeginWithTheirTime(t *testing.T) {
	tick := func() uint64 { return uint64(time.Now().Unix()) / rayTick % (1 << 20) } // #nosec G115 -- after 1970
	seen := map[string]bool{}
	for range 1000 {
		before := tick()
		ray := newRay()
		after := tick()
		value, err := strconv.ParseUint(ray, 16, 64)
		if err != nil || len(ray) != 16 {
			t.Fatalf("ray %q is not 16 hex digits", ray)
		}
		if got := value >> 44; got != before && got != after {
			t.Fatalf("ray %s begins with %d, want %d", ray, got, before)
		}
		if seen[ray] {
			t.Fatalf("ray %s came twice", ray)
		}
		seen[ray] = true
	}
}
