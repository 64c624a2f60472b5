// Package deletion removes what was recorded of an account, or of one of its scripts,
// up to a time.
//
// A deletion is a row of the control plane's database, which says how far it is. First
// its tombstone is put where ingest reads it, and from then on late events are refused.
// Then every place is gone through: count, note, remove, and count again, until nothing
// is left. Every step may be repeated, so it may be killed at any line; whoever has the
// lease goes on. Rows that were inserted just now wait: one that came between the note and
// the removal would go unnoted. For a day after the end it looks again now and then,
// because an insert that began before the tombstone can be late, and because rates of a
// bucket that has not ended are left until it has.
package deletion

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

const (
	leaseName = "deletions"
	// leaseTTL is how long nobody goes on after a holder was killed.
	leaseTTL = 15 * time.Second
	// stepInterval is how often it is looked whether ClickHouse is done.
	stepInterval = time.Second
	// restInterval is how often it is counted while nothing can be removed.
	restInterval = 5 * time.Second
	callTimeout  = 10 * time.Second
	logInterval  = 30 * time.Second
	// publishInterval is how often it is looked whether ClickHouse has every tombstone.
	publishInterval = time.Minute
	// lettersGrace is how long after its tombstone a deletion counts dead letters as made
	// before: batches may be on their way, and are refused for ten minutes first.
	lettersGrace = 15 * time.Minute
)

// lettersPlace is the name of the dead letters in Deletion.Places.
const lettersPlace = "dead_letters"

// Tables are where events and rates lie. Their methods are safe for concurrent use.
type Tables interface {
	AddTombstone(ctx context.Context, t schema.Tombstone) error
	Tombstones(ctx context.Context) ([]schema.Tombstone, error)
	// DeletionTables are emptied in this order.
	DeletionTables() []string
	// ServerTime is the clock by which rows have their inserted_at.
	ServerTime(ctx context.Context) (time.Time, error)
	// CountDeletion counts the rows to be deleted, and rates that stay though they count
	// some of it.
	CountDeletion(ctx context.Context, table string, t schema.Tombstone, at tables.Look) (tables.Doomed, error)
	// NoteDeleted keeps the offsets of what is ready to be deleted, so that they are not
	// taken for lost.
	NoteDeleted(ctx context.Context, table string, t schema.Tombstone, at tables.Look) error
	// DeleteRows begins to remove what is ready, and does not wait. At the same Look it
	// removes no row that NoteDeleted has not noted.
	DeleteRows(ctx context.Context, table, id string, t schema.Tombstone, at tables.Look) error
	// Removing tells whether that is still going on.
	Removing(ctx context.Context, table, id string) (tables.Mutation, error)
	// HoldsDeleted looks into a range [begin, end) of a partition's offsets.
	HoldsDeleted(ctx context.Context, t schema.Tombstone, partition int, begin, end int64) (bool, error)
}

// Deletions is where the requests are kept. Its methods are safe for concurrent use.
type Deletions interface {
	// OpenDeletions returns those that are not done, or were not at a time, oldest first.
	OpenDeletions(ctx context.Context, doneSince time.Time) ([]schema.Deletion, error)
	// SaveDeletion is a conflict when somebody else saved it meanwhile.
	SaveDeletion(ctx context.Context, d schema.Deletion) (schema.Deletion, error)
	// Tombstones are those of all deletions there ever were.
	Tombstones(ctx context.Context) ([]schema.Tombstone, error)
}

// Letters are what destinations of Logpush jobs refused.
type Letters interface {
	// AccountLetters returns letters that wait, have a record from before a time, and
	// were made before another.
	AccountLetters(ctx context.Context, accountID string, from, created time.Time) ([]logjob.DeadLetter, error)
	// CloseDeadLetter lets go of the content. It is a conflict for one that is closed.
	CloseDeadLetter(ctx context.Context, accountID string, jobID int64, id, state string) (logjob.DeadLetter, error)
}

