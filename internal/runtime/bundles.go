package runtime

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"tidegate/internal/deploy"
)

// Bundles is where the code of Workers comes from: the store in the same process,
// or the control plane's API. It may be called concurrently.
type Bundles interface {
	// Bundle returns all but the modules' contents; errs.NotFound if there is no such
	// version of the account, or it is no Worker.
	Bundle(ctx context.Context, accountID, versionID string) (deploy.Bundle, error)
	// Module returns the content of a module of one of the account's versions.
	Module(ctx context.Context, accountID, sha256 string) ([]byte, error)
}

// bundleCache keeps on disk what Bundles gave, so that a router starts Workers
// while the control plane is away. A version never changes, so that what is there is right.
type bundleCache struct {
	source Bundles
	dir    string

	// mu is held to write a file and to sweep. A bundle is written before its modules
	// are looked for, so that sweep keeps those that a start has found.
	mu sync.Mutex
}

var (
	// idPattern is what a version's id may be where it becomes a file's name.
	idPattern   = regexp.MustCompile(`^[0-9A-Za-z-]{1,64}$`)
	hashPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func newBundleCache(source Bundles, dir string) (*bundleCache, error) {
	c := &bundleCache{source: source, dir: dir}
	for _, sub := range []string{c.bundleDir(), c.moduleDir()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, fmt.Errorf("keep Workers on disk: %w", err)
		}
	}
	return c, nil
}

func (c *bundleCache) bundleDir() string { return filepath.Join(c.dir, "bundles") }
func (c *bundleCache) moduleDir() string { return filepath.Join(c.dir, "modules") }

func (c *bundleCache) bundlePath(versionID string) string {
	return filepath.Join(c.bundleDir(), versionID+".json")
}

func (c *bundleCache) modulePath(hash string) string { return filepath.Join(c.moduleDir(), hash) }

// get returns a version with its modules on disk, verified, by hash.
func (c *bundleCache) get(ctx context.Context, accountID, versionID string) (*deploy.Bundle, map[string]string, error) {
	if !idPattern.MatchString(versionID) {
		return nil, nil, fmt.Errorf("the version id %q is not one", versionID)
	}
	b, err := c.bundle(ctx, accountID, versionID)
	if err != nil {
		return nil, nil, err
	}
	paths := make(map[string]string, len(b.Worker.Modules))
	for _, m := range b.Worker.Modules {
		if m.ContentType == deploy.ModuleTypeSourceMap {
			continue
		}
		if err := c.module(ctx, accountID, m); err != nil {
			return nil, nil, err
		}
		paths[m.SHA256] = c.modulePath(m.SHA256)
	}
	return b, paths, nil
}

func (c *bundleCache) bundle(ctx context.Context, accountID, versionID string) (*deploy.Bundle, error) {
	// What is on disk and cannot be read is fetched again, and replaced.
	if b, err := c.readBundle(versionID); err == nil && b.AccountID == accountID && b.VersionID == versionID {
		return b, nil
	}
	b, err := c.source.Bundle(ctx, accountID, versionID)
	if err != nil {
		return nil, fmt.Errorf("fetch version %s: %w", versionID, err)
	}
	if b.AccountID != accountID || b.VersionID != versionID {
		return nil, fmt.Errorf("fetch version %s: what came is version %s of account %s", versionID, b.VersionID, b.AccountID)
	}
	for _, m := range b.Worker.Modules {
		if !hashPattern.MatchString(m.SHA256) {
			return nil, fmt.Errorf("fetch version %s: the hash %q of the module %q is not one", versionID, m.SHA256, m.Name)
		}
	}
	text, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("keep version %s: %w", versionID, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := writeFile(c.bundlePath(versionID), text); err != nil {
		return nil, fmt.Errorf("keep version %s: %w", versionID, err)
	}
	return &b, nil
}

func (c *bundleCache) readBundle(versionID string) (*deploy.Bundle, error) {
	text, err := os.ReadFile(c.bundlePath(versionID))
	if err != nil {
		return nil, err
	}
	var b deploy.Bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, err
	}
	for _, m := range b.Worker.Modules {
		if !hashPattern.MatchString(m.SHA256) {
			return nil, fmt.Errorf("module %q has the hash %q", m.Name, m.SHA256)
		}
	}
	return &b, nil
}

// module makes sure that the file of m is what its name says.
func (c *bundleCache) module(ctx context.Context, accountID string, m deploy.Module) error {
	path := c.modulePath(m.SHA256)
	if content, err := os.ReadFile(path); err == nil && hashOf(content) == m.SHA256 {
		return nil
	}
	content, err := c.source.Module(ctx, accountID, m.SHA256)
	if err != nil {
		return fmt.Errorf("fetch the module %q: %w", m.Name, err)
	}
	if got := hashOf(content); got != m.SHA256 {
		return fmt.Errorf("fetch the module %q: its content has the hash %s, not %s", m.Name, got, m.SHA256)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := writeFile(path, content); err != nil {
		return fmt.Errorf("keep the module %q: %w", m.Name, err)
	}
	return nil
}

// sweep removes the versions that keep does not want, and the modules that no
// version on disk needs.
func (c *bundleCache) sweep(keep func(versionID string) bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	bundles, err := os.ReadDir(c.bundleDir())
	if err != nil {
		return err
	}
	needed := map[string]bool{}
	var failed []error
	for _, f := range bundles {
		id, isBundle := strings.CutSuffix(f.Name(), ".json")
		if isBundle && keep(id) {
			b, err := c.readBundle(id)
			if err != nil {
				continue // bundle fetches it again, and its modules if they are gone by then
			}
			for _, m := range b.Worker.Modules {
				needed[m.SHA256] = true
			}
			continue
		}
		failed = append(failed, remove(filepath.Join(c.bundleDir(), f.Name())))
	}
	modules, err := os.ReadDir(c.moduleDir())
	if err != nil {
		return errors.Join(append(failed, err)...)
	}
	for _, f := range modules {
		if !needed[f.Name()] {
			failed = append(failed, remove(c.modulePath(f.Name())))
		}
	}
	return errors.Join(failed...)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func hashOf(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// writeFile replaces a file as a whole: a reader, also after a crash, finds all of
// it or, should the disk have lost it, something that fails its check.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, remove(f.Name()))
	}
	return nil
}
