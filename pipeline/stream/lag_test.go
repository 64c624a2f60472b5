package stream

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLagsTellHowLongRecordsWait(t *testing.T) {
	eachBroker(t, func(t *testing.T, b *broker) {
		cfg := b.topic(3)
		now := time.Now()
		produce(t, cfg, 0, now.Add(-time.Hour), "a", "b")
		produce(t, cfg, 0, now.Add(-3*time.Minute), "c")
		produce(t, cfg, 0, now.Add(time.Hour), "d")
		produce(t, cfg, 1, now.Add(-2*time.Minute), "a")
		want := []Lag{
			{Partition: 0, Committed: -1, Next: 4, Minute: 3, FiveMinutes: 2},
			{Partition: 1, Committed: -1, Next: 1, Minute: 1, FiveMinutes: 0},
			{Partition: 2, Committed: -1},
		}
		list, ages, err := Lags(testContext(t), cfg, "nobody")
		if err != nil || ages != nil {
			t.Fatalf("Lags: %v, of ages %v", err, ages)
		}
		if diff := cmp.Diff(want, list); diff != "" {
			t.Errorf("lags differ (-want +got):\n%s", diff)
		}
	})
}
