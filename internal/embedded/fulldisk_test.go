//go:build linux

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sys/unix"
)

// mountEnv is set where this must be able to mount a file system: by make test-cluster.
const mountEnv = "TIDEGATE_TEST_MOUNT"

// smallDisk is a file system of this test alone, whose size can be changed.
type smallDisk struct{ dir string }

func newSmallDisk(t *testing.T) smallDisk {
	t.Helper()
	d := smallDisk{t.TempDir()}
	if err := syscall.Mount("tmpfs", d.dir, "tmpfs", 0, "size=256m"); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(d.dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return d
}

// cannotMount skips the test, unless mountEnv says that it must run.
func cannotMount(t *testing.T, err error) {
	t.Helper()
	why := fmt.Sprintf("this test fills a file system of its own, which root may make and mount: %v", err)
	if os.Getenv(mountEnv) != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

// fill leaves no byte free, at one moment.
func (d smallDisk) fill(t *testing.T) {
	t.Helper()
	for { // it becomes fuller meanwhile
		var s syscall.Statfs_t
		if err := syscall.Statfs(d.dir, &s); err != nil {
			t.Fatal(err)
		}
		if d.resize((s.Blocks-s.Bfree)*uint64(s.Bsize)) == nil {
			return
		}
	}
}

func (d smallDisk) resize(bytes uint64) error {
	return syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", bytes))
}

// What the engine wrote while the last byte of the disk was taken was answered as stored, although its part was empty:
// a rollup was short of some events for ever. Here the disk is full in the middle of inserts, again and again; each
// block is offered until it is answered, and must count once in the table and in each view.
func TestFullDiskLosesNoBlock(t *testing.T) {
	disk := newSmallDisk(t)
	e := startEngine(t, filepath.Join(disk.dir, "data"))
	const once = " ENGINE = MergeTree ORDER BY a SETTINGS non_replicated_deduplication_window = 10000"
	mustAsk(t, e, "CREATE TABLE t (a Int64, text String)"+once)
	const views = 3
	for v := range views {
		mustAsk(t, e, fmt.Sprintf("CREATE TABLE t%d (a Int64, text String)%s", v, once))
		mustAsk(t, e, fmt.Sprintf("CREATE MATERIALIZED VIEW v%d TO t%[1]d AS SELECT * FROM t", v))
	}
	path := mustAsk(t, e, "SELECT data_paths[1] FROM system.tables WHERE name = 't0'")
	const restarts, roundsMax = 2, 60
	text := strings.Repeat("x", 2000)
	finish := startWriters(t, e, 3, ", '"+text+"'")
	for round := 0; e.Restarts() < restarts; round++ {
		if round == roundsMax {
			t.Fatalf("the disk was full in %d inserts, and the engine was started anew only %d times", roundsMax, e.Restarts())
		}
		before, had := mustCount(t, e, "t"), e.Restarts()
		eventually(t, "the writers go on", func() bool { return mustCount(t, e, "t") > before+10 })
		eventually(t, "a view's part is being written", func() bool {
			parts, err := filepath.Glob(filepath.Join(path, "tmp_insert_*"))
			return err == nil && len(parts) > 0
		})
		disk.fill(t)
		// Either a write has failed, or the disk became full between two of them, and the next insert is refused.
		for end := time.Now().Add(2 * writesEvery); e.Restarts() == had && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		if err := disk.resize(256 << 20); err != nil {
			t.Fatal(err)
		}
	}
	want := finish()
	equal(t, "rows of the table", mustCount(t, e, "t"), want)
	for v := range views {
		equal(t, fmt.Sprintf("rows of view %d", v), mustCount(t, e, fmt.Sprintf("t%d", v)), want)
		equal(t, fmt.Sprintf("whole rows of view %d", v), mustCount(t, e, fmt.Sprintf("t%d WHERE length(text) = %d", v, len(text))), want)
	}
}

// The engine writes down what a table is without asking for room first, and could not start again with half of it.
func TestFullDiskRefusesChangesOfTables(t *testing.T) {
	disk := newSmallDisk(t)
	dir := filepath.Join(disk.dir, "data")
	e := startEngine(t, dir)
	mustAsk(t, e, "CREATE TABLE t (a Int64) ENGINE = MergeTree ORDER BY a")
	mustAsk(t, e, "INSERT INTO t VALUES (1)")
	disk.fill(t)
	for _, statement := range []string{"CREATE TABLE u (a Int64) ENGINE = MergeTree ORDER BY a", "ALTER TABLE t ADD COLUMN b Int64", "ALTER TABLE t DELETE WHERE a = 1", "INSERT INTO t VALUES (2)"} {
		a := ask(t, e, "POST", statement)
		equal(t, statement, a.header.Get("X-ClickHouse-Exception-Code"), "243")
	}
	equal(t, "rows on a full disk", mustAsk(t, e, "SELECT groupArray(a) FROM t"), "[1]")
	equal(t, "restarts", e.Restarts(), 0)
	if err := disk.resize(256 << 20); err != nil {
		t.Fatal(err)
	}
	mustAsk(t, e, "ALTER TABLE t ADD COLUMN b Int64")
	mustAsk(t, e, "INSERT INTO t VALUES (2, 3)")
	equal(t, "rows when there is room", mustAsk(t, e, "SELECT sum(a), sum(b) FROM t"), "3\t3")
}

// The broker notes the sequence of a batch before it stores it, and confirmed a batch that came again although the disk
// had been full for the first one: it was nowhere.
func TestFullDiskLosesNoBatch(t *testing.T) {
	disk := newSmallDisk(t)
	b := startBroker(t, "127.0.0.1:0", filepath.Join(disk.dir, "data"), Topic{Name: "events", Partitions: 1})
	s := newSequencer(t, b.Addr(), nil)
	stored := int32(0)
	for range 2 { // the second time, it is the broker that was opened anew
		s.mustSend(stored, int64(stored))
		stored += 2
		disk.fill(t)
		var err error
		for full := stored + 10_000; err == nil && stored < full; { // what it has of its last page is no longer free
			if _, err = s.send(stored); err == nil {
				stored += 2
			}
		}
		if !errors.Is(err, kerr.UnknownServerError) {
			t.Fatalf("on a full disk: %v", err)
		}
		if at, err := s.send(stored); err == nil {
			t.Fatalf("a batch that came again on a full disk is stored at %d", at)
		}
		_, end := offsets(t, b.Addr(), "events", 0)
		equal(t, "end offset on a full disk", end, int64(stored))
		if err := disk.resize(256 << 20); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the batch is stored", func() bool {
			at, err := s.send(stored)
			return err == nil && at == int64(stored)
		})
		s.mustSend(stored, int64(stored)) // again
		stored += 2
		_, end = offsets(t, b.Addr(), "events", 0)
		equal(t, "end offset", end, int64(stored))
	}
}

