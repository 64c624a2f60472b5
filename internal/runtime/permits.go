package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// permit lets a process call an object, and says where.
func (h *homes) permit(ctx context.Context, from *instance, name objectName) (place, error) {
	n, err := h.reachable(from, name)
	if err != nil {
		return place{}, err
	}
	o, err := n.take(ctx, name)
	if err != nil {
		return place{}, err
	}
	defer n.giveBack(o)
	for {
		since := n.deployedSince()
		in, err := n.settle(ctx, o)
		if err != nil {
			return place{}, err
		}
		if p, ok := n.give(from, o, in, since); ok {
			if n.process(o.home) == in { // else it stops, and may have looked before
				return p, nil
			}
			h.release(from, name, p.Serial)
		}
		if err := ctx.Err(); err != nil {
			return place{}, err
		}
		if from.forgotten.Load() {
			return place{}, errors.New("the process that asks has ended")
		}
	}
}

// deployedSince is when the deployment last gave objects other targets.
func (n *namespace) deployedSince() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.since
}

// give writes down that from may call the object in a process. It reports false if
// either has ended meanwhile, or the deployment is not that of since any more.
func (n *namespace) give(from *instance, o *object, in *instance, since time.Time) (place, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if from.forgotten.Load() || in.forgotten.Load() || o.placed != in || n.since != since {
		return place{}, false
	}
	n.serial++
	o.permits[from] = n.serial
	p := place{Serial: n.serial}
	p.Entrypoint, _ = in.class(n.id)
	if in != from {
		p.Address = in.debugAddress
	}
	return p, true
}

// reachable finds the namespace of an object. Only processes of its account may call it.
func (h *homes) reachable(from *instance, name objectName) (*namespace, error) {
	h.mu.Lock()
	n := h.namespaces[name.namespace]
	h.mu.Unlock()
	if n == nil || !objectPattern.MatchString(name.id) {
		return nil, errors.New("the namespace of the Durable Object does not exist any more")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case h.files == nil:
		return nil, errors.New(errNoObjects)
	case n.owner.AccountID == "":
		return nil, errors.New("the script of the Durable Object does not exist any more")
	case n.owner.AccountID != from.caller.AccountID:
		return nil, errors.New("the Durable Object belongs to another account")
	}
	return n, nil
}

// take waits for the turn to move an object, or to say where it is.
func (n *namespace) take(ctx context.Context, name objectName) (*object, error) {
	n.mu.Lock()
	o := n.objects[name.id]
	if o == nil {
		o = &object{objectName: name, turn: make(chan struct{}, 1), permits: map[*instance]uint64{}}
		n.objects[name.id] = o
	}
	o.users++
	n.mu.Unlock()
	select {
	case o.turn <- struct{}{}:
		return o, nil
	case <-ctx.Done():
		n.drop(o)
		return nil, ctx.Err()
	}
}

func (n *namespace) giveBack(o *object) {
	<-o.turn
	n.drop(o)
}

// drop forgets an object that nobody calls: where it is can be read from the disk.
func (n *namespace) drop(o *object) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o.users--
	n.dropLocked(o)
}

func (n *namespace) dropLocked(o *object) {
	if o.users == 0 && len(o.permits) == 0 {
		delete(n.objects, o.id)
	}
}

