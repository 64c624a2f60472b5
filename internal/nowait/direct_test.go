//go:build linux && (amd64 || arm64) && !race

package nowait_test

import (
	"errors"
	"syscall"
	"testing"
)

func TestReadDoesNotWaitWhereTheDescriptorWould(t *testing.T) {
	a, _ := pair(t)
	if err := raw(t, a).Control(func(fd uintptr) {
		if err := syscall.SetNonblock(int(fd), false); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	var p [8]byte
	if n, err := tryRead(t, a, p[:]); n != 0 || !errors.Is(err, syscall.EAGAIN) {
		t.Errorf("of a silent connection: %d bytes, %v; want EAGAIN", n, err)
	}
}
