//go:build !linux

package runtime

import (
	"errors"
	"syscall"
	"time"
)

// dieWithParent keeps the terminal's signals from the child. Without Linux it
// outlives a parent that is killed.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// memoryOf has no cheap answer here, so that memory is not bounded.
func memoryOf(int) (int64, error) { return 0, errors.ErrUnsupported }

// memoryTotal is not known here.
func memoryTotal() (int64, error) { return 0, errors.ErrUnsupported }

// cpuOf has no cheap answer here: a silent process counts as a busy one.
func cpuOf(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
