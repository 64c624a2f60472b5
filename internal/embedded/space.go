package embedded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// The engine (chDB 26.7) goes on when it cannot write: it counts the write that failed, leaves the rest of the file
// out, and reports that all is stored (src/IO/WriteBufferFromFileDescriptor.cpp there; a ClickHouse server throws). Such
// a part is in use until the engine starts anew and finds that its files are too short. Then it is set aside: of an
// insert it is gone, and instead of a merged one those are taken that it was merged from, which stay on disk for 30 s.
//
// So from the first write that failed this process answers nothing with success, and ends. The next one has the blocks
// again that were not answered, because their senders repeat them, and knows which of them it has (openWhole).

// errWriteFailed ends a child whose engine could not write all that it was to.
var errWriteFailed = errors.New("the disk was full or broken, and the engine could not write all of a file: it starts anew, without the parts that are not whole")

const (
	// keepFreeBytes of the disk are left alone: inserts, merges and mutations that would need some of them are refused,
	// before they begin and with code 243. The engine fails loudly there, and what else is on the disk goes on.
	keepFreeBytes = 64 << 20
	// writesEvery is how often the writes of merges are looked at, which no statement waits for. It is much less than
	// old_parts_lifetime, after which the parts that were merged are gone.
	writesEvery = time.Second
	// recordsAhead is room for the records of a thousand blocks.
	recordsAhead = 64 << 10
)

// writes knows whether all writes of an engine in this process were good.
type writes struct {
	engine *engine
	dir    string // of the engine's data
	bad    atomic.Bool
	failed chan struct{} // closed with the first that was not
}

func newWrites(e *engine, dir string) *writes {
	return &writes{engine: e, dir: dir, failed: make(chan struct{})}
}

// judge returns what becomes of a statement that ended with err: it did not succeed if a write failed until then, its
// own or another one's. For a read it is enough what is known, because to ask costs as much as a small read.
func (w *writes) judge(reads bool, err error) error {
	if err != nil {
		// Also what fails loudly is half done: the engine remembers a block before it moves its part into place.
		if !reads && writeRefused(asException(err)) {
			w.fail()
		}
		return err
	}
	if reads && !w.bad.Load() {
		return nil
	}
	return w.check()
}

// check asks the engine whether a write has failed.
func (w *writes) check() error {
	if !w.bad.Load() {
		count, err := w.engine.failedWrites()
		if err != nil {
			return err
		}
		if count == 0 {
			return nil
		}
		w.fail()
	}
	return newException(codeNotEnoughSpace, "NOT_ENOUGH_SPACE", "The disk was full while the engine wrote, and what it wrote may not be whole. It starts anew; send the statement again")
}

// room refuses what needs keepFreeBytes. The engine asks for itself before it writes a part. It does not before it writes
// what a table is, or a mutation, and it could not start again with half of one.
func (w *writes) room() error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(w.dir, &s); err != nil {
		return fmt.Errorf("look for room on the disk of %s: %w", w.dir, err)
	}
	free := s.Bavail * uint64(s.Bsize) // #nosec G115 -- not negative
	if free < keepFreeBytes {
		return newException(codeNotEnoughSpace, "NOT_ENOUGH_SPACE", "The disk has %d MiB left, and %d MiB are left alone. Make room and send the statement again", free>>20, keepFreeBytes>>20)
	}
	return nil
}

// watch looks after the writes that no statement waits for, until ctx ends.
func (w *writes) watch(ctx context.Context) {
	tick := time.NewTicker(writesEvery)
	defer tick.Stop()
	for {
		reserveRecords(w.dir)
		_ = w.check() // who is told of it is failed; an engine that does not answer is somebody else's to notice
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *writes) fail() {
	if w.bad.CompareAndSwap(false, true) {
		close(w.failed)
	}
}

// failedWrites counts the writes to files that failed since the engine was opened.
func (e *engine) failedWrites() (count uint64, err error) {
	s, err := e.open("", nil)
	if err != nil {
		return 0, err
	}
	defer s.close()
	_, err = s.run("SELECT sum(value) FROM system.events WHERE event = 'WriteBufferFromFileDescriptorWriteFailed'", "TabSeparated", func(data []byte, _ stats) error {
		count, err = strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("ask the engine for writes that failed: %w", err)
	}
	return count, nil
}

// openWhole opens the engine on dir with whole parts only. The engine sets the others aside when it opens, and still
// believes that it has their blocks; so it is closed again, has these forgotten, and opens a second time.
func openWhole(ctx context.Context, lib *chdb, dir, config string, log *slog.Logger) (*engine, error) {
	for {
		if err := repairDeduplication(dir, log); err != nil {
			return nil, err
		}
		if err := noteAside(dir); err != nil {
			return nil, err
		}
		reserveRecords(dir)
		e, err := openEngine(lib, dir, config)
		if err != nil {
			return nil, err
		}
		aside, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "detached", asidePrefix+"*"))
		if err == nil && len(aside) == 0 {
			return e, nil
		}
		e.close()
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		for _, part := range aside {
			log.Warn("engine set a part aside that is not whole: a disk was full while it was written, or its files were damaged", "part", part)
		}
	}
}

