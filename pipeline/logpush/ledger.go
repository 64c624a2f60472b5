package logpush

import (
	"sync"
	"time"

	"github.com/google/uuid"

	"tidegate/internal/logjob"
)

// statusTaken stands for a success in the health data, whatever protocol said so.
const statusTaken = 200

// failuresHeld of one job wait for a report that fails; the oldest go first.
const failuresHeld = 100

// ledger collects what is told of a job at the next report. It is safe for
// concurrent use; nil collects nothing.
type ledger struct {
	kind, destination string // of the destination, without credentials

	mu       sync.Mutex
	minutes  map[minuteKey]logjob.Uploads
	drops    map[dropKey]int64
	failures map[int]*logjob.Failure // that last, by partition
	ended    []logjob.Failure        // that are over and not reported
	// succeededAt is the last success since the last report; failingSince the first
	// failure after it. Both may be zero.
	succeededAt, failingSince time.Time
	stuck                     bool                          // it cannot run at all
	sending                   map[int]map[*sealed]time.Time // oldest record of uploads under way, by partition
	committed                 map[int]int64
}

type minuteKey struct {
	minute time.Time
	status int
	final  bool
}

type dropKey struct {
	minute time.Time
	reason string
}

func newLedger(j logjob.Job) *ledger {
	t := &ledger{minutes: map[minuteKey]logjob.Uploads{}, drops: map[dropKey]int64{}, failures: map[int]*logjob.Failure{},
		sending: map[int]map[*sealed]time.Time{}, committed: map[int]int64{}}
	t.kind, t.destination = logjob.DestinationName(j.DestinationConf)
	return t
}

// tried counts a try of an upload. A final one is not followed by another of the same records.
func (t *ledger) tried(now time.Time, s *sealed, status int, final bool, took time.Duration) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	key := minuteKey{now.UTC().Truncate(time.Minute), status, final}
	sum := t.minutes[key]
	sum.Add(logjob.Uploads{Uploads: 1, Records: int64(s.Records), Bytes: s.size, BytesCompressed: int64(len(s.Body)),
		DurationMS: took.Milliseconds(), DurationMaxMS: took.Milliseconds()})
	t.minutes[key] = sum
	if status == statusTaken {
		t.succeededAt, t.failingSince = now, time.Time{}
	} else if t.failingSince.IsZero() {
		t.failingSince = now
	}
}

// cannotRun notes that nothing is tried for as long as the job runs under these settings.
func (t *ledger) cannotRun(now time.Time) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failingSince, t.stuck = now, true
}

// well notes that a batch is dealt with: the destination took it, or what it refused is kept.
func (t *ledger) well(now time.Time) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.succeededAt, t.failingSince = now, time.Time{}
}

func (t *ledger) dropped(now time.Time, reason string, n int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drops[dropKey{now.UTC().Truncate(time.Minute), reason}] += n
}

// failed notes a failure of a partition, which is the same one while its message is.
func (t *ledger) failed(partition int, at time.Time, message string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.failures[partition]
	if f == nil || f.Message != message {
		t.endLocked(partition)
		f = &logjob.Failure{ID: uuid.NewString(), Partition: partition, FirstOn: at, Message: message}
		t.failures[partition] = f
	}
	f.LastOn = at
	f.Times++
}

// over notes that a failure has ended, or that it was told once.
func (t *ledger) over(partition int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(partition)
}

func (t *ledger) endLocked(partition int) {
	if f := t.failures[partition]; f != nil {
		t.ended = append(t.ended, *f)
		t.ended = t.ended[max(len(t.ended)-failuresHeld, 0):]
		delete(t.failures, partition)
	}
}

// begin notes that a batch is on its way until the returned function is called.
func (t *ledger) begin(partition int, s *sealed) (end func()) {
	if t == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sending[partition] == nil {
		t.sending[partition] = map[*sealed]time.Time{}
	}
	t.sending[partition][s] = s.oldest
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.sending[partition], s)
	}
}

// at notes how far a partition is delivered.
func (t *ledger) at(partition int, offset int64) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed[partition] = offset
}

// gone notes that a partition is another process's business.
func (t *ledger) gone(partition int) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.endLocked(partition)
	delete(t.committed, partition)
	delete(t.sending, partition)
}

// take returns what is to be reported. What it takes away is put back by untake
// when it could not be stored.
func (t *ledger) take(jobID int64, now time.Time) logjob.HealthReport {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := logjob.HealthReport{JobID: jobID, At: now, SucceededAt: t.succeededAt, FailingSince: t.failingSince, Failures: t.ended}
	under := 0
	for _, uploads := range t.sending {
		under += len(uploads)
	}
	if under == 0 && !t.stuck { // nothing is tried: it may fail no longer
		r.FailingSince = time.Time{}
	}
	for key, sum := range t.minutes {
		r.Minutes = append(r.Minutes, logjob.MinuteHealth{Minute: key.minute, Status: key.status, Final: key.final,
			DestinationType: t.kind, Destination: t.destination, Uploads: sum})
	}
	for key, n := range t.drops {
		r.Drops = append(r.Drops, logjob.MinuteDrops{Minute: key.minute, Reason: key.reason, Events: n})
	}
	for _, f := range t.failures {
		r.Failures = append(r.Failures, *f)
	}
	for partition, offset := range t.committed {
		p := logjob.PartitionHealth{Partition: partition, ReportedOn: now, Committed: offset}
		for _, oldest := range t.sending[partition] {
			if p.OldestOn.IsZero() || oldest.Before(p.OldestOn) {
				p.OldestOn = oldest
			}
		}
		if f := t.failures[partition]; f != nil {
			p.Message = f.Message
		}
		r.Partitions = append(r.Partitions, p)
	}
	clear(t.minutes)
	clear(t.drops)
	t.ended, t.succeededAt = nil, time.Time{}
	return r
}

func (t *ledger) untake(r logjob.HealthReport) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range r.Minutes {
		key := minuteKey{m.Minute, m.Status, m.Final}
		sum := t.minutes[key]
		sum.Add(m.Uploads)
		t.minutes[key] = sum
	}
	for _, d := range r.Drops {
		t.drops[dropKey{d.Minute, d.Reason}] += d.Events
	}
	for _, f := range r.Failures {
		if last := t.failures[f.Partition]; last == nil || last.ID != f.ID {
			t.ended = append(t.ended, f)
		}
	}
	t.ended = t.ended[max(len(t.ended)-failuresHeld, 0):]
	if t.succeededAt.IsZero() {
		t.succeededAt = r.SucceededAt
	}
}
