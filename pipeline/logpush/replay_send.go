package logpush

import (
	"context"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// take adds a record to the window, if the job wants it. A zero time says that it is
// not the replay's; otherwise it is split in p.entry.
func (p *replaying) take(ctx context.Context, r *stream.Record, at time.Time) error {
	if p.rebuild != nil && r.Offset >= p.rebuild.End {
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	if at.IsZero() {
		p.pass(r.Offset + 1)
		return nil
	}
	e := &p.entry
	e.Record, e.truncated = r, !e.malformed && e.event.Truncate()
	var c counts // pending with the window that the record is in
	var sent bool
	if p.text, sent = p.textOf(&c, p.text, p.at.ID, e); !sent {
		p.pending.add(c)
		if c.long > 0 {
			p.lose(droppedLong, r.Offset, r.Offset+1, lossLong)
		}
		p.pass(r.Offset + 1)
		return nil
	}
	text := p.text // which flush may let go of
	g, item := p.facts.of(&e.event, r.Time)
	if !p.fits(g, at) {
		p.rebuild = nil // of other records than the plan's, or there would be room
		if err := p.flush(ctx); err != nil {
			return err
		}
	}
	now := time.Now()
	if err := p.window.Add(now, g, text, r.Offset, at, item); err != nil {
		return err
	}
	p.pending.add(c)
	if at.After(p.pending.newest) {
		p.pending.newest = at
	}
	p.position = r.Offset + 1
	p.holding.set(p.window.held)
	if p.rebuild == nil && (p.window.Full(now) || p.holding.over()) {
		return p.flush(ctx)
	}
	return nil
}

// pass goes on behind what is not sent.
func (p *replaying) pass(next int64) {
	p.position = next
	if !p.window.Empty() {
		p.window.end = next
	}
}

func (p *replaying) fits(g part, at time.Time) bool {
	if p.rebuild != nil {
		return p.window.HasRoom(g, len(p.text))
	}
	return p.window.Fits(g, len(p.text), at)
}

// tick is called between reads: it sends a window that is due, and saves the position
// now and then.
func (p *replaying) tick(ctx context.Context) error {
	now := time.Now()
	switch {
	case p.stopping.Err() != nil:
		return errStopping
	case p.rebuild != nil:
		if p.position >= p.rebuild.End {
			return p.flush(ctx)
		}
	case p.window.Full(now):
		return p.flush(ctx)
	case p.window.Empty() && now.Sub(p.savedAt) >= replaySave:
		return p.saveAt(ctx, p.position)
	}
	return nil
}

// flush sends the window and saves the position behind it. Its plan is saved first,
// unless it is the one that the window was rebuilt from.
func (p *replaying) flush(ctx context.Context) error {
	window, planned := p.window, p.rebuild
	if planned == nil {
		if window.Empty() {
			return nil
		}
		next := window.Plan()
		planned = &next
		p.mu.Lock()
		p.at.Plan = &logjob.ReplayPlan{Revision: p.job.Revision, Begin: next.Begin, End: next.End, From: next.From, Until: next.Until, ID: next.ID}
		p.mu.Unlock()
		if err := p.save(ctx); err != nil {
			return err
		}
	}
	objects, err := window.Seal(p.at.ID, planned) // none, where nothing is left to rebuild
	if err != nil {
		return err
	}
	p.holding.set(window.held)
	for _, s := range objects {
		records, bytes, err := p.uploader.settle(ctx, s)
		if err != nil {
			return err
		}
		p.pending.sent += records
		p.pending.bytes += bytes
	}
	p.window, p.rebuild = newWindow(p.settings), nil
	if cap(p.text) > textKept {
		p.text = nil
	}
	p.holding.set(0)
	return p.saveAt(ctx, planned.End)
}

// saveAt saves that everything before an offset is dealt with.
func (p *replaying) saveAt(ctx context.Context, next int64) error {
	t := p.pending
	p.pending = looked{}
	p.mu.Lock()
	p.at.Next, p.at.Plan = max(p.at.Next, next), nil
	p.row.RecordsRead += t.in
	p.row.RecordsSent += t.sent
	p.row.BytesSent += t.bytes
	p.row.RecordsUnmarked += t.unmarked
	for _, loss := range t.losses {
		p.row.Lose(loss.ReplayLoss)
	}
	if !t.newest.IsZero() && (p.row.Position == nil || t.newest.After(*p.row.Position)) {
		p.row.Position = &t.newest
	}
	p.mu.Unlock()
	p.count(ctx, t)
	return p.save(ctx)
}

func (p *replaying) count(ctx context.Context, t looked) {
	p.metrics.count(ctx, &t.counts)
	p.metrics.drop(ctx, droppedUnmarked, t.unmarked)
	for _, loss := range t.losses {
		p.metrics.drop(ctx, loss.reason, loss.Missing)
	}
}

// save writes the row as it is. It goes on trying while the database is away, until
// the replay is no longer ours.
func (p *replaying) save(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		p.mu.Lock()
		p.row.Error = p.troubleLocked()
		trying, cancel := context.WithTimeout(ctx, p.config.Lease/5)
		err := p.config.Replays.SaveReplay(trying, p.row)
		cancel()
		if err == nil {
			p.shown = p.row.Error
		}
		p.mu.Unlock()
		switch kind := errs.KindOf(err); {
		case err == nil:
			p.savedAt = time.Now()
			return nil
		case kind == errs.Conflict, kind == errs.NotFound:
			return errReplayGone
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if p.logged.allow(time.Now()) {
			p.log.WarnContext(ctx, "the position of a replay could not be saved, trying again", "error", err)
		}
		if err := stream.Sleep(ctx, stream.Backoff(attempt)); err != nil {
			return err
		}
	}
}

// showTrouble writes what the replay waits for, when that is new.
func (p *replaying) showTrouble(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := p.troubleLocked()
	if p.shown == text || p.row.State != logjob.ReplayRunning {
		return nil
	}
	p.row.Error = text
	err := p.config.Replays.SaveReplay(ctx, p.row)
	if err == nil {
		p.shown = text
	}
	return err
}

func (p *replaying) troubleLocked() string {
	if p.health != nil {
		if text := p.health.failure(); text != "" {
			return text
		}
	}
	return p.waiting
}

// failure is why an upload fails now; empty when none does.
func (h *health) failure() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, d := range h.failing {
		return d.Message
	}
	return ""
}
