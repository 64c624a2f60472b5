package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
	"tidegate/internal/telemetry"
	"tidegate/schema"
)

// WorkerConfig is how Workers run. Zero durations and sizes are the defaults.
type WorkerConfig struct {
	// Workerd is the path of the runtime; empty is what FindWorkerd finds.
	Workerd string
	// DataDir holds what was fetched, and a folder for each process. It belongs to one
	// Backends at a time.
	DataDir string
	// BindingsSocket is the path of the gateway's Unix socket that service bindings lead to.
	BindingsSocket string
	// AllowPrivateNetwork lets Workers reach private and loopback addresses, so also
	// what trusts everybody there. Without it they reach public ones only.
	AllowPrivateNetwork bool

	StartTimeout time.Duration // of a process, until it listens: 10 s
	StartWait    time.Duration // of a request for its version's process: 10 s
	// IdleStop is how long a version that no deployment names runs unused: 5 min.
	IdleStop time.Duration
	// WarmFor is how long a version that left its deployment runs on, used or not, so
	// that a rollback finds it: 10 min.
	WarmFor   time.Duration
	StopGrace time.Duration // for what a stopping process has in hand: 5 s
	// CPULimit is how long a process may be busy without a pause: 30 s, as one
	// invocation may on Cloudflare. A version may ask for less, down to one second.
	CPULimit time.Duration
	// DurableObjects lets versions with Durable Objects run here. Their storage is in
	// DataDir, so that no other router may run them.
	DurableObjects bool
	// MemoryBytes is what a process may use above the size of an idle one: 1 GiB. A
	// quarter of it is the bound of V8's heap, twice what Cloudflare gives an isolate.
	// The rest is for buffers, and for what V8 frees late: the process of a Worker that
	// only says hello grows to half a gigabyte under load.
	MemoryBytes int64
	// ProcessesMax is how many processes run at once: one for each 32 MiB of the
	// machine's memory, of which an idle one takes 13. Beyond it, versions that no
	// deployment names and nobody uses give way, and others cannot start.
	ProcessesMax int
}

// withDefaults returns c with its zeros filled in.
func (c WorkerConfig) withDefaults() WorkerConfig {
	c.StartTimeout = cmp.Or(c.StartTimeout, 10*time.Second)
	c.StartWait = cmp.Or(c.StartWait, 10*time.Second)
	c.IdleStop = cmp.Or(c.IdleStop, 5*time.Minute)
	c.WarmFor = cmp.Or(c.WarmFor, 10*time.Minute)
	c.StopGrace = cmp.Or(c.StopGrace, 5*time.Second)
	c.CPULimit = cmp.Or(c.CPULimit, 30*time.Second)
	c.MemoryBytes = cmp.Or(c.MemoryBytes, defaultMemory)
	c.ProcessesMax = cmp.Or(c.ProcessesMax, defaultProcesses())
	return c
}

// validate names the first setting that cannot work.
func (c *WorkerConfig) validate() error {
	if c.DataDir == "" {
		return errors.New("workers: the data directory is empty: name one that can be written")
	}
	for name, d := range map[string]time.Duration{
		"start timeout": c.StartTimeout, "start wait": c.StartWait, "idle stop": c.IdleStop,
		"warm for": c.WarmFor, "stop grace": c.StopGrace, "CPU limit": c.CPULimit,
	} {
		if d < 0 {
			return fmt.Errorf("workers: %s is %s: it must not be negative", name, d)
		}
	}
	if c.MemoryBytes != 0 && c.MemoryBytes < memoryMin {
		return fmt.Errorf("workers: memory is %d bytes: it must be at least %d, or nothing could start", c.MemoryBytes, memoryMin)
	}
	if c.ProcessesMax < 0 {
		return fmt.Errorf("workers: at most %d processes: it must not be negative", c.ProcessesMax)
	}
	return nil
}

