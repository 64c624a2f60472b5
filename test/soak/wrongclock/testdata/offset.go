package main

import (
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// The file holds one integer of 64 bits, the seconds by which this process's wall clock is ahead. It is mapped, so whoever
// writes it sets the clocks of all processes that were started with it, at once.
func init() {
	name := os.Getenv("SOAK_WALL_CLOCK")
	if name == "" {
		return
	}
	f, err := os.Open(name)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	time.WallOffset.Store((*atomic.Int64)(unsafe.Pointer(&page[0])))
}
