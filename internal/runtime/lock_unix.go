//go:build unix

package runtime

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the lock on f, which f's copies in child processes hold too. It
// reports false if another has it.
func lockFile(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