// Leases let one of several processes act.
type Leases interface {
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Config is what a Worker works on. Zero durations are defaults.
type Config struct {
	Holder    string // names this process in the lease
	Tables    Tables
	Deletions Deletions
	Letters   Letters
	Leases    Leases
	Log       *slog.Logger
	Now       func() time.Time // nil: time.Now
	// Settle is how long after its tombstone a deletion is not done yet, even if nothing
	// is left: ingest may be inserting a block that it built before. 10 s.
	Settle time.Duration
	// Wait is how old a row must be that is removed, and how long ago the bucket of a rate
	// must have ended that may count later events, too. What is inserted now may have been
	// proven 30 s ago and take 60 s (012_inserted_in_time.sql), and a replica may be 20 s
	// behind; the rest is for clocks. 2 min. With less, offsets and counts can be lost.
	Wait time.Duration
	// Guard is how long after the end of a deletion rows that come all the same are
	// removed, and GuardEvery how often they are looked for. 24 h, 5 min.
	Guard, GuardEvery time.Duration
}

// Worker does deletions. Any number of processes may have one.
type Worker struct {
	Config
	published time.Time // when Tables had every tombstone, since the lease is ours; zero: never yet
	// rested is when a deletion, by its id, is looked at again of which nothing could be
	// removed.
	rested map[string]time.Time
}

// New returns a Worker.
func New(c Config) *Worker {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Settle == 0 {
		c.Settle = 10 * time.Second
	}
	if c.Wait == 0 {
		c.Wait = 2 * time.Minute
	}
	if c.Guard == 0 {
		c.Guard = 24 * time.Hour
	}
	if c.GuardEvery == 0 {
		c.GuardEvery = 5 * time.Minute
	}
	return &Worker{Config: c, rested: map[string]time.Time{}}
}

// Run does what is to be done until ctx ends, and returns nil.
func (w *Worker) Run(ctx context.Context) error {
	ticker := time.NewTicker(stepInterval)
	defer ticker.Stop()
	var logged time.Time
	for {
		if err := w.Step(ctx); err != nil && ctx.Err() == nil && w.Now().Sub(logged) >= logInterval {
			logged = w.Now()
			w.Log.ErrorContext(ctx, "a deletion does not go on, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			w.release(ctx)
			return nil
		case <-ticker.C:
		}
	}
}

// release lets the next process begin at once. ctx has ended already.
func (w *Worker) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := w.Leases.ReleaseLease(ctx, leaseName, w.Holder); err != nil {
		w.Log.WarnContext(ctx, "lease not released, it runs out by itself", "lease", leaseName, "ttl", leaseTTL, "error", err)
	}
}

// Step brings every deletion one step further, if this worker has the lease. It returns
// the first error; a deletion that fails does not stop the others.
func (w *Worker) Step(ctx context.Context) error {
	held, err := w.Leases.AcquireLease(ctx, leaseName, w.Holder, leaseTTL)
	if err != nil || !held {
		w.published = time.Time{}
		return err
	}
	ctx, end := w.hold(ctx)
	defer end()
	list, err := w.Deletions.OpenDeletions(ctx, w.Now().Add(-w.Guard))
	if err != nil {
		return err
	}
	// First those that somebody waits for: there may be many that are only guarded.
	done := func(d schema.Deletion) bool { return d.State == schema.DeletionDone }
	waiting := slices.DeleteFunc(slices.Clone(list), done)
	guarded := slices.DeleteFunc(list, func(d schema.Deletion) bool { return !done(d) })
	var first error
	for _, d := range append(waiting, guarded...) {
		if err := w.step(ctx, d); err != nil && first == nil {
			first = fmt.Errorf("deletion %s: %w", d.ID, err)
		}
	}
	if err := w.publish(ctx); err != nil && first == nil {
		first = err
	}
	return first
}

// hold keeps the lease while a step goes on, and ends the context when it is lost, until
// end is called.
func (w *Worker) hold(ctx context.Context) (held context.Context, end func()) {
	held, cancel := context.WithCancel(ctx)
	var beating sync.WaitGroup
	beating.Go(func() {
		ticker := time.NewTicker(leaseTTL / 3)
		defer ticker.Stop()
		for {
			select {
			case <-held.Done():
				return
			case <-ticker.C:
			}
			trying, done := context.WithTimeout(held, leaseTTL/3)
			ours, err := w.Leases.AcquireLease(trying, leaseName, w.Holder, leaseTTL)
			done()
			if err != nil || !ours {
				cancel()
			}
		}
	})
	return held, func() {
		cancel()
		beating.Wait()
	}
}

// publish adds the tombstones that ClickHouse does not have, such as after it was
// restored from a backup.
func (w *Worker) publish(ctx context.Context) error {
	now := w.Now()
	if !w.published.IsZero() && now.Sub(w.published) < publishInterval {
		return nil
	}
	wanted, err := w.Deletions.Tombstones(ctx)
	if err != nil {
		return err
	}
	if len(wanted) > 0 {
		have, err := w.Tables.Tombstones(ctx)
		if err != nil {
			return err
		}
		for _, t := range wanted {
			if slices.ContainsFunc(have, func(h schema.Tombstone) bool { return h == t }) {
				continue
			}
			if err := w.Tables.AddTombstone(ctx, t); err != nil {
				return err
			}
		}
	}
	w.published = now
	return nil
}

// step brings one deletion further, and saves what has changed and what is in its way.
func (w *Worker) step(ctx context.Context, d schema.Deletion) error {
	if d.State == schema.DeletionDone && w.Now().Sub(d.CheckedOn) < w.GuardEvery {
		return nil
	}
	if w.Now().Before(w.rested[d.ID]) {
		return nil
	}
	delete(w.rested, d.ID)
	run := &run{Worker: w, d: d}
	err := run.work(ctx)
	if err == nil && !run.removing && run.d.State == schema.DeletionRunning {
		w.rested[d.ID] = w.Now().Add(restInterval)
	}
	trouble := ""
	switch {
	case ctx.Err() != nil, errs.KindOf(err) == errs.Conflict: // another process is at it
		return ctx.Err()
	case errs.KindOf(err) == errs.Unavailable:
		trouble = "ClickHouse does not answer: trying again"
	case err != nil:
		trouble = "ClickHouse or the database refused: trying again; the log of the API has more"
	case run.failure != "":
		trouble = "ClickHouse fails to remove rows and tries again: " + run.failure
	}
	if run.d.Error != trouble {
		run.d.Error = trouble
		if saved := run.save(ctx); saved != nil && err == nil {
			err = saved
		}
	}
	return err
}

// run is one step of one deletion.
type run struct {
	*Worker
	d        schema.Deletion // as it is saved
	removing bool            // ClickHouse is at it in the background
	failure  string          // of that
}

func (r *run) save(ctx context.Context) (err error) {
	r.d, err = r.Deletions.SaveDeletion(ctx, r.d)
	return err
}

func (r *run) work(ctx context.Context) error {
	now := r.Now()
	if r.d.State == schema.DeletionQueued {
		if err := r.Tables.AddTombstone(ctx, r.d.Tombstone); err != nil {
			return err
		}
		r.d.State, r.d.StartedOn = schema.DeletionRunning, now
		if err := r.save(ctx); err != nil {
			return err
		}
		r.Log.InfoContext(ctx, "a deletion begins", "deletion", r.d.ID, "account", r.d.AccountID, "script", r.d.Script, "before", r.d.Before)
	}
	// The letters first: whether one holds what is deleted, the events tell.
	if err := r.letters(ctx); err != nil {
		return err
	}
	server, err := r.Tables.ServerTime(ctx)
	if err != nil {
		return err
	}
	at := tables.Look{Now: server, Settled: server.Add(-r.Wait)}
	var left, due int64
	for _, table := range r.Tables.DeletionTables() {
		found, err := r.table(ctx, table, at)
		if err != nil {
			return err
		}
		left, due = left+found.Left, due+found.Due
	}
	return r.looked(ctx, now, left, due)
}

// looked notes that every place was looked at, and the end. Rates that are due only now
// do not make a deletion that is done run again.
func (r *run) looked(ctx context.Context, now time.Time, left, due int64) error {
	switch {
	case left > due && r.d.State == schema.DeletionDone:
		r.d.State = schema.DeletionRunning
		r.Log.WarnContext(ctx, "rows came after a deletion was done, and are removed", "deletion", r.d.ID, "rows", left-due)
	case left > 0 || r.removing:
		return nil // saved where it was found
	case r.d.State == schema.DeletionDone:
		r.d.CheckedOn = now
	case now.Sub(r.d.StartedOn) < r.Settle:
		return nil
	default:
		r.d.State, r.d.EndedOn, r.d.CheckedOn, r.d.Error = schema.DeletionDone, now, now, ""
		r.Log.InfoContext(ctx, "a deletion is done", "deletion", r.d.ID, "places", r.d.Places)
	}
	return r.save(ctx)
}

// place returns what is known of a place, by its name.
func (r *run) place(name string) *schema.DeletionPlace {
	i := slices.IndexFunc(r.d.Places, func(p schema.DeletionPlace) bool { return p.Name == name })
	if i < 0 {
		i = len(r.d.Places)
		r.d.Places = append(r.d.Places, schema.DeletionPlace{Name: name})
	}
	return &r.d.Places[i]
}

// found saves how many rows are left in a place, if that is new.
func (r *run) found(ctx context.Context, name string, left, kept, parts int64) error {
	before := slices.Clone(r.d.Places)
	p := r.place(name)
	p.Found(left)
	p.RowsKept, p.PartsLeft = kept, parts
	if slices.Equal(before, r.d.Places) {
		return nil
	}
	return r.save(ctx)
}

// table counts what is left in a table, and has removed what is ready. The count is saved
// before, so that it is known after a crash how many there were. While rows are being
// removed nothing is counted: it would cost much, and change nothing.
func (r *run) table(ctx context.Context, table string, at tables.Look) (found tables.Doomed, err error) {
	m, err := r.Tables.Removing(ctx, table, r.d.ID)
	if err != nil {
		return found, err
	}
	if m.Running {
		r.removing = true
		if m.Failure != "" {
			r.failure = table + ": " + m.Failure
		}
		p := *r.place(table)
		return found, r.found(ctx, table, p.RowsLeft, p.RowsKept, m.PartsLeft)
	}
	if found, err = r.Tables.CountDeletion(ctx, table, r.d.Tombstone, at); err != nil {
		return found, err
	}
	if err := r.found(ctx, table, found.Left, found.Kept, 0); err != nil || found.Ready == 0 {
		return found, err
	}
	if noted(table) {
		if err := r.Tables.NoteDeleted(ctx, table, r.d.Tombstone, at); err != nil {
			return found, err
		}
	}
	r.removing = true
	return found, r.Tables.DeleteRows(ctx, table, r.d.ID, r.d.Tombstone, at)
}

// noted reports whether a table has rows of single offsets.
func noted(table string) bool {
	return table == "trace_events" || table == "trace_events_quarantine"
}

// letters closes the dead letters that hold what is deleted, or may.
func (r *run) letters(ctx context.Context) error {
	all, err := r.Letters.AccountLetters(ctx, r.d.AccountID, r.d.Before, r.d.StartedOn.Add(lettersGrace))
	if err != nil {
		return err
	}
	var doomed []logjob.DeadLetter
	for _, l := range all {
		holds, err := r.holds(ctx, &l)
		if err != nil {
			return err
		}
		if holds {
			doomed = append(doomed, l)
		}
	}
	if err := r.found(ctx, lettersPlace, int64(len(doomed)), 0, 0); err != nil {
		return err
	}
	for _, l := range doomed {
		_, err := r.Letters.CloseDeadLetter(ctx, r.d.AccountID, l.JobID, l.ID, logjob.LetterDeleted)
		if kind := errs.KindOf(err); err != nil && kind != errs.Conflict && kind != errs.NotFound { // somebody was faster
			return err
		}
	}
	if len(doomed) == 0 {
		return nil
	}
	return r.found(ctx, lettersPlace, 0, 0, 0)
}

// holds reports whether a letter may hold an event of the tombstone. What was sent can be
// of any form. Where it does not say whose its records are, the events between its
// offsets do.
func (r *run) holds(ctx context.Context, l *logjob.DeadLetter) (bool, error) {
	if r.d.Script == "" || l.Object.Script == r.d.Script {
		return true, nil
	}
	if l.Object.Script != "" {
		return false, nil
	}
	if len(l.Object.Items) > 0 && !slices.ContainsFunc(l.Object.Items, func(i logjob.LetterItem) bool { return i.Script == "" || i.Script == r.d.Script }) {
		return false, nil
	}
	return r.Tables.HoldsDeleted(ctx, r.d.Tombstone, l.Partition, l.BeginOffset, l.EndOffset)
}
