// Package verify holds what ClickHouse has of a topic against what Kafka has of it, while
// both are in use: each record must have one row, and each rollup must count what the
// rows do.
//
// It looks at the offsets below what ingest had committed when it began: all of those
// are settled, whatever happens meanwhile. Buckets of 65,536 offsets are compared by a
// count and a sum of hashes, which needs no record; only those that differ are read, and
// compared offset by offset. Nothing is changed anywhere.
package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// Log is the topic in Kafka. FetchBatches waits for a broker that is away until ctx ends; the
// others ask once.
type Log interface {
	Partitions(ctx context.Context) ([]int, error)
	Bounds(ctx context.Context, partition int) (first, next int64, err error)
	OffsetAt(ctx context.Context, partition int, t time.Time) (int64, error)
	Commits(ctx context.Context, groupID string) (map[int]stream.Commit, error)
	// FetchBatches returns batches from offset on, and none where there is none yet, if it
	// is not to wait. Offsets below the first that is kept are an *stream.OutOfRangeError.
	FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error)
}

// Tables are ClickHouse's. Rows that were inserted before a time that is not zero are left
// out where one is asked for. See internal/clickhouse for what each question means.
type Tables interface {
	Kept(ctx context.Context) (tables.Kept, error)
	OffsetSums(ctx context.Context, ranges []tables.OffsetRange, inserted time.Time, visit func(tables.OffsetSum)) error
	OffsetRows(ctx context.Context, ranges []tables.OffsetRange, inserted time.Time) ([]tables.OffsetRows, error)
	StrayRows(ctx context.Context, ends []tables.PartitionEnd, inserted time.Time) ([]tables.StrayRows, error)
	RateSums(ctx context.Context, table string, from, to time.Time) (rolled, raw []tables.RateSum, err error)
	RateCells(ctx context.Context, table string, from, to time.Time, ends []int64, limit int) ([]tables.RateCell, error)
	RolledCells(ctx context.Context, table string, from, to time.Time, keys []uint64) (map[uint64]uint64, error)
	// Tombstones are what was deleted by request.
	Tombstones(ctx context.Context) ([]schema.Tombstone, error)
	CountedCells(ctx context.Context, table string, from, to time.Time, keys []uint64, ends []int64) (rows, settled map[uint64]uint64, err error)
}

// Config of a comparison.
type Config struct {
	Topic, Group string // ingest's
	// Since leaves out records before a time, and begins the comparison of rollups there.
	// Zero begins at the oldest record that Kafka holds, and with rollups at the oldest event among those.
	Since time.Time
	// InsertedSince leaves out rows that were inserted before, but not in rollups: those
	// of a topic that was deleted and made anew. Zero leaves out none.
	InsertedSince time.Time
	// Limit is how many faults are listed of each partition and each rollup. 1 or more.
	Limit int
	// Planned reads the metadata of ingest's commits: where the block that is being
	// stored ends.
	Planned func(metadata string) (end int64, ok bool)
}

const (
	// attempts to see a difference: a replica may be behind.
	attempts = 3
	// fetchTimeout for the records of one answer; a broker that is away longer ends it.
	fetchTimeout = 30 * time.Second
	// samples of each partition are compared with their rows beforehand.
	samples = 5
	// runMax is longer than a run takes.
	runMax = time.Hour
	// bucketsMax of each partition that have faults are looked at offset by offset.
	bucketsMax = 16
)

// pause between two attempts. Tests shorten it.
var pause = 2 * time.Second

// Run compares. An error says that it could not be done, because Kafka or ClickHouse is
// away or refuses; what it found until then is of no use.
func Run(ctx context.Context, cfg Config, log Log, db Tables) (Report, error) {
	v := &verifier{cfg: cfg, log: steady{log}, db: db, now: time.Now().UTC(), oldest: tables.NoTime}
	v.report = Report{Topic: cfg.Topic, Group: cfg.Group, StartedAt: v.now.Truncate(time.Millisecond), Partitions: []Partition{}, Rollups: []Rollup{}, Notes: []string{}}
	if !cfg.Since.IsZero() {
		v.report.Since = new(cfg.Since.UTC())
	}
	for _, step := range []func(context.Context) error{v.begin, v.sample, v.offsets, v.strays, v.rollups} {
		if err := step(ctx); err != nil {
			return Report{}, err
		}
	}
	for _, p := range append(v.parts, v.others...) {
		v.report.Partitions = append(v.report.Partitions, p.Partition)
	}
	v.report.sum()
	return v.report, nil
}

// verifier is one run. It belongs to one goroutine.
type verifier struct {
	cfg  Config
	log  Log
	db   Tables
	now  time.Time
	kept tables.Kept
	old  horizon

	report Report
	memory stream.Memory
	parts  []*part // by partition
	others []*part // of which the tables have rows, and which the topic does not have
	// oldest is the least time of an event whose row was looked at, in Unix milliseconds.
	oldest int64
}

// part is what is known of a partition beside the report.
type part struct {
	Partition
	settled int64  // the group's commit; 0 where there is none
	reason  string // why its rows cannot be told; "" if they can
}

func newPart(id int) *part {
	return &part{Partition: Partition{ID: id, Verdict: Exact, Faults: []Fault{}, Notes: []string{}}}
}

