package runtime

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// cronWallMax is how long a scheduled handler may run: Cloudflare's limit.
const cronWallMax = 15 * time.Minute

// instance is one process of a version.
type instance struct {
	set       *workers
	versionID string
	number    int // among all processes
	caller    deploy.Caller
	nonce     string
	secret    string                          // of orders to its Durable Objects
	objects   []deploy.DurableObjectNamespace // whose storage it has
	locks     *locks                          // on that
	forgotten atomic.Bool                     // homes knows it no longer
	// debugAddress is where other processes reach them.
	debugAddress string
	dirs         []string // its own, removed at the end
	proc         *process
	sink         *sink
	entrypoints  map[string]*http1 // by name; "" is the default one
	router       *http1            // our own Worker
	busy         atomic.Int64      // requests in hand
	untold       untold
	meter        meter
	watchers     sync.WaitGroup // that end with the process
}

// start runs a process of v and returns when it listens.
func (w *workers) start(v *version) (*instance, error) {
	ctx, cancel := context.WithTimeout(w.running, fetchTimeout)
	defer cancel()
	bundle, modules, err := w.cache.get(ctx, v.AccountID, v.VersionID)
	if err != nil {
		return nil, err
	}
	select {
	case w.starting <- struct{}{}:
		defer func() { <-w.starting }()
	case <-w.running.Done():
		return nil, w.running.Err()
	}
	if err := w.places.take(); err != nil {
		return nil, err
	}
	in := &instance{set: w, versionID: v.VersionID, caller: v.Caller, entrypoints: map[string]*http1{}, nonce: rand.Text(), secret: rand.Text()}
	in.meter.busy, in.meter.untold = &in.busy, &in.untold
	in.objects = v.ownObjects()
	own := *bundle
	own.Worker.DurableObjects = in.objects // the bundle tells what was at the upload
	if err := in.launch(&own, modules); err != nil {
		in.abandon()
		return nil, err
	}
	w.mu.Lock()
	w.callers[in.nonce] = v.Caller
	w.mu.Unlock()
	return in, nil
}

// lockObjects makes sure that no other process has the storage of the version's
// Durable Objects.
func (in *instance) lockObjects() (err error) {
	w := in.set
	if len(in.objects) == 0 {
		return nil
	}
	in.locks, err = w.objects.lock(w.running, in.versionID, in.objects, w.cfg.StartTimeout)
	return err
}

// class returns the entry point of a namespace's objects in the process, false if it
// has none of them.
func (in *instance) class(namespace string) (string, bool) {
	for _, n := range in.objects {
		if n.ID == namespace {
			return ownEntrypoint + n.Class, true
		}
	}
	return "", false
}

// fetchTimeout bounds the way of a bundle and its modules to this machine.
const fetchTimeout = time.Minute

func (in *instance) launch(bundle *deploy.Bundle, modules map[string]string) error {
	config, err := in.prepare(bundle, modules)
	if err != nil {
		return err
	}
	w := in.set
	if err := in.lockObjects(); err != nil {
		return err
	}
	sockets := len(in.entrypoints) + 1
	// --experimental is what a Worker needs to trigger another's scheduled handler.
	flags := []string{"--experimental"}
	if in.debugAddress != "" {
		flags, sockets = append(flags, "--debug-port="+in.debugAddress), sockets+1
	}
	log := w.log.With("version_id", in.versionID)
	in.proc, err = startProcess(w.spawner, w.workerd, config, sockets, flags, log, in.locks.files()...)
	// The process has the version's lock now, and has it until it ends.
	if err := errors.Join(err, in.locks.inherited()); err != nil {
		return err
	}
	in.watchers.Go(func() { watchMemory(in.proc, w.cfg.MemoryBytes) })
	if err := in.proc.waitReady(w.running, w.cfg.StartTimeout); err != nil {
		if errors.Is(err, errStartTimeout) {
			err = fmt.Errorf("it does not listen after %s: %w", w.cfg.StartTimeout, err)
		}
		return err
	}
	if len(in.objects) > 0 {
		ctx, cancel := context.WithTimeout(w.running, w.cfg.StartTimeout)
		defer cancel()
		if err := in.control(ctx, "/objects/begin", order{}, nil); err != nil {
			return err
		}
	}
	// The runtime has read it, and it holds the secrets.
	if err := os.Remove(config); err != nil {
		return err
	}
	if err := in.openMeter(&bundle.Worker, modules); err != nil {
		return err
	}
	limit := cpuLimit(w.cfg.CPULimit, bundle.Worker.Limits)
	in.watchers.Go(func() { watchLoop(in.proc, in.router.addr, w.http, &in.meter, limit) })
	return nil
}

