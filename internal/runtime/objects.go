package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"tidegate/internal/deploy"
)

// errNoObjects is why a version with Durable Objects does not run.
const errNoObjects = "it has Durable Objects, which this router does not run: they need one router that keeps their storage, started with --durable-objects"

// lockPoll is how often a lock that another process has is tried again.
const lockPoll = 20 * time.Millisecond

var (
	namespacePattern = regexp.MustCompile(`^[0-9a-f]{32}$`)
	versionPattern   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
)

// objectStorage is the folder of the storage of Durable Objects:
//
//	<version id>/<namespace id>/<object id>.sqlite  what a process of the version has
//	<version id>/<namespace id>.lock                the lock on that folder
//	<namespace id>.lock                             the lock on all folders of a namespace
//	alarms/<namespace id>-<object id>               see owe
//
// An object's file is in the folder of one version at a time, its home, whose process
// alone may open it. The locks make sure of that, whatever goes wrong between routers
// or in this package; processes inherit them, and have them until they end, also when
// they outlive their router. That of a folder is for one process, or for whoever takes
// objects out of a folder without one. That of a namespace is for one router and all
// its processes, or for whoever removes the storage.
type objectStorage struct {
	dir string

	mu     sync.Mutex
	shared map[string]*sharedLock // of namespaces, by id
}

// sharedLock is open as long as somebody in this router needs it.
type sharedLock struct {
	users int           // under the storage's mu
	done  chan struct{} // closed when file or err is there
	file  *os.File
	err   error
}

func openObjectStorage(dir string) (*objectStorage, error) {
	s := &objectStorage{dir: dir, shared: map[string]*sharedLock{}}
	if err := os.MkdirAll(filepath.Join(dir, alarmsDir), 0o700); err != nil {
		return nil, fmt.Errorf("prepare the storage of Durable Objects: %w", err)
	}
	if err := s.probe(); err != nil {
		return nil, fmt.Errorf("exchange two names on the file system of %s, which Durable Objects need: %w", dir, err)
	}
	if err := s.adopt(); err != nil {
		return nil, fmt.Errorf("take over the storage of Durable Objects: %w", err)
	}
	return s, nil
}

// probe tries what a move needs of the file system.
func (s *objectStorage) probe() error {
	dir, err := os.MkdirTemp(s.dir, "probe-")
	if err != nil {
		return err
	}
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	err = errors.Join(os.WriteFile(a, nil, 0o600), os.Mkdir(b, 0o700))
	if err == nil {
		err = exchange(a, b)
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// nobody is the version of what an earlier layout, with one folder for each
// namespace, has left. Its objects move to the versions that run them as any others.
const nobody = "00000000-0000-0000-0000-000000000000"

func (s *objectStorage) adopt() error {
	entries, err := os.ReadDir(s.dir)
	for _, e := range entries {
		if !e.IsDir() || !namespacePattern.MatchString(e.Name()) {
			continue
		}
		to := s.versionDir(nobody)
		if err := errors.Join(os.MkdirAll(to, 0o700), os.Rename(filepath.Join(s.dir, e.Name()), filepath.Join(to, e.Name()))); err != nil {
			return err
		}
	}
	return err
}

// versionDir is what the process of a version has as its disk; "" for nil.
func (s *objectStorage) versionDir(versionID string) string {
	if s == nil {
		return ""
	}
	return filepath.Join(s.dir, versionID)
}

// locks are what a process inherits.
type locks struct {
	storage    *objectStorage
	folders    []*os.File
	namespaces map[string]*sharedLock // that this router has open for it, by id
}

// files are those that hold the locks.
func (l *locks) files() []*os.File {
	if l == nil {
		return nil
	}
	files := slices.Clone(l.folders)
	for _, lock := range l.namespaces {
		files = append(files, lock.file)
	}
	return files
}

// inherited closes what only the process needs once it has started.
func (l *locks) inherited() error {
	if l == nil {
		return nil
	}
	var failed []error
	for _, f := range l.folders {
		failed = append(failed, f.Close())
	}
	l.folders = nil
	return errors.Join(failed...)
}

// close is for when the process has ended. nil has nothing.
func (l *locks) close() error {
	if l == nil {
		return nil
	}
	failed := l.inherited()
	for id, lock := range l.namespaces {
		failed = errors.Join(failed, l.storage.unshare(id, lock))
	}
	l.namespaces = nil
	return failed
}

// lock takes the locks that a process of the version needs, and waits for those that
// processes of another router, or one before it, have, for as long as patience.
func (s *objectStorage) lock(ctx context.Context, versionID string, namespaces []deploy.DurableObjectNamespace, patience time.Duration) (_ *locks, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	held := &locks{storage: s, namespaces: map[string]*sharedLock{}}
	if !versionPattern.MatchString(versionID) {
		return nil, fmt.Errorf("the id %q of the version is not one", versionID)
	}
	if err := os.MkdirAll(s.versionDir(versionID), 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, held.close())
		}
	}()
	for _, n := range namespaces {
		if !namespacePattern.MatchString(n.ID) {
			return nil, fmt.Errorf("the id %q of the namespace of class %s is not one", n.ID, n.Class)
		}
		lock, err := s.share(ctx, n.ID)
		if err != nil {
			return nil, fmt.Errorf("lock the storage of the Durable Objects of class %s: %w", n.Class, err)
		}
		held.namespaces[n.ID] = lock
		f, err := s.await(ctx, filepath.Join(versionID, n.ID))
		if err != nil {
			return nil, fmt.Errorf("lock the storage of the Durable Objects of class %s: %w", n.Class, err)
		}
		held.folders = append(held.folders, f)
	}
	return held, nil
}