// workers holds the versions that are Workers.
type workers struct {
	cfg         WorkerConfig
	http        Config
	log         *slog.Logger
	workerd     string
	cache       *bundleCache
	objects     *objectStorage // nil if Durable Objects do not run here
	homes       *homes
	invocations func(versionID string, inv schema.Invocation)
	ended       func(p deploy.Process, outcome string)
	metrics     metrics
	spawner     *spawner
	lock        *os.File
	runDir      string // of the processes' folders
	socketDir   string // the same, unless its path is too long for a socket's

	running  context.Context // until close
	cancel   context.CancelFunc
	stopBy   time.Time // of what is in hand at close; set before running ends
	places   places
	starting chan struct{} // holds a place for each start under way
	changed  chan struct{} // holds one signal at most

	tasks sync.WaitGroup // close waits for them
	gate  sync.Mutex     // so that none begins once close waits; inside every other lock
	shut  bool           // under gate

	// mu comes before the lock of a version.
	mu       sync.Mutex
	versions map[string]*version      // every one of the snapshot, and those that still run
	callers  map[string]deploy.Caller // by the nonce of a live process
	seq      int                      // of the last process
	sweeping bool                     // a goroutine is at it
	unswept  bool                     // a version is no longer known since it looked
	swept    bool                     // once since the start: a predecessor may have left something
	deleted  []string                 // namespaces of Durable Objects that are gone for good
	closed   bool
}

func newWorkers(cfg Config, log *slog.Logger) (_ *workers, err error) {
	if err := cfg.Workers.validate(); err != nil {
		return nil, err
	}
	w := &workers{
		cfg: cfg.Workers.withDefaults(), http: cfg, log: log,
		invocations: cfg.Invocations, ended: cfg.Ended,
		versions: map[string]*version{}, callers: map[string]deploy.Caller{},
		// More at once would only share the processors; fewer would let some Workers
		// that never come up hold back the others.
		starting: make(chan struct{}, 2+2*runtime.NumCPU()),
		changed:  make(chan struct{}, 1),
	}
	if w.invocations == nil {
		w.invocations = func(string, schema.Invocation) {}
	}
	if w.ended == nil {
		w.ended = func(deploy.Process, string) {}
	}
	if w.workerd, err = FindWorkerd(w.cfg.Workerd); err != nil {
		return nil, err
	}
	if err := w.metrics.register(); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(w.cfg.DataDir)
	if err != nil {
		return nil, err
	}
	if err := w.lockDir(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.lock.Close())
		}
	}()
	if w.cache, err = newBundleCache(cfg.Bundles, dir); err != nil {
		return nil, err
	}
	if w.cfg.DurableObjects {
		if w.objects, err = openObjectStorage(filepath.Join(dir, "objects")); err != nil {
			return nil, err
		}
	}
	w.homes = newHomes(w)
	if err := w.makeDirs(dir); err != nil {
		return nil, err
	}
	w.places.max = w.cfg.ProcessesMax
	w.running, w.cancel = context.WithCancel(context.Background())
	w.spawner = newSpawner()
	return w, nil
}

const (
	// socketPathMax is the shortest limit of a Unix socket's path: 104 bytes with its
	// end on macOS, 108 on Linux.
	socketPathMax = 103
	// socketNameMax is the longest path of a socket below the folder of all of them.
	socketNameMax = len("/ffffffff/router")
)

// lockDir makes sure that no other router has the folder.
func (w *workers) lockDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	ok, err := lockFile(f)
	if errors.Is(err, errors.ErrUnsupported) {
		ok, err = true, nil
	}
	if err == nil && !ok {
		err = fmt.Errorf("another router has the folder of Workers %s: give this one another", dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	w.lock = f
	return nil
}

// makeDirs leaves nothing of a predecessor that was killed.
func (w *workers) makeDirs(dir string) error {
	w.runDir = filepath.Join(dir, "run")
	if err := errors.Join(os.RemoveAll(w.runDir), os.MkdirAll(w.runDir, 0o700)); err != nil {
		return fmt.Errorf("prepare the folder of Workers' processes: %w", err)
	}
	w.socketDir = w.runDir
	if len(w.runDir)+socketNameMax <= socketPathMax {
		return nil
	}
	var err error
	if w.socketDir, err = os.MkdirTemp("", "tidegate-"); err != nil {
		return fmt.Errorf("prepare the folder of Workers' sockets, because %s is too long for them: %w", w.runDir, err)
	}
	return nil
}

// update starts the versions that deployments name, lets go of the others, and adds
// all of them to the backends.
func (w *workers) update(s *deploy.Snapshot, all map[string]http.RoundTripper) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	w.homes.update(s) // before processes start: it says which storage they have
	named := map[string]bool{}
	for i := range s.Scripts {
		sc := &s.Scripts[i]
		deployed := make(map[string]bool, len(sc.Splits))
		for _, split := range sc.Splits {
			deployed[split.VersionID] = true
		}
		for _, sv := range sc.Versions {
			if sv.Worker == nil {
				continue
			}
			v := w.versions[sv.ID]
			if v == nil {
				v = newVersion(w, deploy.Caller{AccountID: sc.AccountID, Script: sc.Name, VersionID: sv.ID})
				w.versions[sv.ID] = v
			}
			v.want(deployed[sv.ID], sv.Worker.Objects)
			named[sv.ID], all[sv.ID] = true, v
		}
	}
	changed := !w.swept || !slices.Equal(w.deleted, s.DeletedDurableObjects)
	w.deleted = s.DeletedDurableObjects
	for id, v := range w.versions {
		if !named[id] && !v.letGo() {
			delete(w.versions, id)
			changed = true
		}
	}
	if changed {
		w.sweepLocked()
	}
	for _, v := range w.versions {
		v.poke() // it may have lost the storage of Durable Objects
	}
}

