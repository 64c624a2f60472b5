package logjob

import (
	"time"

	"tidegate/internal/errs"
)

// States of a replay. Only queued and running ones change any more.
const (
	ReplayQueued   = "queued"
	ReplayRunning  = "running"
	ReplayDone     = "done"
	ReplayFailed   = "failed"
	ReplayCanceled = "canceled"
)

// ReplayRequest says what a replay sends again: the job's events whose time
// (schema.EventTime) is at or after From and before To.
type ReplayRequest struct {
	From time.Time `json:"from"`
	// To nil is up to where the job's live delivery began when it was switched on, to
	// the record: what that sends is not sent twice, and nothing before it is left out.
	To *time.Time `json:"to"`
	// IncludeUnmarked sends also events from ClickHouse of which it was not stored
	// whether their scripts had opted out of Logpush.
	IncludeUnmarked bool `json:"include_unmarked"`
}

// Validate returns an *errs.Error for a request that cannot be honoured, whatever is kept.
func (q *ReplayRequest) Validate(now time.Time) error {
	switch {
	case q.From.IsZero():
		return badValue("/from", "from is missing; it must be a time such as 2026-11-01T00:00:00Z")
	case q.From.After(now):
		return badValue("/from", "from %s is in the future", shownTime(q.From))
	case q.To != nil && !q.To.After(q.From):
		return badValue("/to", "to %s must be after from %s", shownTime(*q.To), shownTime(q.From))
	case q.To != nil && q.To.After(now):
		return badValue("/to", "to %s is in the future: events that are still to come are live delivery's", shownTime(*q.To))
	}
	return nil
}

// ReplayGone is the refusal of a replay up to a time from before which nothing is kept.
// Oldest is the time of the archive's oldest event.
func ReplayGone(to, oldest time.Time) error {
	return badValue("/to", "nothing is kept from before %s: the oldest event in ClickHouse is of %s, and Kafka has none that old", shownTime(to), shownTime(oldest))
}

func shownTime(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Replay is one replay of a job with its progress. Its JSON is the answer of the API.
type Replay struct {
	ID        int64  `json:"id"`
	JobID     int64  `json:"job_id"`
	AccountID string `json:"-"`
	ReplayRequest
	State     string     `json:"state"`
	CreatedOn time.Time  `json:"created_on"`
	StartedOn *time.Time `json:"started_on"`
	EndedOn   *time.Time `json:"ended_on"`
	ReplayProgress

	// Partitions is how far each one is; nil until the replay has looked at them all.
	Partitions []ReplayPartition `json:"-"`
	// Fence grows each time that a process takes the replay: what an earlier one
	// writes is refused.
	Fence int64 `json:"-"`
}

// ReplayProgress counts what was done up to the positions of the partitions.
type ReplayProgress struct {
	RecordsRead int64 `json:"records_read"` // of the job's account and the time
	RecordsSent int64 `json:"records_sent"` // and taken: dead letters are not
	BytesSent   int64 `json:"bytes_sent"`   // uncompressed
	// RecordsUnmarked were left out because nobody knows whether they may be sent.
	RecordsUnmarked int64 `json:"records_unmarked"`
	// RecordsLost is how many offsets neither Kafka nor ClickHouse has that may have
	// been events of the time, of any account.
	RecordsLost int64        `json:"records_lost"`
	Losses      []ReplayLoss `json:"losses"` // the first ReplayLossesMax
	// KeptFrom is set where, when the replay began, nothing older than this time, which is
	// after From and at most To, was left of at least one partition: what it had from
	// before is gone, and nobody knows how much that was.
	KeptFrom *time.Time `json:"kept_from"`
	Position *time.Time `json:"position"` // time of the newest event sent
	// Error is what the replay waits for, or why it failed; empty otherwise.
	Error string `json:"error"`
}

// ReplayLossesMax bounds the list; later losses are only counted.
const ReplayLossesMax = 50

// ReplayLoss is a range of offsets of which some records are gone.
type ReplayLoss struct {
	Partition int    `json:"partition"`
	Begin     int64  `json:"begin"` // offsets [Begin, End)
	End       int64  `json:"end"`
	Missing   int64  `json:"missing"` // of them
	Reason    string `json:"reason"`
}

// Lose notes a loss.
func (p *ReplayProgress) Lose(loss ReplayLoss) {
	p.RecordsLost += loss.Missing
	if len(p.Losses) < ReplayLossesMax {
		p.Losses = append(p.Losses, loss)
	}
}

// ReplayPartition is how far a replay is in one partition: offsets [Begin, Next) of
// [Begin, End) are dealt with.
type ReplayPartition struct {
	ID    int   `json:"id"`
	Begin int64 `json:"begin"`
	Next  int64 `json:"next"`
	End   int64 `json:"end"`
	// Counted is the offset below which losses were looked for; -1 before that.
	Counted int64 `json:"counted"`
	// Plan is the upload that was begun and has to be repeated as it was.
	Plan *ReplayPlan `json:"plan,omitempty"`
}

// ReplayPlan is an upload under way. It is void under other settings than those of
// Revision.
type ReplayPlan struct {
	Revision int64 `json:"revision"`
	Begin    int64 `json:"begin"` // offset of the first record
	End      int64 `json:"end"`   // offset after the last record
	From     int64 `json:"from"`  // Unix second of the earliest record
	Until    int64 `json:"until"` // Unix second after the latest record
	// ID tells the upload from others that begin at the same offset. Empty in plans of
	// earlier versions.
	ID string `json:"id,omitempty"`
}

// Offsets returns how many offsets a replay has dealt with, and of how many; both are
// 0 until it has looked at the partitions.
func (r *Replay) Offsets() (done, total int64) {
	for _, p := range r.Partitions {
		done += p.Next - p.Begin
		total += p.End - p.Begin
	}
	return done, total
}

// EstimatedEnd is when a running replay will be done if it goes on as until now, and
// false while that cannot be said.
func (r *Replay) EstimatedEnd(now time.Time) (time.Time, bool) {
	done, total := r.Offsets()
	if r.State != ReplayRunning || r.StartedOn == nil || r.Error != "" || done == 0 || done*100 < total {
		return time.Time{}, false
	}
	took := now.Sub(*r.StartedOn)
	return now.Add(time.Duration(float64(took) / float64(done) * float64(total-done))), true
}

// applyStart is the first step of Update.Apply: it tells a job that is being created
// by its missing dataset.
func (u *Update) applyStart(j *Job) error {
	switch {
	case u.Start == nil:
		return nil
	case j.Dataset != "":
		return badValue("/start", "start is only for a new job; replay the time instead: POST .../logpush/jobs/%d/replays", j.ID)
	case !deref(u.Enabled):
		return badValue("/start", "start needs enabled true: it is where delivery begins")
	case u.Start.IsZero(): // which means everywhere else that nothing was asked for
		return badValue("/start", "start %s is no time that events can have", shownTime(*u.Start))
	}
	j.Start = *u.Start
	return nil
}

// ReplayBusy is the refusal of one more replay of a job.
func ReplayBusy(jobID int64, most int) error {
	return errs.New(errs.Conflict, codeNotAllowed, "job %d has %d replays that are queued or running, and may not have more: cancel one, or wait", jobID, most)
}
