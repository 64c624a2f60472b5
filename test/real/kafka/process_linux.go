package kafka

import "syscall"

// dieWithParent has the kernel kill a broker when the test dies.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
