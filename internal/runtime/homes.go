package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

const (
	// busyPatience is how long new calls to an object that is to move wait for those in
	// hand; then it stays for busyPause, and they go on.
	busyPatience = 250 * time.Millisecond
	busyPause    = 2 * time.Second
	// vacateTimeout bounds the steps that take an object out of a process.
	vacateTimeout = 5 * time.Second
)

// homes knows which version each Durable Object runs: its home, whose process has
// its storage. An object's target follows from its id and the deployment
// (deploy.PickObject). On the way there it is moved as a whole: when no process has
// calls to it in hand, it is closed, its file changes folders, and the next call finds
// it there. Its methods may be called concurrently.
type homes struct {
	set   *workers
	files *objectStorage

	mu         sync.Mutex // before that of a namespace
	namespaces map[string]*namespace
}

// namespace is the storage of one class.
type namespace struct {
	*homes
	id string

	mu      sync.Mutex
	owner   deploy.Caller     // its script
	splits  []deploy.Split    // of the script's deployment
	classes map[string]string // names, by the id of every version that implements it
	delay   time.Duration     // how long a busy object may stay once it has another target
	since   time.Time         // that it has
	objects map[string]*object
	serial  uint64           // of the last permit
	owed    map[string]int64 // alarms that no scheduler has, by object; nil until they were read
	// left are versions whose folder may still have objects that are to go elsewhere.
	left    map[string]bool
	tidying bool // a goroutine is at it
	untidy  bool // the deployment has changed since it looked
}

// object is one that a process may call, or that somebody is moving.
type object struct {
	objectName
	turn  chan struct{} // holds a token while somebody has it in hand
	users int           // who has it in hand or waits for that; under the namespace's mu

	// Who has the turn may change these, under the namespace's mu.
	home    string               // a version's id; "" is not known, or it is new
	placed  *instance            // where the permits lead
	permits map[*instance]uint64 // the serial of the last permit of each process that may have calls to it in hand
	stays   time.Time            // it does not try to move before
}

// place is where a process may call an object, until a revocation with this serial or
// a later one.
type place struct {
	Serial     uint64 `json:"serial"`
	Address    string `json:"address"` // "" is the process itself
	Entrypoint string `json:"entrypoint"`
}

func newHomes(set *workers) *homes {
	return &homes{set: set, files: set.objects, namespaces: map[string]*namespace{}}
}

// update takes over the deployments of a snapshot. A namespace belongs to the script
// whose deployment implements it: other versions tell what was when they were uploaded.
func (h *homes) update(s *deploy.Snapshot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	seen := map[string]bool{}
	for i := range s.Scripts {
		sc := &s.Scripts[i]
		for id, classes := range implemented(sc) {
			if !slices.ContainsFunc(sc.Splits, func(split deploy.Split) bool { return classes[split.VersionID] != "" }) {
				continue
			}
			seen[id] = true
			h.namespaceLocked(id).update(sc, classes)
		}
	}
	for id, n := range h.namespaces {
		if !seen[id] {
			n.update(&deploy.SnapshotScript{}, nil)
		}
	}
}

// implemented returns the namespaces of a script, each with its class by version.
func implemented(sc *deploy.SnapshotScript) map[string]map[string]string {
	found := map[string]map[string]string{}
	for _, v := range sc.Versions {
		if v.Worker == nil {
			continue
		}
		for _, n := range v.Worker.Objects {
			if found[n.ID] == nil {
				found[n.ID] = map[string]string{}
			}
			found[n.ID][v.ID] = n.Class
		}
	}
	return found
}

func (h *homes) namespaceLocked(id string) *namespace {
	n := h.namespaces[id]
	if n == nil {
		n = &namespace{homes: h, id: id, objects: map[string]*object{}, left: map[string]bool{}}
		h.namespaces[id] = n
	}
	return n
}

func (n *namespace) update(sc *deploy.SnapshotScript, classes map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	owner := deploy.Caller{AccountID: sc.AccountID, Script: sc.Name}
	same := n.owner == owner && slices.Equal(n.splits, sc.Splits) && maps.Equal(n.classes, classes)
	for version := range n.classes {
		if _, ok := classes[version]; !ok {
			n.left[version] = true // of a script that it was transferred from
		}
	}
	n.owner, n.classes = owner, classes
	n.delay = time.Duration(sc.ObjectsDelayMS) * time.Millisecond
	if same {
		return
	}
	n.splits, n.since = sc.Splits, time.Now()
	for _, o := range n.objects {
		o.stays = time.Time{}
	}
	if len(n.splits) > 0 {
		n.tidyLocked()
	}
}

// targetLocked returns the version that the deployment gives an object, "" without one.
func (n *namespace) targetLocked(id string) string {
	if len(n.splits) == 0 {
		return ""
	}
	version := n.splits[deploy.PickObject(n.splits, id)].VersionID
	if _, ok := n.classes[version]; !ok {
		return "" // it implements no such class
	}
	return version
}

// needs reports whether the process of a version may still have objects to itself.
func (h *homes) needs(version string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.namespaces {
		if n.needs(version) {
			return true
		}
	}
	return false
}

func (n *namespace) needs(version string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.left[version] && len(n.splits) > 0
}

