package runtime

import (
	"time"

	"tidegate/internal/deploy"
)

// A version with Durable Objects does not stay warm: the one that is deployed waits
// for its end. It takes requests for a moment longer (handOverPause), finishes what
// it has in hand, and ends. If another waits for its turn it makes room even if it is
// wanted, and queues again: of versions that follow each other quickly each has
// requests that were sent to it while it was deployed, and all are to be served.

// mayStartLocked reports whether a request may start it. Nothing but a deployment
// starts a version with Durable Objects.
func (v *version) mayStartLocked() bool { return v.turns == nil || v.wanted }

// awaitTurn returns when no other version has the storage of the script's Durable
// Objects. It reports false, and the goroutine's work is over, if it is not wanted
// any more; but not before those who wait for it were served: they were sent here
// while it was deployed.
func (v *version) awaitTurn() (*turn, bool) {
	if v.turns == nil {
		return nil, true
	}
	mine := v.turns.ask(v.poke, v.set.sweep)
	leave := newLeave(v, false)
	defer leave.stop()
	for {
		select {
		case <-mine.come:
			return mine, true
		case <-v.poked:
			leave.look()
		case <-leave.due():
			if v.giveUp() {
				mine.end()
				return nil, false
			}
			leave.again()
		case <-v.set.running.Done():
			mine.end()
			v.mu.Lock()
			v.idleLocked()
			v.mu.Unlock()
			return nil, false
		}
	}
}

// giveUp ends a wait that nobody else waits for.
func (v *version) giveUp() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wanted || v.awaited.Load() > 0 {
		return false
	}
	v.idleLocked()
	return true
}

// leave takes the process from the requests, unless it may stay by now, and returns
// the grace for those in hand, and whether another process is wanted later.
func (v *version) leave() (grace time.Duration, left, again bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.wanted && !v.turns.contended() {
		return 0, false, false
	}
	v.current.Store(nil)
	if v.wanted {
		v.handOver = true
		v.setStateLocked(deploy.BackendState{Phase: deploy.BackendStarting})
		return v.set.cfg.StopGrace, true, true
	}
	v.idleLocked()
	return v.leaving.grace, true, false
}

// leave is the timer of a version that is to make room; it stands still while the
// version may stay, and for one without Durable Objects. Only the version's goroutine
// uses it.
type leave struct {
	v       *version
	serving bool        // it has the turn that others may wait for
	timer   *time.Timer // nil while it stands still
}

func newLeave(v *version, serving bool) *leave {
	l := &leave{v: v, serving: serving}
	l.look()
	return l
}

// look starts or stops the timer by what the version is now.
func (l *leave) look() {
	if l.v.turns == nil {
		return
	}
	l.v.mu.Lock()
	wanted, after := l.v.wanted, l.v.leaving.after
	l.v.mu.Unlock()
	if l.serving && l.v.turns.contended() {
		wanted, after = false, handOverPause
	}
	switch {
	case wanted:
		l.stop()
	case l.timer == nil:
		l.timer = time.NewTimer(after)
	}
}

// again starts the timer anew after it was due.
func (l *leave) again() {
	l.stop()
	l.look()
}

func (l *leave) due() <-chan time.Time {
	if l.timer == nil {
		return nil
	}
	return l.timer.C
}

func (l *leave) stop() {
	if l.timer != nil {
		l.timer.Stop()
		l.timer = nil
	}
}

// scriptObjects is what an update knows of a script with versions that have Durable
// Objects. Its methods take nil, for a script without.
type scriptObjects struct {
	turns *turns
	leaving
}

func (o *scriptObjects) turnsFor(w *deploy.SnapshotWorker) *turns {
	if o == nil || len(w.Objects) == 0 {
		return nil
	}
	return o.turns
}

// leavingOf is how v leaves; one without Durable Objects does not ask.
func (o *scriptObjects) leavingOf(v *version) leaving {
	if o == nil || v.turns == nil {
		return leaving{}
	}
	return o.leaving
}

// script names the script of a version.
func (v *version) script() deploy.Caller {
	return deploy.Caller{AccountID: v.AccountID, Script: v.Script}
}

// scriptObjectsLocked finds the scripts with Durable Objects, in the snapshot or
// still running.
func (w *workers) scriptObjectsLocked(s *deploy.Snapshot) map[deploy.Caller]*scriptObjects {
	found := map[deploy.Caller]*scriptObjects{}
	for _, v := range w.versions {
		if v.turns != nil {
			found[v.script()] = &scriptObjects{v.turns, w.leavingFor(nil)}
		}
	}
	for i := range s.Scripts {
		sc := &s.Scripts[i]
		key := deploy.Caller{AccountID: sc.AccountID, Script: sc.Name}
		own := found[key]
		for _, sv := range sc.Versions {
			if own == nil && sv.Worker != nil && len(sv.Worker.Objects) > 0 {
				own = &scriptObjects{turns: new(turns)}
				found[key] = own
			}
		}
		if own != nil {
			own.leaving = w.leavingFor(sc)
		}
	}
	return found
}

// leavingFor says how versions with Durable Objects leave, by what comes after them.
func (w *workers) leavingFor(sc *deploy.SnapshotScript) leaving {
	l := leaving{after: handOverPause, grace: w.cfg.StopGrace}
	if sc == nil || len(sc.Splits) == 0 {
		return l // nothing does
	}
	if sc.ObjectsDelayMS == 0 {
		l.grace = 0
	}
	for _, v := range sc.Versions {
		if v.ID == sc.Splits[0].VersionID && (v.Worker == nil || len(v.Worker.Objects) == 0) {
			// It needs no storage, and the gateway keeps to the one before until it serves
			// or has failed.
			l.after += w.cfg.StartTimeout
		}
	}
	return l
}
