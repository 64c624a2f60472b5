package runtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"tidegate/schema"
)

// revokeAnswer is how long a process may take to answer at the end of the time that
// its calls are waited for.
const revokeAnswer = 100 * time.Millisecond

// revocation is what one process is to give up: its permits for objects of a
// namespace, up to a serial.
type revocation struct {
	holder  *instance
	serial  uint64
	objects []string
}

// recall has processes give permits up and waits until the calls that were made with
// them have ended, or the deadline. It returns how many had not by then, and the errors
// of processes that did not answer.
func recall(ctx context.Context, list []revocation, deadline time.Time) (calls int, err error) {
	for {
		if calls, err = recallOnce(ctx, list, deadline); calls == 0 && err == nil {
			return 0, nil
		}
		if !time.Now().Before(deadline) {
			return calls, err
		}
		if err := pause(ctx, revokePoll); err != nil {
			return calls, err
		}
	}
}

// recallOnce asks all of them at once: one may not answer before it is killed.
func recallOnce(ctx context.Context, list []revocation, deadline time.Time) (calls int, err error) {
	if now := time.Now(); deadline.Before(now) {
		deadline = now
	}
	ctx, cancel := context.WithDeadline(ctx, deadline.Add(revokeAnswer))
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, r := range list {
		all.Go(func() {
			n, e := r.holder.revoke(ctx, r.serial, r.objects)
			if e != nil && r.holder.over(e) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			calls, err = calls+n, errors.Join(err, e)
		})
	}
	all.Wait()
	return calls, err
}

// over reports whether a process did not answer because it has ended, or is about to.
func (in *instance) over(err error) bool {
	if in.proc.isDone() {
		return true
	}
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == schema.ErrorKindConnect
}

// revoke takes the permits for an object back and waits for the calls that were made
// with them. After the deadline calls count no more if it is the last one: what they
// still do there finds nothing.
func (n *namespace) revoke(ctx context.Context, o *object, deadline time.Time, last bool) error {
	n.mu.Lock()
	var list []revocation
	for holder := range o.permits {
		list = append(list, revocation{holder, n.serial, []string{n.id + o.id}})
	}
	n.mu.Unlock()
	if calls, err := recall(ctx, list, deadline); !last && (calls > 0 || err != nil) {
		return errors.Join(errBusy, err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(o.permits)
	return nil
}

// recallFrom takes back the permits that lead to a process that is about to stop, and
// waits for the calls that were made with them until the deadline.
func (h *homes) recallFrom(in *instance, deadline time.Time) {
	for _, n := range h.all() {
		if _, ok := in.class(n.id); !ok {
			continue
		}
		list := n.forgetPlace(in)
		if calls, err := recall(context.Background(), list, deadline); calls > 0 || err != nil {
			h.set.log.Warn("a process stops with calls to its Durable Objects in hand", "version_id", in.versionID, "calls", calls, "error", err)
		}
	}
}

// ended forgets a process: what it was permitted, and the objects that it had. Those
// who may still call them there are told, and nobody waits for that.
func (h *homes) ended(in *instance) {
	in.forgotten.Store(true)
	for _, n := range h.all() {
		n.forgetHolder(in)
		h.tell(n.forgetPlace(in))
		n.tidyAfter(in.versionID)
	}
}

// tell has processes give up permits that lead nowhere: calls fail by themselves.
func (h *homes) tell(list []revocation) {
	if len(list) == 0 {
		return
	}
	h.set.goUnlessClosed(func() {
		if _, err := recall(h.set.running, list, time.Now().Add(vacateTimeout)); err != nil && h.set.running.Err() == nil {
			h.set.log.Warn("a process was not told that Durable Objects are gone", "error", err)
		}
	})
}

func (h *homes) all() []*namespace {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Values(h.namespaces))
}

func (n *namespace) forgetHolder(in *instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.objects {
		delete(o.permits, in)
		n.dropLocked(o)
	}
}

// forgetPlace takes the objects from the process that has them, and returns what those
// who may call them there are to be told.
func (n *namespace) forgetPlace(in *instance) []revocation {
	n.mu.Lock()
	defer n.mu.Unlock()
	told := map[*instance][]string{}
	for id, o := range n.objects {
		if o.placed != in {
			continue
		}
		o.placed = nil
		for holder := range o.permits {
			told[holder] = append(told[holder], n.id+id)
		}
		clear(o.permits)
		n.dropLocked(o)
	}
	var list []revocation
	for holder, objects := range told {
		list = append(list, revocation{holder, n.serial, objects})
	}
	return list
}
