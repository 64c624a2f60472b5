package logpush

import (
	"context"
	"errors"
	"slices"
	"time"
)

// upload is a window on its way to the destination.
type upload struct {
	plan plan // Done when the destination has all of it
	held int64
	err  error         // why it ended undelivered
	over chan struct{} // closed when nothing of it is in use any more
	gone bool          // it ended; err is there
}

// mayUpload reports whether one more upload may begin. A destination that fails
// is tried by those under way, and not by more.
func (d *delivery) mayUpload() bool {
	under := d.underWay()
	switch {
	case under == 0:
		return len(d.uploads) == 0 // or one was given up, because of a stop
	case len(d.uploads) >= plansMax && len(d.rebuild) == 0: // those to rebuild have a place
		return false
	}
	return under < d.parallel && !d.health.isFailing(d.partition.ID())
}

// underWay counts the uploads that have not ended.
func (d *delivery) underWay() (n int) {
	for _, u := range d.uploads {
		if !u.gone {
			n++
		}
	}
	return n
}

// upload sends the window, once its plan is committed, and begins the next one. A plan
// that the window was rebuilt from is committed already.
func (d *delivery) upload(ctx context.Context) error {
	window := d.window
	d.closing = false
	u := &upload{over: make(chan struct{})}
	repeat := len(d.rebuild) > 0
	if repeat {
		u.plan, d.rebuild = d.rebuild[0], d.rebuild[1:]
	} else {
		u.plan = window.Plan()
	}
	objects, err := window.Seal(d.partition.ID(), &u.plan)
	if err != nil {
		return err
	}
	u.held, d.window = window.held, window.next()
	d.uploads = append(d.uploads, u)
	var planned *commit // nil: it is stored
	if !repeat {
		planned = d.commit()
	}
	d.passDone()
	d.holding.set(d.held())
	go func() {
		defer close(u.over)
		u.err = d.deliver(ctx, planned, objects)
		d.ended <- u
	}()
	return nil
}

// deliver returns nil once all objects of a window are dealt with. Nothing is sent
// before its plan is stored.
func (d *delivery) deliver(ctx context.Context, planned *commit, objects []*sealed) error {
	if planned != nil {
		if err := planned.wait(ctx); err != nil {
			return err
		}
	}
	for _, s := range objects { // none, where retention left nothing to rebuild
		if err := d.uploader.deliver(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// landed takes note of an upload's end: it commits behind it, if it was the
// lowest, or else that it is done.
func (d *delivery) landed(u *upload) error {
	u.gone = true
	if errors.Is(u.err, errStopping) {
		return nil // its plan stays; others may still be delivered
	}
	if u.err != nil {
		return u.err
	}
	u.plan.Done, u.held = true, 0
	d.holding.set(d.held())
	for len(d.uploads) > 0 && d.uploads[0].plan.Done {
		d.uploads = d.uploads[1:]
	}
	d.commit()
	return nil
}

// commit has stored where the next window begins, and the plans of those under way,
// and does not wait for it.
func (d *delivery) commit() *commit {
	m := mark{EnabledAt: d.job.EnabledAt.UnixMicro(), Began: d.began}
	if !d.newest.IsZero() {
		m.Newest = d.newest.UnixMilli()
	}
	for _, u := range d.uploads {
		m.Plans = append(m.Plans, u.plan)
	}
	m.Plans = append(m.Plans, d.rebuild...)
	offset := d.position
	switch {
	case len(m.Plans) > 0:
		m.Revision = d.job.Revision
		offset = m.Plans[0].Begin
	case !d.window.Empty():
		offset = d.window.begin
	}
	d.told = slices.DeleteFunc(d.told, func(s span) bool { return s.End <= offset })
	m.Told = d.told
	d.committed, d.idleSince = offset, time.Now()
	return d.commits.begin(offset, m.String())
}
