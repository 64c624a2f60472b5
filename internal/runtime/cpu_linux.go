package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

// threadClock reads the CPU time of a process's first thread, to the nanosecond. Its
// methods may be called concurrently.
type threadClock struct {
	mu    sync.Mutex
	stat  *os.File // proc(5), /proc/pid/task/tid/stat: the state is in it
	sched *os.File // proc(5), /proc/pid/schedstat: time on the CPU is the first number
	buf   [128]byte
}

func openThreadClock(pid int) (*threadClock, error) {
	c := &threadClock{}
	var errs [2]error
	c.stat, errs[0] = os.Open(fmt.Sprintf("/proc/%d/task/%[1]d/stat", pid))
	c.sched, errs[1] = os.Open(fmt.Sprintf("/proc/%d/task/%[1]d/schedstat", pid))
	if err := errors.Join(errs[:]...); err != nil {
		return nil, errors.Join(err, c.close())
	}
	if used, err := c.used(); err != nil || used == 0 {
		// A kernel that does not count says 0.
		return nil, errors.Join(fmt.Errorf("the kernel does not tell the CPU time of thread %d", pid), err, c.close())
	}
	return c, nil
}

// read returns the CPU time that the thread has used. It is false while the thread
// runs, because the kernel counts that up to the last tick only, some milliseconds
// ago, and when the process has ended.
func (c *threadClock) read() (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// The state first: a thread that went to sleep before is counted whole after.
	if !c.asleep() {
		return 0, false
	}
	used, err := c.used()
	return used, err == nil
}

func (c *threadClock) asleep() bool {
	n, err := c.stat.ReadAt(c.buf[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	// After the number and the program's name in brackets, which may hold anything.
	i := bytes.LastIndexByte(c.buf[:min(n, 64)], ')')
	return i > 0 && i+2 < n && c.buf[i+2] == 'S'
}

func (c *threadClock) used() (time.Duration, error) {
	n, err := c.sched.ReadAt(c.buf[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	first, _, _ := bytes.Cut(c.buf[:n], []byte(" "))
	used, err := strconv.ParseInt(string(first), 10, 64)
	return time.Duration(used), err
}

// close returns when nobody reads any more; read is false afterwards.
func (c *threadClock) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range []*os.File{c.stat, c.sched} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
