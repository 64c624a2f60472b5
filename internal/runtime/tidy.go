package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"tidegate/internal/deploy"
)

const (
	// tidyPause is how long after a pass the next one tries what is still to be moved,
	// doubled up to tidyPauseMax while something fails.
	tidyPause    = 500 * time.Millisecond
	tidyPauseMax = 30 * time.Second
)

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
		wait := tidyPause
		for {
			missed, err := n.tidyOnce()
			if missed == 0 && err == nil {
				break
			}
			if err != nil && n.set.running.Err() == nil {
				wait = min(2*wait, tidyPauseMax)
				n.set.log.Warn("Durable Objects could not move to their versions yet", "namespace_id", n.id, "objects", missed, "error", err, "next_try_in", wait.String())
			}
			if n.changesWithin(wait) {
				break
			}
		}
	}
}

// changesWithin waits, and reports whether there is another reason to look by then: a
// deployment, which ends the wait, or an end of processes.
func (n *namespace) changesWithin(wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-n.deployed:
	case <-n.set.running.Done():
		return true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.untidy
}

func (n *namespace) takeUntidy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tidying = n.untidy && n.set.running.Err() == nil
	n.untidy = false
	return n.tidying
}

// tidyOnce tries to move what is not where it belongs, and pays what is owed. It
// returns how many objects it could not bring to their target, and why, if not because
// they are busy.
func (n *namespace) tidyOnce() (missed int, err error) {
	versions, err := n.files.versionsWith(n.id)
	if err != nil {
		return 1, err
	}
	pass := &tidying{namespace: n, cannot: n.cannotStart()}
	for _, err := range pass.cannot {
		pass.failed = errors.Join(pass.failed, err)
	}
	n.recallAstray(pass.cannot)
	for _, id := range n.astray() { // somebody calls them, or their files are not there yet
		pass.bring(id, "")
	}
	for _, version := range versions {
		here, before := 0, pass.missed
		err := n.files.each(version, n.id, func(id string) bool {
			here++
			pass.bring(id, version)
			return n.set.running.Err() == nil
		})
		pass.note(err)
		if here == 0 && err == nil {
			n.dropFolder(version)
		}
		if pass.missed == before {
			n.settled(version)
		}
	}
	n.settledBut(versions)
	pass.payAll() // what a move that was cut short has left
	return pass.missed, pass.failed
}

// tidying is one pass over the objects of a namespace.
type tidying struct {
	*namespace
	cannot map[string]error // versions that get objects and do not start
	missed int
	failed error // the first ones of those that are not errBusy
}

// note counts an object, or what else failed.
func (p *tidying) note(err error) {
	if err == nil {
		return
	}
	p.missed++
	if !errors.Is(err, errBusy) && p.failed == nil {
		p.failed = err
	}
}

// bring moves an object that a version has to its target.
func (p *tidying) bring(id, version string) {
	p.mu.Lock()
	target := p.targetLocked(id)
	p.mu.Unlock()
	if target == version || target == "" {
		return
	}
	if p.cannot[target] != nil {
		p.missed++
		return
	}
	p.note(p.do(id, func(ctx context.Context, o *object) (err error) {
		defer func() {
			if err != nil {
				err = fmt.Errorf("object %s, from version %s to %s: %w", id, o.home, target, err)
			}
		}()
		if err := p.find(o); err != nil {
			return err
		}
		if err := p.namespace.bring(ctx, o); err != nil {
			return err
		}
		if in := p.process(o.home); in != nil {
			if err := p.pay(ctx, o, in); err != nil {
				return err
			}
		}
		if o.home != "" && o.home != target {
			return errBusy // it stays for a while
		}
		return nil
	}))
}

// payAll gives the alarms that are owed to the processes that have the objects.
func (p *tidying) payAll() {
	owed, err := p.files.owed(p.id)
	p.note(err)
	for id := range owed {
		p.note(p.do(id, func(ctx context.Context, o *object) error {
			_, err := p.settle(ctx, o)
			return err
		}))
	}
}

// do does something with an object in its turn.
func (p *tidying) do(id string, f func(context.Context, *object) error) error {
	ctx, cancel := context.WithTimeout(p.set.running, p.set.cfg.StartWait+p.set.cfg.StopGrace+vacateTimeout)
	defer cancel()
	o, err := p.take(ctx, objectName{p.id, id})
	if err != nil {
		return err
	}
	defer p.giveBack(o)
	return f(ctx, o)
}

// cannotStart returns the versions that are to have objects and do not run, and why.
func (n *namespace) cannotStart() map[string]error {
	n.mu.Lock()
	splits := n.splits
	n.mu.Unlock()
	failed := map[string]error{}
	for _, split := range splits {
		if split.Percentage == 0 {
			continue
		}
		if _, err := n.start(n.set.running, split.VersionID); err != nil {
			failed[split.VersionID] = err
		}
	}
	return failed
}

// recallAstray takes back the permits for objects that are to move, so that whoever
// calls one next has it moved at once. Calls in hand go on and are counted.
func (n *namespace) recallAstray(cannot map[string]error) {
	n.mu.Lock()
	objects := map[*instance][]string{}
	for id, o := range n.objects {
		target := n.targetLocked(id)
		if target == "" || o.home == "" || o.home == target || cannot[target] != nil || time.Now().Before(o.stays) {
			continue
		}
		for holder := range o.permits {
			objects[holder] = append(objects[holder], n.id+id)
		}
	}
	var list []revocation
	for holder, keys := range objects {
		list = append(list, revocation{holder, n.serial, keys})
	}
	n.mu.Unlock()
	if _, err := recallOnce(n.set.running, list, time.Now()); err != nil {
		n.set.log.Debug("a process was slow to give up permits for Durable Objects", "namespace_id", n.id, "error", err)
	}
}

// astray lists the objects that somebody calls and that are not at their target.
func (n *namespace) astray() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var ids []string
	for id, o := range n.objects {
		if target := n.targetLocked(id); o.home != "" && target != "" && o.home != target {
			ids = append(ids, id)
		}
	}
	return ids
}

// settled says that a version has only objects that belong there.
func (n *namespace) settled(version string) {
	n.mu.Lock()
	if !n.untidy { // else the deployment has changed since
		delete(n.left, version)
	}
	n.mu.Unlock()
	if v := n.set.version(version); v != nil {
		v.poke() // its process may wait for that
	}
}

// settledBut is settled for the versions that have no folder.
func (n *namespace) settledBut(versions []string) {
	n.mu.Lock()
	empty := slices.DeleteFunc(slices.Collect(maps.Keys(n.left)), func(version string) bool { return slices.Contains(versions, version) })
	n.mu.Unlock()
	for _, version := range empty {
		n.settled(version)
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
