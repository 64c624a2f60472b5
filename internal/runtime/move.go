package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// errBusy is that an object may finish first what it has in hand.
var errBusy = errors.New("it is busy")

// revokePoll is how often a process that has calls in hand is asked again.
const revokePoll = 5 * time.Millisecond

// patience returns how long the calls that an object has in hand are waited for, and
// whether it moves even if they have not ended then.
func (n *namespace) patience(o *object) (grace time.Duration, last bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if o.due.IsZero() {
		n.bringForwardLocked(o)
	}
	left := time.Until(o.due)
	switch {
	case n.delay == 0, left <= 0:
		return 0, true
	}
	return min(left, busyPatience), false
}

// move brings an object to a version that runs. errBusy leaves it where it is, and so
// does any other error, unless it says that the file could not be exchanged back: then
// the next process that looks finds it on the disk. The caller has its turn.
func (n *namespace) move(ctx context.Context, o *object, target string) (err error) {
	defer func() {
		result := "moved"
		if err != nil {
			result = "failed"
		}
		if errors.Is(err, errBusy) {
			result = "busy"
		}
		n.set.metrics.moves.Add(context.Background(), 1, metric.WithAttributes(attribute.String("result", result)))
	}()
	if _, err := n.start(ctx, target); err != nil {
		return err
	}
	// A caller that leaves must not leave it half moved.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), n.set.cfg.StopGrace+vacateTimeout)
	defer cancel()
	release, err := n.keep(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	grace, last := n.patience(o)
	deadline := time.Now().Add(grace)
	if err := n.revoke(ctx, o, deadline, last); err != nil {
		return err
	}
	from, lock, err := n.holder(ctx, o.home)
	switch {
	case err != nil:
		return err
	case lock != nil:
		err = errors.Join(n.moveAsleep(ctx, o, target), lock.Close())
	default:
		err = n.moveAwake(ctx, o, target, from, deadline, last)
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.home, o.placed, o.due = target, nil, time.Time{}
	return nil
}

// keep has the namespace's lock until release is called: its storage is not removed
// meanwhile, or a move would bring some of it back.
func (n *namespace) keep(ctx context.Context) (release func() error, err error) {
	lock, err := n.files.share(ctx, n.id)
	if err != nil {
		return nil, err
	}
	return func() error {
		err := n.files.unshare(n.id, lock)
		n.mu.Lock()
		gone := n.owner.AccountID == ""
		n.mu.Unlock()
		if gone {
			n.set.sweep() // which may have found it locked
		}
		return err
	}, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// moveAwake moves an object that a process may have in memory. Until it has moved, or
// stays after all, the process opens it without the user's code.
func (n *namespace) moveAwake(ctx context.Context, o *object, target string, from *instance, deadline time.Time, last bool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)+vacateTimeout)
	defer cancel()
	what := order{ID: o.id}
	what.Entrypoint, _ = from.class(n.id)
	err := n.vacate(ctx, o, what, from, deadline, last)
	if err == nil {
		err = n.handOver(ctx, o, target)
	}
	// Whatever became of it: the object answers nobody until the process is told.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), vacateTimeout)
	defer cancel()
	if err != nil {
		return errors.Join(err, from.control(after, "/objects/stay", what, nil))
	}
	if err := from.control(after, "/objects/moved", what, nil); err != nil {
		n.set.log.Warn("a process was not told that a Durable Object has moved", "version_id", from.versionID, "object_id", o.id, "error", err)
	}
	return nil
}

// vacate takes the object out of the process that has it: nothing of it is in memory
// then, its file is closed, and its alarm is noted. What the alarm is can be told only
// once no code of the user's runs: until then it may be set anew at any time.
func (n *namespace) vacate(ctx context.Context, o *object, what order, from *instance, deadline time.Time, last bool) error {
	if err := from.reset(ctx, what, deadline, last); err != nil {
		return err
	}
	alarm, err := n.closed(ctx, o, what, from)
	if err != nil {
		return err
	}
	if alarm != 0 {
		if err := n.owe(o, alarm); err != nil { // it is paid where the object stays, too
			return err
		}
		if err := from.control(ctx, "/objects/leave", what, nil); err != nil {
			return err
		}
		if _, err := n.closed(ctx, o, what, from); err != nil {
			return err
		}
	}
	return nil
}

// handOver exchanges the file, which nobody has open, and makes sure that nobody had:
// whoever has it open under its old name must not meet the next process in it.
func (n *namespace) handOver(ctx context.Context, o *object, target string) error {
	if err := n.files.move(o.objectName, o.home, target); err != nil {
		return err
	}
	if _, err := closeLog(ctx, n.files.file(target, o.objectName)); err != nil {
		return errors.Join(err, n.files.move(o.objectName, target, o.home))
	}
	return nil
}

// reset ends the object's life in the process, when no handler of it is running. From
// then on it is not opened with the user's code.
func (in *instance) reset(ctx context.Context, what order, deadline time.Time, last bool) error {
	for {
		what.Force = last && time.Now().After(deadline)
		var found struct{ Handlers int }
		if err := in.control(ctx, "/objects/reset", what, &found); err != nil || found.Handlers == 0 {
			return err
		}
		if !last && time.Now().After(deadline) {
			return errBusy
		}
		if err := pause(ctx, revokePoll); err != nil {
			return err
		}
	}
}

// closed waits until the object's file is closed, and returns its alarm. That may have
// opened the file again, when it was due.
func (n *namespace) closed(ctx context.Context, o *object, what order, from *instance) (alarm int64, err error) {
	what.Force = true
	for {
		if alarm, err = closeLog(ctx, n.files.file(o.home, o.objectName)); !errors.Is(err, errOpen) {
			return alarm, err
		}
		if err := pause(ctx, revokePoll); err != nil {
			return 0, err
		}
		if err := from.control(ctx, "/objects/reset", what, nil); err != nil {
			return 0, err
		}
	}
}

// owe notes an alarm, on disk first.
func (n *namespace) owe(o *object, alarm int64) error {
	if err := n.files.owe(o.objectName, alarm); err != nil {
		return fmt.Errorf("note the alarm of a Durable Object that moves: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.owed[o.id] = alarm
	return nil
}

// holder returns the process of a version or, without one, the lock that keeps one
// from starting. It waits for one that is starting or ending.
func (n *namespace) holder(ctx context.Context, version string) (*instance, *os.File, error) {
	for {
		if in := n.process(version); in != nil {
			return in, nil, nil
		}
		if lock, err := n.files.tryLock(filepath.Join(version, n.id)); lock != nil || err != nil {
			return nil, lock, err
		}
		if err := pause(ctx, lockPoll); err != nil {
			return nil, nil, fmt.Errorf("wait for the process of version %s to start or to end: %w", version, err)
		}
	}
}

// moveAsleep moves an object whose version has no process, and cannot start one.
func (n *namespace) moveAsleep(ctx context.Context, o *object, target string) error {
	path := n.files.file(o.home, o.objectName)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil // nobody called it yet, so it is new
	}
	alarm, err := closeLog(ctx, path)
	if err != nil {
		return err
	}
	if alarm != 0 {
		if err := n.owe(o, alarm); err != nil {
			return err
		}
	}
	if err := n.files.unschedule(ctx, o.home, o.objectName); err != nil {
		return err
	}
	return n.handOver(ctx, o, target)
}

// process returns the process that has the objects of a version, nil if there is none.
func (n *namespace) process(version string) *instance {
	v := n.set.version(version)
	if v == nil {
		return nil
	}
	if in := v.current.Load(); in != nil {
		if _, ok := in.class(n.id); ok {
			return in
		}
	}
	return nil
}