// What the engine sets aside lies in a table's folder "detached" under the part's name behind asidePrefix, and with
// _try1 and so on behind it if there is one of that name. When its blocks are forgotten it is renamed, because a later
// part may have its number, and because this process may be killed before it comes to that.
const asidePrefix = "broken-on-start_"

// asideParts are the names of a table's parts that were set aside and whose blocks are not forgotten yet.
func asideParts(table string) (map[string]bool, error) {
	folders, err := filepath.Glob(filepath.Join(table, "detached", asidePrefix+"*"))
	names := map[string]bool{}
	for _, folder := range folders {
		name, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(folder), asidePrefix), "_try")
		if _, err := os.Stat(filepath.Join(table, name)); errors.Is(err, fs.ErrNotExist) { // else it is a later one's
			names[name] = true
		}
	}
	return names, err
}

// noteAside renames all parts that were set aside: their blocks are forgotten.
func noteAside(dir string) error {
	folders, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "detached", asidePrefix+"*"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		to := filepath.Join(filepath.Dir(folder), fmt.Sprintf("forgotten-%d_%s", time.Now().UnixNano(), filepath.Base(folder)))
		if err := os.Rename(folder, to); err != nil {
			return fmt.Errorf("note that the blocks of a part which is not whole are forgotten: %w", err)
		}
	}
	return nil
}

// reserveRecords takes room on the disk for the next records of each table's blocks. A record that a full disk cuts
// short would be taken for one that a kill cut short, while its part is there: the block would be stored twice. What
// cannot be reserved, on a full disk or where the system has no such call, is left to luck.
func reserveRecords(dir string) {
	folders, _ := filepath.Glob(filepath.Join(dir, "store", "*", "*", "deduplication_logs")) // the pattern is a good one
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil {
			continue // the table was dropped
		}
		for _, entry := range entries {
			if f, err := os.OpenFile(filepath.Join(folder, entry.Name()), os.O_WRONLY, 0); err == nil { // #nosec G304 -- as in repairTable
				_ = reserveBeyondEnd(f, recordsAhead)
				_ = f.Close() // nothing was written
			}
		}
	}
}

// codesOfFiles are those of what the engine does with its files and folders
// (ClickHouse, src/Common/ErrorCodes.cpp); the text says what the system answered.
var codesOfFiles = []int{
	75,  // CANNOT_WRITE_TO_FILE_DESCRIPTOR
	76,  // CANNOT_OPEN_FILE
	77,  // CANNOT_CLOSE_FILE
	88,  // CANNOT_TRUNCATE_FILE
	172, // CANNOT_CREATE_DIRECTORY
	204, // CANNOT_FSYNC
	275, // AIO_WRITE_ERROR
	424, // CANNOT_LINK
	425, // SYSTEM_ERROR
}

// foreignFileError begins the text of an error of C++'s own library of files, which has no code of ClickHouse's. The
// first form is that of an insert, the second that of other statements.
var foreignFileError = regexp.MustCompile(`^Code: (1002\. DB::Exception: (std::exception\. )?Code: 1001, type: [A-Za-z0-9_:]*filesystem_error, |1001\. DB::Exception: std::[A-Za-z0-9_:]*filesystem_error: )`)

// refusals are what the system answers to a write that it cannot do. That it denies a permission, or that a name is too
// long, is none of them: anybody's statement can have the engine open such a file, and it would end each time.
var refusals = []string{
	"No space left on device", "Disk quota exceeded", "File too large", "Input/output error", "Read-only file system",
	"Too many open files", "Cannot allocate memory",
}

// writeRefused goes by codes, too, because a statement can put any words into the text of its own failure. A statement
// that was refused before it wrote, with codeNotEnoughSpace, is none.
func writeRefused(ex *exception) bool {
	return (slices.Contains(codesOfFiles, ex.Code) || foreignFileError.MatchString(ex.Text)) &&
		slices.ContainsFunc(refusals, func(words string) bool { return strings.Contains(ex.Text, words) })
}