// prepare makes the folder, the sink and the configuration, whose path it returns.
func (in *instance) prepare(bundle *deploy.Bundle, modules map[string]string) (string, error) {
	w := in.set
	w.mu.Lock()
	w.seq++
	in.number = w.seq
	name := strconv.FormatInt(int64(w.seq), 16)
	w.mu.Unlock()
	dir, sockets := filepath.Join(w.runDir, name), filepath.Join(w.socketDir, name)
	in.dirs = []string{dir, sockets}
	for _, d := range in.dirs {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return "", err
		}
	}
	c := &processConfig{
		bundle: bundle, modules: make(map[string]string, len(modules)),
		privateNetwork: w.cfg.AllowPrivateNetwork,
		nonce:          in.nonce, bindings: w.cfg.BindingsSocket,
		heapBytes: heapFor(w.cfg.MemoryBytes),
		objects:   w.objects.versionDir(in.versionID), secret: in.secret, movingAlarm: rand.Text(),
		router: filepath.Join(sockets, "router"), sink: filepath.Join(sockets, "sink"),
	}
	for hash, path := range modules {
		relative, err := filepath.Rel(dir, path)
		if err != nil {
			return "", err
		}
		c.modules[hash] = relative
	}
	for i, name := range entrypoints(bundle.Worker.Exports) {
		path := filepath.Join(sockets, "u"+strconv.Itoa(i))
		c.sockets = append(c.sockets, socket{name, path})
		in.entrypoints[name] = newWorkerHTTP1(w.http, path, &in.busy, in.explain)
	}
	patient := w.http
	patient.ResponseHeaderTimeout = cronWallMax
	in.router = newWorkerHTTP1(patient, c.router, &in.busy, in.explain)
	text, err := c.render()
	if err != nil {
		return "", err
	}
	config := filepath.Join(dir, "config.capnp")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		return "", err
	}
	if c.hasObjects() {
		in.debugAddress = "unix:" + filepath.Join(sockets, "debug")
	}
	in.sink, err = listenSink(c.sink, in.versionID, &w.metrics, in.told, in.servePermit, w.log)
	return config, err
}

// told passes on an invocation that has ended.
func (in *instance) told(versionID string, inv schema.Invocation) {
	in.meter.told(&inv)
	in.set.invocations(versionID, inv)
}

// explain adds to the error of a broken exchange what became of the process.
func (in *instance) explain(err error) error {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Kind != schema.ErrorKindReset {
		return err
	}
	in.proc.endsWithin(deathNotice)
	if outcome := in.proc.outcome(); outcome != "" {
		return &endedError{e, outcome}
	}
	return err
}

// drain waits until nothing is in hand and every invocation has been told, which is
// later: workerd drops what it has not told when it is asked to stop.
func (in *instance) drain(grace time.Duration) {
	deadline := time.NewTimer(grace)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for in.busy.Load() > 0 || in.untold.len() > 0 {
		select {
		case <-in.proc.done:
			return
		case <-deadline.C:
			return
		case <-tick.C:
		}
	}
}

// name is what others know the process by.
func (in *instance) name() deploy.Process {
	return deploy.Process{VersionID: in.versionID, Number: in.number}
}

// abandon cleans up after a start that failed.
func (in *instance) abandon() {
	if in.proc != nil {
		in.proc.kill(schema.OutcomeInternalError)
		<-in.proc.done
	}
	in.cleanUp()
}

// close reads the last invocations of a process that has ended, and then tells.
func (in *instance) close(outcome string) {
	in.cleanUp()
	in.set.ended(in.name(), outcome)
}

func (in *instance) cleanUp() {
	in.set.homes.ended(in)
	if err := in.locks.close(); err != nil {
		in.set.log.Warn("the locks of a process with Durable Objects were not closed", "error", err)
	}
	in.set.places.giveBack()
	in.set.mu.Lock()
	delete(in.set.callers, in.nonce)
	if in.debugAddress != "" {
		in.set.sweepLocked() // storage that was to be removed once it is closed
	}
	in.set.mu.Unlock()
	in.watchers.Wait()
	for _, t := range in.entrypoints {
		t.close()
	}
	if in.router != nil {
		in.router.close()
	}
	if in.sink != nil {
		in.sink.close()
	}
	if err := in.meter.close(); err != nil {
		in.set.log.Warn("the CPU clock of a Worker's process was not closed", "error", err)
	}
	for _, dir := range in.dirs {
		if err := os.RemoveAll(dir); err != nil {
			in.set.log.Warn("the folder of a Worker's process could not be removed", "error", err)
		}
	}
}