// The broker confirmed a batch that the disk had taken, and failed to keep when it was flushed: with the power it was
// gone. Here the disk of a file system is itself a file on a full one, and what the kernel has in memory is dropped.
func TestFullDiskBelowAFileSystemLosesNoBatch(t *testing.T) {
	disk := newSmallDisk(t)
	image, dir := filepath.Join(disk.dir, "image"), t.TempDir()
	command := func(name string, args ...string) error {
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), name, args...).CombinedOutput() // #nosec G204 -- ours
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", name, args, err, out)
		}
		return nil
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 512<<20); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(command("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", image), command("mount", "-o", "loop", image, dir)); err != nil {
		cannotMount(t, err)
	}
	t.Cleanup(func() { must(command("umount", dir)) })
	start := func() *Broker {
		return startBroker(t, "127.0.0.1:0", filepath.Join(dir, "data"), Topic{Name: "events", Partitions: 1})
	}
	b := start()
	s := newSequencer(t, b.Addr(), nil)
	stored := int32(0)
	for ; stored < 20; stored += 2 {
		s.mustSend(stored, int64(stored))
	}
	waitForTheDisk(t, filepath.Join(dir, "data", "log"))
	disk.fill(t)
	var err error
	for full := stored + 10_000; err == nil && stored < full; { // it may have room for a few more
		if _, err = s.send(stored); err == nil {
			stored += 2
		}
	}
	if !errors.Is(err, kerr.UnknownServerError) {
		t.Fatalf("on a disk that fails: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	must(command("umount", dir))
	if err := disk.resize(256 << 20); err != nil {
		t.Fatal(err)
	}
	must(command("mount", "-o", "loop", image, dir))
	b = start()
	newSequencer(t, b.Addr(), s).mustSend(stored, int64(stored)) // behind all that was confirmed
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// waitForTheDisk checks that writes to all files below dir do.
func waitForTheDisk(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		flags, err := unix.IoctlGetUint32(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if flags&syncFlag == 0 {
			t.Errorf("writes to %s do not wait for the disk", name)
		}
		files++
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("looked at %d files: %v", files, err)
	}
}
