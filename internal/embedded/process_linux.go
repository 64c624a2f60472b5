package embedded

import "syscall"

// dieWithParent has the kernel kill the child when the thread that started it ends, and keeps the terminal's
// signals from it: the parent stops it in its turn.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
