//go:build linux && (amd64 || arm64) && !race

package nowait

import (
	"syscall"
	"unsafe"
)

// Read reads what is there. It returns syscall.EAGAIN when there is nothing, and no
// bytes and no error at the end of what the other side sends.
//
// The kernel is asked behind the scheduler's back: an ordinary system call is announced
// to it, so that the goroutine's processor can be given away if the call takes long. These
// ones cannot wait, whatever the descriptor's own mode, and under load the giving
// away cost more than the call: a thread that the kernel had taken off in the middle of it
// looked like one that waits.
func Read(fd uintptr, p []byte) (int, error) {
	return try(syscall.SYS_RECVFROM, fd, p, syscall.MSG_DONTWAIT)
}

// Write sends as much of p as there is room for, or returns syscall.EAGAIN.
func Write(fd uintptr, p []byte) (int, error) {
	return try(syscall.SYS_SENDTO, fd, p, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func try(call, fd uintptr, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, errAgain
		default:
			return 0, errno
		}
	}
}

// errAgain saves an allocation where the error is the ordinary answer.
var errAgain error = syscall.EAGAIN
