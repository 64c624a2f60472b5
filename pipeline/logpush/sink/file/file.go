// Package file is the destination for a folder of this machine, or one that is
// mounted there: file:///srv/logs/{DATE}.
package file

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"tidegate/pipeline/logpush"
)

// Options of every file destination.
type Options struct {
	// Roots are the folders, absolute, that destinations may lie below. They are
	// made when they are missing. Without any there are no file destinations.
	Roots []string
}

type sink struct {
	root   string // one of Options.Roots
	folder string // below root, with slashes and placeholders

	syncFolder func(*os.File) error // makes the names in a folder durable
}

// New returns the sink of a file URL, whose path must lie below one of the roots.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	switch {
	case u.Host != "" && u.Host != "localhost", u.User != nil:
		return nil, errors.New("a file destination has three slashes: file:///folder")
	case u.Query().Has("mode"):
		return nil, errors.New("the parameter mode is not supported: a file destination gets one file for each batch, and has no parameters")
	case u.RawQuery != "":
		return nil, errors.New("a file destination has no parameters")
	case len(options.Roots) == 0:
		return nil, errors.New("file destinations are not allowed: the operator named no folder for them")
	}
	if err := logpush.CheckPlaceholders(u); err != nil {
		return nil, err
	}
	for element := range strings.SplitSeq(u.Path, "/") {
		if element == ".." {
			return nil, errors.New(`the path must not have ".." in it`)
		}
	}
	if strings.ContainsRune(u.Path, 0) {
		return nil, errors.New("the path must not have a zero byte in it")
	}
	folder := path.Clean("/" + u.Path)
	for _, root := range options.Roots {
		clean := filepath.ToSlash(filepath.Clean(root))
		if folder == clean || strings.HasPrefix(folder, strings.TrimSuffix(clean, "/")+"/") {
			return &sink{root: root, folder: strings.TrimPrefix(folder, clean), syncFolder: (*os.File).Sync}, nil
		}
	}
	return nil, fmt.Errorf("the path %s is not below a folder that the operator allows (--logpush-file-roots)", folder)
}

// Traits implements logpush.Traiter.
func (*sink) Traits() logpush.Traits { return logpush.Traits{Overwrites: true} }

// NameOf implements logpush.Namer. It is the file's absolute path.
func (s *sink) NameOf(o *logpush.Object) string { return filepath.Join(s.root, s.name(o)) }

// name is the file's path below the root.
func (s *sink) name(o *logpush.Object) string { return filepath.FromSlash(o.Key(s.folder)) }

// Put implements logpush.Sink. A reader sees the whole file or none: it is
// written under another name, made durable, and renamed. After a crash a hidden
// file ending in .partial may stay behind.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.write(s.name(&o), o.Body); err != nil {
		return &logpush.UploadError{Text: logpush.TextOf([]byte(err.Error()))} // a full disk or a missing right may pass
	}
	return nil
}

func (s *sink) write(name string, body []byte) (err error) {
	if err := s.makeRoot(); err != nil {
		return err
	}
	// Nothing below leaves the root, whatever links lie there.
	root, err := os.OpenRoot(s.root)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a directory that was only read
	folder := filepath.Dir(name)
	if err := root.MkdirAll(folder, 0o750); err != nil {
		return err
	}
	// Two deliveries of the same object, one of them not yet aware that it lost
	// its partition, must not write into one file.
	partial := filepath.Join(folder, "."+filepath.Base(name)+"."+rand.Text()[:8]+".partial")
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreMissing(root.Remove(partial)))
			// With the random name in it, each try would count as another failure.
			err = errors.New(strings.ReplaceAll(err.Error(), partial, name))
		}
	}()
	if err := writeDurably(root, partial, body); err != nil {
		return err
	}
	if err := root.Rename(partial, name); err != nil {
		return err
	}
	// The new name, and those of the folders up to the root: {DATE} makes a new one
	// every day, and another delivery may have made it and not come to this yet.
	for {
		if err := s.sync(root.Open(folder)); err != nil || folder == "." {
			return err
		}
		folder = filepath.Dir(folder)
	}
}

// makeRoot makes the root if it is missing, and the folders above it.
func (s *sink) makeRoot() error {
	var missing []string // deepest first
	for at := filepath.Clean(s.root); ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return err
		}
		missing = append(missing, at)
	}
	if err := os.MkdirAll(s.root, 0o750); err != nil {
		return err
	}
	for _, made := range missing {
		if err := s.sync(os.Open(filepath.Dir(made))); err != nil {
			return err
		}
	}
	return nil
}

// sync makes the names in a folder that was just opened survive a loss of power.
func (s *sink) sync(folder *os.File, err error) error {
	if err != nil {
		return err
	}
	return errors.Join(s.syncFolder(folder), folder.Close())
}

func writeDurably(root *os.Root, name string, body []byte) error {
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
