package logpush

import (
	"net/http"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

func ptr[T any](v T) *T { return &v }

func TestSampling(t *testing.T) {
	for _, rate := range []float64{0.001, 0.1, 0.5, 0.9} {
		const n = 200_000
		kept, both := 0, 0
		for i := range n {
			a := sampled(rate, 1, 0, int64(i))
			if a {
				kept++
			}
			if a && sampled(rate, 1, 0, int64(i+1)) {
				both++
			}
		}
		// Six standard deviations of a binomial: never by chance.
		near := func(got int, p float64) bool {
			d := float64(got) - n*p
			return d*d < 36*n*p*(1-p)
		}
		if !near(kept, rate) || !near(both, rate*rate) {
			t.Errorf("rate %v keeps %d of %d, and %d neighbours", rate, kept, n, both)
		}
	}
	if !sampled(1, 1, 0, 5) {
		t.Error("rate 1 drops a record")
	}
}

func TestBoundsOfAJob(t *testing.T) {
	f := func(j logjob.Job, want bounds) {
		t.Helper()
		if got := boundsOf(&j, Traits{}, 30*time.Second); got != want {
			t.Errorf("bounds are %+v, want %+v", got, want)
		}
	}
	f(logjob.Job{}, bounds{defaultBytes, defaultRecords, 30 * time.Second, catchUpSpan})
	f(logjob.Job{Frequency: logjob.FrequencyLow}, bounds{maxBytes, lowRecords, lowInterval, lowInterval})
	f(logjob.Job{MaxUploadBytes: ptr(int64(0)), MaxUploadRecords: ptr(int64(0)), MaxUploadIntervalSeconds: ptr(int64(0))},
		bounds{maxBytes, maxRecords, maxInterval, maxInterval})
	f(logjob.Job{MaxUploadBytes: ptr(int64(1_000_000_000)), MaxUploadRecords: ptr(int64(1000)), MaxUploadIntervalSeconds: ptr(int64(60))},
		bounds{maxBytes, 1000, time.Minute, catchUpSpan})
}

func TestPauseAfter(t *testing.T) {
	for attempt, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		if low, high := pauseAfter(attempt, 0, 0), pauseAfter(attempt, 0, 1); low != want/2 || high != want {
			t.Errorf("pause after try %d is %s to %s, want %s to %s", attempt, low, high, want/2, want)
		}
	}
	if got := pauseAfter(0, 24*time.Hour, 0); got != retryAfterMax {
		t.Errorf("a destination can ask for %s", got)
	}
	if got := pauseAfter(1<<40, 0, 1); got != retryMax {
		t.Errorf("after very many tries the pause is %s", got)
	}
}

func BenchmarkDelivery(b *testing.B) {
	// The path of a record from a fetch into the compressed batch.
	settings, err := newSettings(job(1), Sinks{"bucket": newWorld(b).sinks()["bucket"]}, Config{DefaultInterval: time.Minute, Parallel: 1})
	if err != nil {
		b.Fatal(err)
	}
	settings.bounds = bounds{maxBytes, 1 << 30, time.Hour, time.Hour}
	m, err := newMetrics()
	if err != nil {
		b.Fatal(err)
	}
	budget := &budget{limit: 1 << 30}
	d := &delivery{settings: settings, partition: &reader{memory: newMemory()}, metrics: m.of(1), window: newWindow(settings),
		facts: newFacts("", Traits{}), holding: budget.open()}
	now := time.Now()
	value := event("ok", 12)
	var memory arena
	b.SetBytes(int64(len(value)))
	b.ReportAllocs()
	for i := range b.N {
		if i%100_000 == 99_999 {
			d.window = newWindow(settings)
		}
		memory.splitAll([]stream.Record{{Offset: int64(i), Time: now, Account: account, Value: value}})
		if taken, err := d.take(now, &memory.entries[0]); !taken || err != nil {
			b.Fatal(taken, err)
		}
	}
}

// Both forms of the header count everywhere. Stores and ClickHouse were asked again too
// early when they named a date.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 10, 9, 12, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-3": 0, "soon": 0, "9223372036854775807": 1 << 30 * time.Second, "99999999999999999999": 1 << 30 * time.Second,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {value}}, now); got != want {
			t.Errorf("%q is %s, want %s", value, got, want)
		}
	}
}