// tell adds a note to a partition; it does not change the verdict.
func (p *part) tell(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// doubt makes a partition one of which nobody can tell.
func (p *part) doubt(format string, args ...any) {
	if p.reason == "" {
		p.reason = fmt.Sprintf(format, args...)
		p.tell("%s", p.reason)
		p.Verdict = worse(p.Verdict, Unknown)
	}
}

// begin finds which offsets to look at.
func (v *verifier) begin(ctx context.Context) (err error) {
	if v.kept, err = v.db.Kept(ctx); err != nil {
		return err
	}
	v.old = newHorizon(v.kept, v.now.Add(runMax)) // rows may go while they are looked at
	ids, err := v.log.Partitions(ctx)
	if err != nil {
		return err
	}
	slices.Sort(ids)
	// Before anything else: what is committed is stored.
	commits, err := v.log.Commits(ctx, v.cfg.Group)
	if err != nil {
		return err
	}
	for i, id := range ids {
		if id != i {
			return fmt.Errorf("the topic %s has the partitions %v: number %d is missing", v.cfg.Topic, ids, i)
		}
		p := newPart(id)
		v.parts = append(v.parts, p)
		commit, committed := commits[id]
		if err := v.beginPartition(ctx, p, commit.Offset, committed); err != nil {
			return err
		}
	}
	behind := func(p *part) bool { return p.Behind > 0 }
	if len(commits) == 0 && slices.ContainsFunc(v.parts, behind) {
		v.report.Notes = append(v.report.Notes, fmt.Sprintf("The group %s has committed nothing in the topic %s: no ingest process has stored a block, or Kafka has forgotten the group. Nothing was compared.",
			v.cfg.Group, v.cfg.Topic))
	}
	return nil
}

// beginPartition settles the range of a partition.
func (v *verifier) beginPartition(ctx context.Context, p *part, commit int64, committed bool) error {
	first, next, err := v.log.Bounds(ctx, p.ID)
	if err != nil {
		return err
	}
	p.From, p.To = first, first
	p.Behind = next - first
	if !committed {
		if p.Behind > 0 {
			p.tell("Ingest has committed nothing here yet.")
		}
		return nil
	}
	p.settled, p.Behind = commit, max(0, next-commit)
	switch {
	case commit > next:
		p.doubt("Ingest is at offset %d, and the partition ends at %d: the topic was made anew, or a broker lost the end of the partition.", commit, next)
		return nil
	case commit < first:
		p.doubt("Kafka removed the offsets %d to %d before ingest committed them: their events are lost, unless they were stored just before it stopped. Give the topic a longer retention, or ingest more room.", commit, first-1)
		return nil
	}
	p.To = commit
	// Records before this are older than what the tables keep.
	from, err := v.startOf(ctx, p.ID, v.old.events)
	if err != nil {
		return err
	}
	from = min(max(first, from), commit)
	p.Expired = from - first
	if !v.cfg.Since.IsZero() {
		since, err := v.startOf(ctx, p.ID, v.cfg.Since)
		if err != nil {
			return err
		}
		if since = min(max(first, since), commit); since >= from {
			p.Expired, from = 0, since
		} else {
			p.Expired = from - since
		}
	}
	p.From = from
	return nil
}

// startOf returns the first offset that may have a record of a time or later.
func (v *verifier) startOf(ctx context.Context, partition int, t time.Time) (int64, error) {
	if t.UnixMilli() <= 0 {
		return 0, nil
	}
	return v.log.OffsetAt(ctx, partition, t)
}

// sample compares some records of each partition with their rows. A topic that was made
// anew uses its offsets again, and rows of the old one are neither repeats nor in the
// place of others.
func (v *verifier) sample(ctx context.Context) error {
	known := map[bucketKey]record{} // by partition and offset
	var ranges []tables.OffsetRange
	for _, p := range v.parts {
		for i := range int64(samples) {
			if p.From >= p.To {
				break
			}
			place := p.From + (p.To-1-p.From)*i/(samples-1)
			list, err := v.records(ctx, p.ID, place)
			if err != nil && !isGone(err) {
				return err
			}
			if len(list) == 0 || list[0].offset >= p.To {
				continue
			}
			key := bucketKey{p.ID, max(place, list[0].offset)}
			if _, twice := known[key]; !twice {
				known[key] = list[0]
				ranges = append(ranges, tables.OffsetRange{Partition: key.partition, Begin: key.bucket, End: key.bucket + 1})
			}
		}
	}
	rows, err := v.db.OffsetRows(ctx, ranges, v.cfg.InsertedSince)
	if err != nil {
		return err
	}
	for i := range rows {
		r := known[bucketKey{rows[i].Partition, rows[i].Offset}]
		if !r.of(&rows[i]) {
			v.parts[rows[i].Partition].remade(rows[i].Offset, r.String(), describe(&rows[i]))
		}
	}
	return nil
}

// remade says that offsets were used twice.
func (p *part) remade(offset int64, kafka, table string) {
	p.doubt("The topic was made anew, or a broker lost the end of the partition and its offsets were used again: at offset %d Kafka has %s, and the tables %s. "+
		"Rows of the two cannot be told apart by their offsets. If you know when that was, --inserted-since leaves the older rows out.", offset, kafka, table)
}

func isGone(err error) bool {
	_, gone := errors.AsType[*stream.OutOfRangeError](err)
	return gone
}

// describe is how a sentence speaks of the rows of an offset.
func describe(rows *tables.OffsetRows) string {
	switch {
	case !rows.Alike || rows.Events > 0 && rows.Quarantined > 0:
		return fmt.Sprintf("%d rows that are not alike", rows.Events+rows.Quarantined)
	case rows.Events > 0:
		return fmt.Sprintf("the event %q of %s", rows.RayID, time.UnixMilli(rows.TimeMS).UTC().Format(time.RFC3339Nano))
	default:
		return fmt.Sprintf("a record in quarantine of %s with %d bytes", time.UnixMilli(rows.QuarantineTimeMS).UTC().Format(time.RFC3339Nano), rows.QuarantineBytes)
	}
}