// leaving reports whether objects of a namespace may still be in the process of a version,
// on their way to another one.
func (h *homes) leaving(version, namespace string) bool {
	h.mu.Lock()
	n := h.namespaces[namespace]
	h.mu.Unlock()
	return n != nil && n.needs(version)
}

// owned returns those of the namespaces that belong to the version's script.
func (h *homes) owned(v deploy.Caller, list []deploy.DurableObjectNamespace) []deploy.DurableObjectNamespace {
	h.mu.Lock()
	defer h.mu.Unlock()
	var owned []deploy.DurableObjectNamespace
	for _, ns := range list {
		if n := h.namespaces[ns.ID]; n != nil && n.belongsTo(v) {
			owned = append(owned, ns)
		}
	}
	return owned
}

func (n *namespace) belongsTo(v deploy.Caller) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.owner.AccountID == v.AccountID && n.owner.Script == v.Script
}

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
	in, err := n.settle(ctx, o)
	if err != nil {
		return place{}, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if from.proc.isDone() {
		return place{}, errors.New("the process that asks has ended")
	}
	n.serial++
	o.permits[from] = n.serial
	p := place{Serial: n.serial}
	p.Entrypoint, _ = in.class(n.id)
	if in != from {
		p.Address = in.debugAddress
	}
	return p, nil
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
	if o.users--; o.users == 0 && len(o.permits) == 0 {
		delete(n.objects, o.id)
	}
}

// settle moves the object to its target, if it may, and returns the process that has
// it then. The caller has its turn.
func (n *namespace) settle(ctx context.Context, o *object) (*instance, error) {
	if err := n.find(o); err != nil {
		return nil, err
	}
	n.mu.Lock()
	target, stays := n.targetLocked(o.id), time.Now().Before(o.stays)
	n.mu.Unlock()
	var moveErr error
	switch {
	case target == "" || target == o.home:
	case o.home == "":
		n.mu.Lock()
		o.home = target
		n.mu.Unlock()
	case !stays:
		if moveErr = n.move(ctx, o, target); moveErr != nil {
			n.stay(o, moveErr)
		}
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
	lost := o.placed != nil && o.placed != in
	o.placed = in
	n.mu.Unlock()
	if lost {
		n.revokeAll(ctx, o) // they lead to a process that has ended
	}
	return in, nil
}

// stay keeps the object where it is for a while.
func (n *namespace) stay(o *object, err error) {
	n.mu.Lock()
	o.stays = time.Now().Add(busyPause)
	script := n.owner.Script
	n.mu.Unlock()
	if !errors.Is(err, errBusy) {
		n.set.log.Warn("a Durable Object could not move to its version", "script", script, "namespace_id", n.id, "object_id", o.id, "version_id", o.home, "error", err)
	}
}

// find reads from the disk where an object is.
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
	o.home = home
	if n.owed == nil {
		n.owed, err = n.files.owed(n.id)
	}
	return err
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
	entrypoint, _ := in.class(n.id)
	if err := in.order(ctx, "/objects/alarm", order{ID: o.id, Entrypoint: entrypoint, Alarm: alarm}, nil); err != nil {
		return fmt.Errorf("set the alarm of a Durable Object that has moved: %w", err)
	}
	n.mu.Lock()
	delete(n.owed, o.id)
	n.mu.Unlock()
	return n.files.paid(o.objectName)
}

// ended forgets a process: what it was permitted, and the objects that it had. Those
// who may still call them there are told.
func (h *homes) ended(in *instance) {
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.namespaces))
	h.mu.Unlock()
	for _, n := range all {
		n.tidyAfter(in.versionID)
		for holder, names := range n.forget(in) {
			h.set.goUnlessClosed(func() {
				ctx, cancel := context.WithTimeout(h.set.running, vacateTimeout)
				defer cancel()
				if _, err := holder.revoke(ctx, names.serial, names.objects); err != nil && !holder.proc.isDone() {
					h.set.log.Warn("a process was not told that Durable Objects are gone", "version_id", holder.versionID, "error", err)
				}
			})
		}
	}
}

// revocation is what one process is told.
type revocation struct {
	serial  uint64
	objects []string
}

func (n *namespace) forget(in *instance) map[*instance]*revocation {
	n.mu.Lock()
	defer n.mu.Unlock()
	told := map[*instance]*revocation{}
	for id, o := range n.objects {
		delete(o.permits, in)
		if o.placed == in {
			o.placed = nil
			for holder := range o.permits {
				if told[holder] == nil {
					told[holder] = &revocation{serial: n.serial}
				}
				told[holder].objects = append(told[holder].objects, n.id+id)
			}
			clear(o.permits)
		}
		if o.users == 0 && len(o.permits) == 0 {
			delete(n.objects, id)
		}
	}
	return told
}

// release takes back a permit that a process gave up, unless it has a later one.
func (h *homes) release(in *instance, name objectName, serial uint64) {
	h.mu.Lock()
	n := h.namespaces[name.namespace]
	h.mu.Unlock()
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if o := n.objects[name.id]; o != nil && o.permits[in] <= serial {
		delete(o.permits, in)
		if o.users == 0 && len(o.permits) == 0 {
			delete(n.objects, name.id)
		}
	}
}
