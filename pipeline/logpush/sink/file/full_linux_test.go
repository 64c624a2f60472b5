package file_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

// withoutRoom says how a child of the test finds out that there is no room for a file.
const withoutRoom = "TIDEGATE_TEST_WITHOUT_ROOM"

// noRoom are the ways. Each leaves room for a part of a file of the test's in root, until the returned function is called.
var noRoom = map[string]struct {
	begin func(t *testing.T, root string) (end func())
	text  string
}{
	"a full disk": {func(t *testing.T, root string) func() {
		if err := syscall.Mount("tmpfs", root, "tmpfs", 0, "size=256k"); err != nil {
			t.Skipf("no disk can be made here: %v", err)
		}
		t.Cleanup(func() {
			if err := syscall.Unmount(root, 0); err != nil {
				t.Error(err)
			}
		})
		ballast := filepath.Join(root, "ballast")
		if err := os.WriteFile(ballast, make([]byte, 160<<10), 0o600); err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		}
	}, "no space left on device"},
	"a limit": {func(t *testing.T, _ string) func() {
		signal.Ignore(syscall.SIGXFSZ)
		var before syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
			t.Fatal(err)
		}
		set := func(most uint64) {
			if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: before.Max}); err != nil {
				t.Fatal(err)
			}
		}
		set(64 << 10)
		return func() { set(before.Cur) }
	}, "file too large"},
}

// A file for which there is no room is not there by half. It comes again as it was, and is there when there is room again.
// Its error had the name of a hidden file in it, another one at each try, so each try counted as a failure of its own.
func TestAFileForWhichThereIsNoRoom(t *testing.T) {
	if way := os.Getenv(withoutRoom); way != "" {
		comesWhenThereIsRoom(t, way)
		return
	}
	for way := range noRoom {
		t.Run(way, func(t *testing.T) {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFileForWhichThereIsNoRoom$", "-test.v")
			child.Env = append(os.Environ(), withoutRoom+"="+way)
			if way == "a full disk" { // its own root, who may mount, and mounts that nobody else sees
				child.SysProcAttr = &syscall.SysProcAttr{
					Cloneflags: syscall.CLONE_NEWUSER, Unshareflags: syscall.CLONE_NEWNS,
					UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
				}
			}
			said, err := child.CombinedOutput()
			switch _, ran := errors.AsType[*exec.ExitError](err); {
			case err != nil && !ran:
				t.Skipf("no such child can be started here: %v", err)
			case err != nil:
				t.Errorf("%v\n%s", err, said)
			case bytes.Contains(said, []byte("--- SKIP")):
				t.Skipf("%s", said)
			}
		})
	}
}

func comesWhenThereIsRoom(t *testing.T, way string) {
	root, none := t.TempDir(), noRoom[way]
	end := none.begin(t, root)
	s, err := open(t, "file://"+root+"/shop/{DATE}", root)
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, root)
	small, large := sinktest.Object("small.log.gz", "a"), sinktest.Object("large.log.gz", "a")
	large.Body = bytes.Repeat([]byte("0123456789abcdef"), 8<<10)
	var texts []string
	for range 2 {
		e, ok := errors.AsType[*logpush.UploadError](s.Put(t.Context(), large))
		if !ok || e.Permanent || e.Status != 0 || !strings.Contains(e.Text, none.text) {
			t.Fatalf("put returned %+v, want that there is no room, for now", e)
		}
		if left := files(t, root); len(left) != len(before) {
			t.Errorf("it left %q, and there was %q", left, before)
		}
		texts = append(texts, e.Text)
	}
	if texts[0] != texts[1] || strings.Contains(texts[0], "\n") {
		t.Errorf("the same trouble is told as %q", texts)
	}
	if err := s.Put(t.Context(), small); err != nil {
		t.Errorf("a file for which there is room: %v", err)
	}
	end()
	if err := s.Put(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	for _, o := range []logpush.Object{small, large} {
		if got, err := os.ReadFile(filepath.Join(root, "shop", "20261009", o.Name)); err != nil || !bytes.Equal(got, o.Body) {
			t.Errorf("%s has %d bytes, %v, want %d", o.Name, len(got), err, len(o.Body))
		}
	}
}
