package runtime

import (
	"maps"
	"slices"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

const (
	// busyPatience is how long new calls to an object that is to move wait for those in
	// hand; then it stays for busyPause, doubled each time up to busyPauseMax, and they
	// go on.
	busyPatience = 250 * time.Millisecond
	busyPause    = 2 * time.Second
	busyPauseMax = 30 * time.Second
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
	// deployed holds a signal, at most one, that the deployment has changed.
	deployed chan struct{}
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
	missed  int                  // how often it tried since the deployment changed
	due     time.Time            // from then on it moves, busy or not; zero before it was to move
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
		n = &namespace{homes: h, id: id, objects: map[string]*object{}, left: map[string]bool{}, deployed: make(chan struct{}, 1)}
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
		if _, ok := classes[version]; !ok && len(sc.Splits) > 0 {
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
		o.stays, o.missed = time.Time{}, 0
		n.bringForwardLocked(o)
	}
	if len(n.splits) > 0 {
		n.tidyLocked()
		select {
		case n.deployed <- struct{}{}:
		default:
		}
	}
}

// bringForwardLocked sets when a busy object is no longer waited for: a deployment that
// comes while it waits already can only bring that forward.
func (n *namespace) bringForwardLocked(o *object) {
	target := n.targetLocked(o.id)
	due := n.since.Add(n.delay)
	switch {
	case target == "" || o.home == "" || target == o.home:
		o.due = time.Time{}
	case o.due.IsZero() || due.Before(o.due):
		o.due = due
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
	if _, ok := n.classes[version]; !ok && !n.left[version] || len(n.splits) == 0 {
		return false // it has nothing that is to go on
	}
	for _, o := range n.objects {
		if o.home == version && len(o.permits) > 0 {
			return true
		}
	}
	return n.left[version]
}

// leaving reports whether objects of a namespace may still be in the process of a version,
// on their way to another one.
func (h *homes) leaving(version, namespace string) bool {
	h.mu.Lock()
	n := h.namespaces[namespace]
	h.mu.Unlock()
	if n == nil {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.left[version] && len(n.splits) > 0
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
		n.dropLocked(o)
	}
}
