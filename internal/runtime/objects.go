package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"tidegate/internal/deploy"
)

// errNoObjects is why a version with Durable Objects does not run.
const errNoObjects = "it has Durable Objects, which this router does not run: they need one router that keeps their storage, started with --durable-objects"

// lockPoll is how often a lock that another process has is tried again.
const lockPoll = 20 * time.Millisecond

var namespacePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// objectStorage is the folder of the storage of Durable Objects. Each namespace has
// a folder in it that is named by its id, which the runtime makes and fills, and
// beside that a file <id>.lock. Whoever opens or removes the storage holds a lock on
// that file; a process of the runtime inherits it and has it until it ends, however
// that is, also when it outlives its router. So at most one process has a namespace's
// storage open, whatever goes wrong between routers or in this package.
type objectStorage struct{ dir string }

func openObjectStorage(dir string) (*objectStorage, error) {
	s := &objectStorage{dir}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("prepare the storage of Durable Objects: %w", err)
	}
	return s, nil
}

// path is "" for nil.
func (s *objectStorage) path() string {
	if s == nil {
		return ""
	}
	return s.dir
}

// locks are held by whoever has the files open.
type locks []*os.File

func (l locks) close() error {
	var failed []error
	for _, f := range l {
		failed = append(failed, f.Close())
	}
	return errors.Join(failed...)
}

// lock takes the locks of namespaces, and waits for those that another process
// has, for as long as patience.
func (s *objectStorage) lock(ctx context.Context, namespaces []deploy.DurableObjectNamespace, patience time.Duration) (held locks, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	defer func() {
		if err != nil {
			err = errors.Join(err, held.close())
			held = nil
		}
	}()
	for _, n := range namespaces {
		if !namespacePattern.MatchString(n.ID) {
			return held, fmt.Errorf("the id %q of the namespace of class %s is not one", n.ID, n.Class)
		}
		f, err := s.await(ctx, n.ID)
		if err != nil {
			return held, fmt.Errorf("lock the storage of the Durable Objects of class %s: %w", n.Class, err)
		}
		held = append(held, f)
	}
	return held, nil
}

func (s *objectStorage) await(ctx context.Context, id string) (*os.File, error) {
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		f, err := s.tryLock(id)
		if f != nil || err != nil {
			return f, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("another process has it: %s is for one router at a time", s.dir)
		}
	}
}

// tryLock returns nil without an error if another has the lock.
func (s *objectStorage) tryLock(id string) (*os.File, error) {
	path := filepath.Join(s.dir, id+".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	ok, err := lockFile(f)
	if ok && err == nil {
		// Whoever had it before may have removed the file with the storage: then the
		// lock is one on nothing.
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			there, err = os.Stat(path)
			ok = err == nil && os.SameFile(mine, there)
			if errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
		}
	}
	if ok && err == nil {
		return f, nil
	}
	return nil, errors.Join(err, f.Close())
}

// remove removes the storage of a namespace that is gone for good. It reports false
// if a process still has it open.
func (s *objectStorage) remove(id string) (bool, error) {
	if !namespacePattern.MatchString(id) {
		return false, fmt.Errorf("remove the storage of Durable Objects: the namespace id %q is not one", id)
	}
	path := filepath.Join(s.dir, id)
	if _, err := os.Lstat(path + ".lock"); errors.Is(err, fs.ErrNotExist) {
		return true, nil // it was never opened here, or is removed already
	}
	f, err := s.tryLock(id)
	if f == nil {
		return false, err
	}
	// The lock's file goes last: while it is there, an interrupted removal goes on.
	if err = os.RemoveAll(path); err == nil {
		err = remove(path + ".lock")
	}
	return err == nil, errors.Join(err, f.Close())
}

// removeDeleted removes the storage of the namespaces that the snapshot says are
// deleted. Nothing else ever removes any: not that a snapshot does not name a
// namespace, a script or a version.
func (w *workers) removeDeleted() {
	if w.objects == nil {
		return
	}
	w.mu.Lock()
	deleted := w.deleted // of a snapshot, which nobody changes
	w.mu.Unlock()
	for _, id := range deleted {
		if _, err := w.objects.remove(id); err != nil {
			w.log.Warn("the storage of deleted Durable Objects could not be removed", "namespace_id", id, "error", err)
		}
	}
}
