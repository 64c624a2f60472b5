package logjob

import (
	"testing"
	"time"
)

// The story: one partition delivered what had just come, another was 19 s behind, and
// the page said that all was delivered until now.
func TestAJobIsCompleteAsFarAsEveryPartitionIs(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	done := func(reported time.Time) PartitionHealth {
		return PartitionHealth{ReportedOn: reported, Committed: 7, Next: 7, OldestOn: now.Add(-time.Hour)}
	}
	behind := func(oldest time.Time) PartitionHealth {
		return PartitionHealth{ReportedOn: now, Committed: 7, Next: 9, OldestOn: oldest}
	}
	for name, test := range map[string]struct {
		partitions []PartitionHealth
		want       time.Time
	}{
		"nothing reported":          {nil, time.Time{}},
		"nothing waits":             {[]PartitionHealth{done(now), done(now.Add(-time.Minute))}, now.Add(-time.Minute)},
		"one is behind":             {[]PartitionHealth{done(now), behind(now.Add(-19 * time.Second))}, now.Add(-19 * time.Second)},
		"the first is behind":       {[]PartitionHealth{behind(now.Add(-19 * time.Second)), done(now)}, now.Add(-19 * time.Second)},
		"one is who knows where":    {[]PartitionHealth{done(now), behind(time.Time{}), done(now)}, time.Time{}},
		"the slower of two counts":  {[]PartitionHealth{behind(now.Add(-time.Second)), behind(now.Add(-time.Minute))}, now.Add(-time.Minute)},
		"one was reported long ago": {[]PartitionHealth{behind(now.Add(-time.Second)), done(now.Add(-time.Hour))}, now.Add(-time.Hour)},
	} {
		if got := (Health{Partitions: test.partitions}).CompleteUntil(); !got.Equal(test.want) {
			t.Errorf("%s: complete until %v, want %v", name, got, test.want)
		}
	}
}
