package file_test

import (
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func open(t *testing.T, conf string, roots ...string) (logpush.Sink, error) {
	t.Helper()
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	return file.New(u, file.Options{Roots: roots})
}

func TestSink(t *testing.T) {
	sinktest.Run(t, func(t *testing.T) sinktest.Subject {
		root := filepath.Join(t.TempDir(), "made", "by the sink")
		s, err := open(t, "file://"+(&url.URL{Path: root}).EscapedPath()+"/shop/{DATE}", root)
		if err != nil {
			t.Fatal(err)
		}
		name := func(o logpush.Object) string { return filepath.Join(root, "shop", "20261009", o.Name) }
		return sinktest.Subject{
			Sink: s,
			Name: name,
			Stored: func(o logpush.Object) ([]byte, bool) {
				b, err := os.ReadFile(name(o))
				return b, err == nil
			},
			Count: func() int { return len(files(t, root)) },
			Break: func() { // a folder cannot be made where a file is
				if err := os.MkdirAll(root, 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(root, "shop"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

// files lists everything below a folder, partial files included.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestALinkCannotLeadOutOfTheRoot(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	if err := os.Symlink(outside, filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	s, err := open(t, "file://"+root+"/link", root)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), sinktest.Object("a.log.gz", "a")); err == nil {
		t.Error("a file was written through a link")
	}
	if left := files(t, outside); len(left) > 0 {
		t.Errorf("files outside the root: %v", left)
	}
}

func TestAFailedWriteLeavesNothingBehind(t *testing.T) {
	root := t.TempDir()
	s, err := open(t, "file://"+root, root)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a.log.gz", "in the way"), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), sinktest.Object("a.log.gz", "a")); err == nil {
		t.Error("a folder was replaced by a file")
	}
	if left := files(t, root); len(left) > 0 {
		t.Errorf("files left behind: %v", left)
	}
}

func TestRefusedDestinations(t *testing.T) {
	f := func(conf, want string, roots ...string) {
		t.Helper()
		_, err := open(t, conf, roots...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gave %v, want an error with %q", conf, err, want)
		}
	}
	f("file:///srv/logs", "not allowed")
	f("file:///etc", "not below", "/srv/logs")
	f("file:///srv/logs2/x", "not below", "/srv/logs")
	f("file:///srv/logs/../../etc", "..", "/srv/logs")
	f("file:///srv/logs/%2e%2e/x", "..", "/srv/logs")
	f("file://srv/logs", "three slashes", "/srv/logs")
	f("file:///srv/logs?mode=0777", "parameters", "/srv/logs")
	f("file:///srv/logs?mode=append", "one file for each batch", "/srv/logs")
	f("file:///srv/logs/{MINUTE}", "{MINUTE}", "/srv/logs")
	f("file:///srv/logs/%00", "zero byte", "/srv/logs")
}