// sweep is sweepLocked for who does not have the lock.
func (w *workers) sweep() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweepLocked()
}

// sweepLocked cleans the disk of versions that are no longer known.
func (w *workers) sweepLocked() {
	w.unswept = true
	if w.sweeping || w.closed {
		return
	}
	w.sweeping = true
	w.tasks.Go(func() {
		for w.takeUnswept() {
			w.removeDeleted()
			if err := w.cache.sweep(func(id string) bool { return w.version(id) != nil }); err != nil {
				w.log.Warn("Workers that are no longer needed could not be removed from disk", "error", err)
			}
		}
	})
}

// takeUnswept reports whether something has changed since it was last asked.
func (w *workers) takeUnswept() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sweeping, w.swept = w.unswept, true
	w.unswept = false
	return w.sweeping
}

// forget drops a version that the snapshot no longer names and that has stopped.
func (w *workers) forget(v *version) {
	w.mu.Lock()
	defer w.mu.Unlock()
	v.mu.Lock()
	over := v.gone && !v.kept // it may have been named, or asked for, again
	v.mu.Unlock()
	if over && w.versions[v.VersionID] == v {
		delete(w.versions, v.VersionID)
		w.sweepLocked()
	}
}

func (w *workers) version(id string) *version {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions[id]
}

// signal tells whoever watches Changed; one signal stands for many changes.
func (w *workers) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// goUnlessClosed runs f, for which close waits. It reports false, and runs nothing,
// once close has begun.
func (w *workers) goUnlessClosed(f func()) bool {
	w.gate.Lock()
	defer w.gate.Unlock()
	if !w.shut {
		w.tasks.Go(f)
	}
	return !w.shut
}

// close stops every process, with what it has in hand at the deadline, and returns
// when all have ended.
func (w *workers) close(deadline time.Time) {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return
	}
	w.closed = true
	w.mu.Unlock()
	w.stopBy = deadline
	w.gate.Lock()
	w.shut = true
	w.gate.Unlock()
	w.cancel()
	w.tasks.Wait()
	w.spawner.close()
	if err := w.lock.Close(); err != nil {
		w.log.Warn("the lock of the folder of Workers was not closed", "error", err)
	}
	if w.socketDir != w.runDir {
		if err := os.RemoveAll(w.socketDir); err != nil {
			w.log.Warn("the folder of Workers' sockets could not be removed", "error", err)
		}
	}
}

func (m *metrics) register() error {
	meter := telemetry.Meter("tidegate/runtime")
	var errs [4]error
	m.drops, errs[0] = meter.Int64Counter("tidegate_runtime_invocations_dropped_total",
		metric.WithDescription("Invocations that the runtime told of and the gateway could not take or read, by reason; their events go out without outcome and logs."))
	m.restarts, errs[1] = meter.Int64Counter("tidegate_runtime_worker_restarts_total",
		metric.WithDescription("Processes of Workers that were started again after they had ended by themselves."))
	m.kills, errs[2] = meter.Int64Counter("tidegate_runtime_worker_kills_total",
		metric.WithDescription("Processes of Workers that ended without having been asked to, by the outcome that their invocations get."))
	m.moves, errs[3] = meter.Int64Counter("tidegate_runtime_object_moves_total",
		metric.WithDescription("Moves of Durable Objects to another version, by result: moved, busy (tried again), failed (tried again)."))
	return errors.Join(errs[:]...)
}
