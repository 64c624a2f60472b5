package logpush

import (
	"time"

	"tidegate/internal/logjob"
)

// bounds close a batch; whichever is reached first.
type bounds struct {
	bytes    int64 // uncompressed
	records  int
	interval time.Duration // since the first record was added, by our clock
	span     time.Duration // between the records' own times
}

// Defaults of a job that does not say, and the most that the service does
// whatever a job says: a bound of 0, which turns it off, still ends here.
const (
	defaultBytes   = 5_000_000
	defaultRecords = 100_000
	lowRecords     = 1_000_000 // frequency "low"
	lowInterval    = 5 * time.Minute

	maxBytes    = 100_000_000 // a batch is held in memory, compressed
	maxRecords  = 1_000_000
	maxInterval = 5 * time.Minute

	// catchUpSpan is the time range of one upload after an outage, as in Logpush.
	catchUpSpan = 2 * time.Minute
)

// boundsOf returns the bounds of a job, under the caps of its destination. Jobs
// that set no interval get defaultInterval.
func boundsOf(j *logjob.Job, caps Traits, defaultInterval time.Duration) bounds {
	b := bounds{bytes: defaultBytes, records: defaultRecords, interval: defaultInterval}
	if j.Frequency == logjob.FrequencyLow {
		b.bytes, b.records, b.interval = maxBytes, lowRecords, lowInterval
	}
	if v := j.MaxUploadBytes; v != nil {
		b.bytes = within(*v, maxBytes)
	}
	if v := j.MaxUploadRecords; v != nil {
		b.records = within(int(*v), maxRecords)
	}
	if v := j.MaxUploadIntervalSeconds; v != nil {
		b.interval = within(time.Duration(*v)*time.Second, maxInterval)
	}
	b.bytes = within(caps.MaxBytes, b.bytes)
	b.records = within(caps.MaxRecords, b.records)
	b.span = max(catchUpSpan, b.interval)
	return b
}

// within is a bound under another one; zero means no bound of its own.
func within[T int | int64 | time.Duration](value, most T) T {
	if value == 0 {
		return most
	}
	return min(value, most)
}