// settle moves the object to its target, if it may, and returns the process that has
// it then. The caller has its turn.
func (n *namespace) settle(ctx context.Context, o *object) (*instance, error) {
	if err := n.find(o); err != nil {
		return nil, err
	}
	moveErr := n.bring(ctx, o)
	if o.home == "" && moveErr != nil {
		return nil, moveErr
	}
	if o.home == "" {
		return nil, errors.New("the script of the Durable Object has no deployment whose version implements its class")
	}
	in, err := n.start(ctx, o.home)
	if err != nil {
		return nil, errors.Join(err, moveErr)
	}
	if err := n.pay(ctx, o, in); err != nil {
		return nil, err
	}
	n.mu.Lock()
	before := o.placed
	n.mu.Unlock()
	if before != nil && before != in {
		n.tell(n.forgetPlace(before)) // it has ended
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	o.placed = in
	return in, nil
}

// bring moves the object to its target, or makes that its home if it is new. An error
// leaves it where it is.
func (n *namespace) bring(ctx context.Context, o *object) error {
	n.mu.Lock()
	target, stays := n.targetLocked(o.id), time.Now().Before(o.stays)
	n.mu.Unlock()
	switch {
	case target == "" || target == o.home || o.home != "" && stays:
		return nil
	case o.home == "":
		return n.settleNew(ctx, o, target)
	case n.process(target) == nil && n.process(o.home) != nil:
		return nil // nobody waits for its target to start: tidy does
	}
	err := n.move(ctx, o, target)
	if err == nil {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	o.stays = now.Add(min(busyPause<<min(o.missed, 10), busyPauseMax))
	if o.due.After(now) && o.due.Before(o.stays) {
		o.stays = o.due
	}
	o.missed++
	return err
}

// settleNewPatience is how long a new object waits for its target to start while
// another version of the deployment runs.
const settleNewPatience = time.Second

// settleNew gives a new object its target for a home or, if that cannot start, another
// version of the deployment: it moves as soon as it can.
func (n *namespace) settleNew(ctx context.Context, o *object, target string) error {
	n.mu.Lock()
	homes := []string{target}
	for _, split := range n.splits {
		if _, ok := n.classes[split.VersionID]; ok && split.Percentage > 0 && split.VersionID != target {
			homes = append(homes, split.VersionID)
		}
	}
	n.mu.Unlock()
	var failed error
	for i, home := range homes {
		patience := n.set.cfg.StartWait
		if v := n.set.version(home); v != nil && i+1 < len(homes) && n.process(homes[i+1]) != nil {
			patience = settleNewPatience - v.startingFor() // another one runs
		}
		if err := n.startWithin(ctx, home, patience); err != nil {
			failed = errors.Join(failed, err)
			continue
		}
		if err := n.files.create(o.objectName, home); err != nil {
			return err
		}
		n.mu.Lock()
		o.home = home
		if home != target {
			o.stays = time.Now().Add(busyPause)
			n.tidyLocked()
		}
		n.mu.Unlock()
		return nil
	}
	return failed
}

func (n *namespace) startWithin(ctx context.Context, version string, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := n.start(ctx, version)
	return err
}

// find reads from the disk where an object is, and once what is owed.
func (n *namespace) find(o *object) error {
	if o.home != "" {
		return nil
	}
	home, err := n.files.home(o.objectName)
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.owed == nil {
		if n.owed, err = n.files.owed(n.id); err != nil {
			return err
		}
	}
	o.home = home
	return nil
}

// start returns the process of a version, which it starts if need be.
func (n *namespace) start(ctx context.Context, version string) (*instance, error) {
	ctx, cancel := context.WithTimeout(ctx, n.set.cfg.StartWait)
	defer cancel()
	for {
		v := n.set.version(version)
		if v == nil {
			return nil, fmt.Errorf("version %s, which has the Durable Object, is not known any more", version)
		}
		in, err := v.acquire(ctx)
		if err != nil {
			return nil, err
		}
		in.busy.Add(-1) // needs keeps it
		if _, ok := in.class(n.id); ok {
			return in, nil
		}
		// It started before the namespace was its script's, and makes room for another.
		v.poke()
		if err := pause(ctx, revokePoll); err != nil {
			return nil, fmt.Errorf("version %s does not serve the class of the Durable Object: %w", version, err)
		}
	}
}

// pay gives an alarm that was taken from the object's old home to the new one.
func (n *namespace) pay(ctx context.Context, o *object, in *instance) error {
	n.mu.Lock()
	alarm, owed := n.owed[o.id]
	n.mu.Unlock()
	if !owed {
		return nil
	}
	// A caller that leaves must not leave it half paid.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), vacateTimeout)
	defer cancel()
	entrypoint, _ := in.class(n.id)
	if err := in.control(ctx, "/objects/alarm", order{ID: o.id, Entrypoint: entrypoint, Alarm: alarm}, nil); err != nil {
		n.mu.Lock()
		n.tidyLocked()
		n.mu.Unlock()
		return fmt.Errorf("set the alarm of a Durable Object that has moved: %w", err)
	}
	n.mu.Lock()
	delete(n.owed, o.id)
	n.mu.Unlock()
	return n.files.paid(o.objectName)
}
