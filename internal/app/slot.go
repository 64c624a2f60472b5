package app

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// slotsMax is how many routers may have one data folder: the one that serves, and
// those before it that still drain.
const slotsMax = 8

// slot is the number of a router among those of one data folder, from 1. What only one
// process may have is in a folder for each. The lock is held until the process ends,
// however it ends.
type slot struct {
	dir    string
	number int
	lock   *os.File
}

// takeSlot takes the first free slot of a data folder. A router that does not take
// over must be alone.
func takeSlot(dir string, takesOver bool) (s *slot, err error) {
	defer func() {
		if err != nil && s != nil {
			err, s = errors.Join(err, s.lock.Close()), nil
		}
	}()
	for n := 1; n <= slotsMax; n++ {
		file, err := lockSlot(dir, n)
		if err != nil {
			return s, err
		}
		switch {
		case file == nil && !takesOver:
			return s, fmt.Errorf("another router uses %s: give each a --data-dir of its own, or start this one with --take-over to replace it", dir)
		case file != nil && s == nil:
			s = &slot{dir: dir, number: n, lock: file}
		case file != nil:
			if err := file.Close(); err != nil {
				return s, err
			}
		}
	}
	if s == nil {
		return nil, fmt.Errorf("%d routers use %s, all but one of which are ending: wait for the first of them", slotsMax, dir)
	}
	return s, nil
}

// lockSlot returns nil without an error if another process has the slot.
func lockSlot(dir string, n int) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("router-%d.lock", n)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, file.Close()
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", file.Name(), err), file.Close())
}

// suffix is for the name of what has to be there once for each router. The first has
// the names that are in the documentation.
func (s *slot) suffix() string {
	if s == nil || s.number == 1 {
		return ""
	}
	return "-" + strconv.Itoa(s.number)
}

// spool returns this router's folder, and those that ended ones may have left events in.
func (s *slot) spool() (own string, others []string) {
	for n := 1; n <= slotsMax; n++ {
		dir := filepath.Join(s.dir, "spool")
		if n > 1 {
			dir = filepath.Join(dir, strconv.Itoa(n))
		}
		if n == s.number {
			own = dir
		} else {
			others = append(others, dir)
		}
	}
	return own, others
}
