package embedded

import (
	"os"
	"syscall"
)

// dieWithParent has the kernel kill the child when the thread that started it ends, and keeps the terminal's
// signals from it: the parent stops it in its turn.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// fallocKeepSize has fallocate(2) leave the size of the file as it is.
const fallocKeepSize = 1

// reserveBeyondEnd takes room for more bytes at the end of a file, which stays as long as it is.
func reserveBeyondEnd(f *os.File, more int64) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return syscall.Fallocate(int(f.Fd()), fallocKeepSize, info.Size(), more)
}
