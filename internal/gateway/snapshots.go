package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

// Waits of the snapshot loop.
const (
	retryMin = 200 * time.Millisecond
	retryMax = 10 * time.Second
	// idlePause keeps a source that answers at once with nothing new from being
	// asked in a tight loop.
	idlePause = 50 * time.Millisecond
)

// Reasons why a snapshot is not served.
const (
	refusedInvalid = "invalid"
	refusedOlder   = "older"
)

// Status says how fresh the routing is.
type Status struct {
	Revision int64
	// Confirmed is when the control plane last said that Revision is its newest, or,
	// after a start from disk, when the file was written. Zero before either. A
	// control plane that answers with what cannot be used confirms nothing.
	Confirmed time.Time
	// SyncError is why the last attempt to get or use a snapshot failed, and what to
	// do where somebody can do something; nil when it did not.
	SyncError error
}

// syncState is what the snapshot loop knows; Run writes it, anyone reads it.
type syncState struct {
	mu        sync.Mutex
	confirmed time.Time
	err       error
}

func (s *syncState) set(confirmed time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !confirmed.IsZero() {
		s.confirmed = confirmed
	}
	s.err = err
}

// Status returns the state of the snapshot loop.
func (g *Gateway) Status() Status {
	g.sync.mu.Lock()
	defer g.sync.mu.Unlock()
	return Status{Revision: g.Revision(), Confirmed: g.sync.confirmed, SyncError: g.sync.err}
}

// Note says in a sentence that the routing may be out of date, and since when; empty
// while the control plane confirms it, and while there is none (see Ready).
func (g *Gateway) Note() string {
	s := g.Status()
	if s.SyncError == nil || s.Revision == 0 {
		return ""
	}
	return fmt.Sprintf("gateway: serves snapshot %d, which the control plane confirmed last at %s: %v",
		s.Revision, s.Confirmed.UTC().Format(time.RFC3339), s.SyncError)
}

// Run keeps the routing up to date until ctx ends, then cuts the switched
// connections (WebSockets) and returns when the last of their events has been
// emitted. Start it before the server and stop it after.
func (g *Gateway) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	if g.deps.Workers != nil {
		loops.Go(func() { g.watchBackends(ctx) })
		loops.Go(func() { g.keepSchedules(ctx, time.Now) })
	}
	if g.deps.Reports != nil {
		loops.Go(func() { g.keepReporting(ctx) })
	}
	loops.Go(func() { g.keepJoining(ctx) })
	loops.Go(func() { g.sampler.keepTelling(ctx) })
	if g.deps.Tail != nil {
		loops.Go(func() { g.keepTailing(ctx) })
	}
	g.keepUpToDate(ctx)
	loops.Wait()
	g.end()
	g.upgrades.Wait()
	g.finishJoining()
	g.sampler.close()
	return g.stopObserving()
}

