//go:build unix && (race || !linux || !(amd64 || arm64))

package nowait

import (
	"errors"
	"syscall"
)

// The race detector takes what package syscall sends and receives for an order of
// events, on which tests rely; of direct.go's calls it would know nothing.

// Read reads what is there. It returns syscall.EAGAIN when there is nothing, and no
// bytes and no error at the end of what the other side sends.
func Read(fd uintptr, p []byte) (int, error) { return again(syscall.Read, fd, p) }

// Write sends as much of p as there is room for, or returns syscall.EAGAIN.
func Write(fd uintptr, p []byte) (int, error) { return again(syscall.Write, fd, p) }

// again repeats what a signal has interrupted.
func again(call func(int, []byte) (int, error), fd uintptr, p []byte) (int, error) {
	for {
		n, err := call(int(fd), p)
		if !errors.Is(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}
