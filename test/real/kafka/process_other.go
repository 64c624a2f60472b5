//go:build !linux

package kafka

import "syscall"

// dieWithParent keeps the terminal's signals from a broker: Close ends it.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