// share opens the lock of a namespace, or counts one more who needs it.
func (s *objectStorage) share(ctx context.Context, id string) (*sharedLock, error) {
	s.mu.Lock()
	lock := s.shared[id]
	first := lock == nil
	if first {
		lock = &sharedLock{done: make(chan struct{})}
		s.shared[id] = lock
	}
	lock.users++
	s.mu.Unlock()
	if first {
		lock.file, lock.err = s.await(ctx, id)
		close(lock.done)
	}
	<-lock.done
	if lock.err != nil {
		return nil, errors.Join(lock.err, s.unshare(id, lock))
	}
	return lock, nil
}

func (s *objectStorage) unshare(id string, lock *sharedLock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if lock.users--; lock.users > 0 {
		return nil
	}
	if s.shared[id] == lock {
		delete(s.shared, id)
	}
	if lock.file == nil {
		return nil
	}
	return lock.file.Close()
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

// tryLock returns nil without an error if another has the lock, or removes the folder
// that it is in.
func (s *objectStorage) tryLock(id string) (*os.File, error) {
	path := filepath.Join(s.dir, id+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
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
	path := filepath.Join(s.dir, id+".lock")
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return true, nil // it was never opened here, or is removed already
	}
	f, err := s.tryLock(id)
	if f == nil {
		return false, err
	}
	err = s.removeFolders(id)
	// The lock's file goes last: while it is there, an interrupted removal goes on.
	if err == nil {
		err = remove(path)
	}
	return err == nil, errors.Join(err, f.Close())
}

func (s *objectStorage) removeFolders(namespace string) error {
	versions, err := s.versions()
	if err != nil {
		return err
	}
	for _, v := range versions {
		if err := os.RemoveAll(filepath.Join(s.dir, v, namespace)); err != nil {
			return err
		}
		if err := s.unlist(v, namespace); err != nil {
			return err
		}
	}
	return s.forgetAlarms(namespace)
}

// versionsWith lists those that have a folder of a namespace.
func (s *objectStorage) versionsWith(namespace string) ([]string, error) {
	versions, err := s.versions()
	return slices.DeleteFunc(versions, func(v string) bool {
		_, err := os.Lstat(filepath.Join(s.dir, v, namespace))
		return err != nil
	}), err
}

// versions lists those that have a folder.
func (s *objectStorage) versions() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	var ids []string
	for _, e := range entries {
		if e.IsDir() && versionPattern.MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, err
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