// keepUpToDate asks for snapshots, one after the other, until ctx ends.
func (g *Gateway) keepUpToDate(ctx context.Context) {
	backOff := retryMin
	for {
		wait := idlePause
		switch news, err := g.poll(ctx); {
		case ctx.Err() != nil:
			return
		case err != nil:
			wait = backOff/2 + rand.N(backOff/2)
			backOff = min(2*backOff, retryMax)
		case news:
			wait, backOff = 0, retryMin
		default:
			backOff = retryMin
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// poll asks for a newer snapshot once and serves it. It reports whether there
// was one; every error is logged and counted here.
func (g *Gateway) poll(ctx context.Context) (news bool, err error) {
	// A control plane that takes the question and dies says nothing for ever.
	call, cancel := context.WithTimeout(ctx, g.cfg.SnapshotTimeout)
	defer cancel()
	s, err := g.deps.Snapshots.Snapshot(call, g.Revision())
	if ctx.Err() != nil {
		return false, nil
	}
	if err != nil {
		if call.Err() != nil {
			err = fmt.Errorf("no answer within %s: %w", g.cfg.SnapshotTimeout, err)
		}
		g.metrics.snapshotErrors.Add(1)
		g.log.Warn("control plane not reached: serving the last snapshot", "revision", g.Revision(), "error", err)
		g.sync.set(time.Time{}, err)
		return false, err
	}
	if s == nil || s.Revision == g.Revision() {
		g.sync.set(time.Now(), nil)
		return false, nil
	}
	if err := g.accept(s); err != nil {
		g.sync.set(time.Time{}, err)
		return false, err
	}
	g.sync.set(time.Now(), nil)
	if g.retired.Load() {
		return true, nil // the file is another process's, which may know more
	}
	if err := writeSnapshot(g.cfg.SnapshotFile, s); err != nil {
		// Serving goes on; only a start without the control plane would be stale.
		g.metrics.snapshotErrors.Add(1)
		g.log.Error("snapshot not kept on disk", "revision", s.Revision, "error", err)
	}
	return true, nil
}

// accept serves s from now on, or refuses it and leaves everything as it is.
func (g *Gateway) accept(s *deploy.Snapshot) error {
	reason, err := refusedInvalid, s.Validate()
	if err == nil && s.Revision < g.Revision() {
		reason, err = refusedOlder, g.olderError(s.Revision)
	}
	if err != nil {
		g.metrics.snapshotRefused[index(refusalReasons, reason)].Add(1)
		g.log.Error("snapshot refused: serving the last good one", "reason", reason, "revision", g.Revision(), "error", err)
		return err
	}
	g.routing.Lock()
	g.latest, g.backends = s, g.deps.Backends.Update(s)
	warnings := g.serveLocked()
	g.routing.Unlock()
	for _, w := range warnings {
		g.log.Warn("part of the snapshot is not served", "revision", s.Revision, "reason", w)
	}
	g.log.Info("snapshot in force", "revision", s.Revision, "scripts", len(s.Scripts))
	return nil
}

// olderError says what to do about a control plane that went back. The gateway
// does not follow by itself: a replica that lags or the wrong database would take
// back deployments, rollbacks among them.
func (g *Gateway) olderError(revision int64) error {
	cure := "restart the gateway"
	if g.cfg.SnapshotFile != "" {
		cure = fmt.Sprintf("stop the gateway, remove %s and start it again", g.cfg.SnapshotFile)
	}
	return fmt.Errorf("snapshot %d is older than %d, which is being served, so no change takes effect: if the control plane was restored from a backup, %s",
		revision, g.Revision(), cure)
}

// loadFile serves the snapshot on disk. Without one, or with a damaged one, the
// gateway waits for the control plane.
func (g *Gateway) loadFile() {
	if g.cfg.SnapshotFile == "" {
		return
	}
	s, written, err := readSnapshot(g.cfg.SnapshotFile)
	if errors.Is(err, fs.ErrNotExist) {
		return // the first start
	}
	if err == nil {
		err = g.accept(s)
	} else {
		g.metrics.snapshotRefused[index(refusalReasons, refusedInvalid)].Add(1)
		g.log.Error("snapshot on disk not used: waiting for the control plane", "error", err)
	}
	if err != nil {
		written = time.Time{} // nothing is being served whose age this could be
	}
	g.sync.set(written, err)
}

func readSnapshot(name string) (*deploy.Snapshot, time.Time, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the snapshot: %w", err)
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, time.Time{}, fmt.Errorf("read the snapshot: %w", err)
	}
	s := new(deploy.Snapshot)
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, time.Time{}, fmt.Errorf("read the snapshot in %s: %w", name, err)
	}
	return s, info.ModTime(), nil
}

// writeSnapshot replaces the file as a whole: after a crash at any moment it
// holds the old snapshot or the new one.
func writeSnapshot(name string, s *deploy.Snapshot) error {
	if name == "" {
		return nil
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode snapshot %d: %w", s.Revision, err)
	}
	dir := filepath.Dir(name)
	f, err := os.CreateTemp(dir, filepath.Base(name)+".*")
	if err != nil {
		return fmt.Errorf("write snapshot %d: %w", s.Revision, err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot %d: %w", s.Revision, err), os.Remove(f.Name()))
	}
	return syncDir(dir)
}

// syncDir makes a rename last.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("write the snapshot: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
