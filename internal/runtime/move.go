package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
)

// errBusy is that an object may finish first what it has in hand.
var errBusy = errors.New("it is busy")

// revokePoll is how often a process that has calls in hand is asked again.
const revokePoll = 5 * time.Millisecond

// patience returns how long the calls that an object has in hand are waited for, and
// whether it moves even if they have not ended then.
func (n *namespace) patience() (grace time.Duration, last bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	left := time.Until(n.since.Add(n.delay))
	switch {
	case n.delay == 0:
		return 0, true
	case left <= 0:
		return n.set.cfg.StopGrace, true
	}
	return min(left, busyPatience), false
}

// move brings an object to a version that runs. errBusy leaves it where it is, and so
// does any other error. The caller has its turn.
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
	grace, last := n.patience()
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
		if err = n.vacate(ctx, o, from, deadline, last); err == nil {
			err = n.files.move(o.objectName, o.home, target)
		}
	}
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.home, o.placed = target, nil
	return nil
}

// revoke takes the permits back and waits for the calls that were made with them.
func (n *namespace) revoke(ctx context.Context, o *object, deadline time.Time, last bool) error {
	n.mu.Lock()
	holders, serial := slices.Collect(maps.Keys(o.permits)), n.serial
	n.mu.Unlock()
	for _, in := range holders {
		for {
			calls, err := in.revoke(ctx, serial, []string{n.id + o.id})
			if in.proc.isDone() {
				break
			}
			if calls == 0 && err == nil {
				break
			}
			if time.Now().After(deadline) || ctx.Err() != nil {
				if last {
					break // what it still calls there finds nothing
				}
				return errors.Join(errBusy, err)
			}
			if err := pause(ctx, revokePoll); err != nil {
				return err
			}
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(o.permits)
	return nil
}

// revokeAll is for permits that lead nowhere: the calls fail by themselves.
func (n *namespace) revokeAll(ctx context.Context, o *object) {
	if err := n.revoke(ctx, o, time.Now(), true); err != nil {
		n.set.log.Warn("permits to call a Durable Object were not taken back", "namespace_id", n.id, "object_id", o.id, "error", err)
	}
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

// vacate takes the object out of the process that has it: nothing of it is in memory
// then, its file is closed, and its alarm is noted. What the alarm is can be told only
// once no code of the user's runs: until then it may be set anew at any time.
func (n *namespace) vacate(ctx context.Context, o *object, from *instance, deadline time.Time, last bool) (err error) {
	what := order{ID: o.id}
	what.Entrypoint, _ = from.class(n.id)
	ctx, cancel := context.WithTimeout(ctx, time.Until(deadline)+vacateTimeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(err, from.stay(ctx, what))
		}
	}()
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
		if err := from.order(ctx, "/objects/leave", what, nil); err != nil {
			return err
		}
		if _, err := n.closed(ctx, o, what, from); err != nil {
			return err
		}
	}
	return from.order(ctx, "/objects/moved", what, nil)
}

// reset ends the object's life in the process, when no handler of it is running. From
// then on it is not opened with the user's code.
func (in *instance) reset(ctx context.Context, what order, deadline time.Time, last bool) error {
	for {
		what.Force = last && time.Now().After(deadline)
		var found struct{ Handlers int }
		if err := in.order(ctx, "/objects/reset", what, &found); err != nil || found.Handlers == 0 {
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

// stay has the process open the object as before. That does not depend on what became
// of the move: the object answers nobody until then.
func (in *instance) stay(ctx context.Context, what order) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), vacateTimeout)
	defer cancel()
	return in.order(ctx, "/objects/stay", what, nil)
}

// closed waits until the object's file is closed, and returns its alarm. That may have
// opened the file again, when it was due.
func (n *namespace) closed(ctx context.Context, o *object, what order, from *instance) (alarm int64, err error) {
	what.Force = true
	for {
		if alarm, err = settle(ctx, n.files.file(o.home, o.objectName)); !errors.Is(err, errOpen) {
			return alarm, err
		}
		if err := pause(ctx, revokePoll); err != nil {
			return 0, err
		}
		if err := from.order(ctx, "/objects/reset", what, nil); err != nil {
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
	alarm, err := settle(ctx, path)
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
	return n.files.move(o.objectName, o.home, target)
}

// tidyAfter tidies once more when a process of a version that implements the class
// has ended.
func (n *namespace) tidyAfter(version string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, ok := n.classes[version]; ok && len(n.splits) > 0 {
		n.tidyLocked()
	}
}

// tidyLocked has every object brought to its target, also those that nobody calls:
// they may have alarms, and the version before is to end some time.
func (n *namespace) tidyLocked() {
	n.untidy = true
	if n.files == nil {
		return
	}
	for version := range n.classes {
		n.left[version] = true // until it was looked
	}
	if !n.tidying && n.set.goUnlessClosed(n.tidy) {
		n.tidying = true
	}
}

func (n *namespace) tidy() {
	for n.takeUntidy() {
		for n.tidyOnce() > 0 {
			if pause(n.set.running, busyPause/4) != nil {
				break
			}
		}
	}
}

func (n *namespace) takeUntidy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tidying = n.untidy && n.set.running.Err() == nil
	n.untidy = false
	return n.tidying
}

// tidyOnce tries to move what is not where it belongs, and pays what is owed. It
// returns how many objects it could not bring to their target.
func (n *namespace) tidyOnce() int {
	versions, err := n.files.versions()
	if err != nil {
		n.set.log.Error("the storage of Durable Objects cannot be read", "error", err)
		return 1
	}
	missed := n.payAll()
	for _, version := range versions {
		here, wrong := 0, 0
		err := n.files.each(version, n.id, func(id string) bool {
			here++
			if !n.bring(version, id) {
				wrong++
			}
			return n.set.running.Err() == nil
		})
		if err != nil {
			n.set.log.Error("the storage of Durable Objects cannot be read", "version_id", version, "error", err)
			wrong++
		}
		missed += wrong
		if here == 0 && err == nil {
			n.dropFolder(version)
		}
		if wrong == 0 {
			n.nothingLeft(version)
		}
	}
	n.mu.Lock()
	empty := slices.DeleteFunc(slices.Collect(maps.Keys(n.left)), func(version string) bool { return slices.Contains(versions, version) })
	n.mu.Unlock()
	for _, version := range empty {
		n.nothingLeft(version)
	}
	return missed
}

// nothingLeft notes that no object has to leave the version, whose process may wait for
// that.
func (n *namespace) nothingLeft(version string) {
	n.mu.Lock()
	if !n.untidy { // else the deployment has changed since
		delete(n.left, version)
	}
	n.mu.Unlock()
	if v := n.set.version(version); v != nil {
		v.poke()
	}
}

// dropFolder removes what is left of a version without objects, if it is over.
func (n *namespace) dropFolder(version string) {
	idle := n.process(version) == nil
	n.mu.Lock()
	over := idle && !slices.ContainsFunc(n.splits, func(s deploy.Split) bool { return s.VersionID == version })
	n.mu.Unlock()
	if !over {
		return
	}
	lock, err := n.files.tryLock(filepath.Join(version, n.id))
	if lock != nil { // else a process is starting or ending
		err = errors.Join(n.files.dropFolder(version, n.id), lock.Close())
	}
	if err != nil {
		n.set.log.Warn("an empty folder of Durable Objects could not be removed", "version_id", version, "error", err)
	}
}

// bring settles an object that version has. It reports whether that is its target now.
func (n *namespace) bring(version, id string) bool {
	n.mu.Lock()
	target := n.targetLocked(id)
	n.mu.Unlock()
	if target == version || target == "" {
		return true
	}
	ctx, cancel := context.WithTimeout(n.set.running, n.set.cfg.StartWait+vacateTimeout)
	defer cancel()
	o, err := n.take(ctx, objectName{n.id, id})
	if err != nil {
		return false
	}
	defer n.giveBack(o)
	if _, err := n.settle(ctx, o); err != nil {
		return false
	}
	return o.home == target
}

// payAll settles the objects whose alarms are owed. It returns how many still are.
func (n *namespace) payAll() int {
	owed, err := n.files.owed(n.id)
	if err != nil {
		n.set.log.Error("the alarms of Durable Objects that have moved cannot be read", "error", err)
		return 1
	}
	failed := 0
	for id := range owed {
		ctx, cancel := context.WithTimeout(n.set.running, n.set.cfg.StartWait+vacateTimeout)
		o, err := n.take(ctx, objectName{n.id, id})
		if err == nil {
			if _, err = n.settle(ctx, o); err != nil {
				failed++
			}
			n.giveBack(o)
		}
		cancel()
	}
	return failed
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
