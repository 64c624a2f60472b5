//go:build !linux

package embedded

import (
	"errors"
	"os"
	"syscall"
)

// dieWithParent keeps the terminal's signals from the child: the parent stops it in its turn. That the parent
// has died it learns from its lifeline alone.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

func reserveBeyondEnd(*os.File, int64) error { return errors.ErrUnsupported }
