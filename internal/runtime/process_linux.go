package runtime

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// dieWithParent has the kernel kill the child when the thread that started it ends,
// and keeps the terminal's signals from it: the parent stops it in its turn.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}

// clockTick is the unit of CPU time in /proc: USER_HZ, which is 100 on every
// architecture that Go and workerd share.
const clockTick = 10 * time.Millisecond

// memoryOf returns the resident memory of a process.
func memoryOf(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("read the memory of process %d: %q has no second field", pid, b)
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// memoryTotal returns the memory of the machine, or what its control group has of it.
func memoryTotal() (int64, error) {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0, err
	}
	total := int64(info.Totalram) * int64(info.Unit)
	// Absent outside of a container, and "max" in one without a limit.
	if b, err := os.ReadFile("/sys/fs/cgroup/memory.max"); err == nil {
		if limit, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64); err == nil {
			total = min(total, limit)
		}
	}
	return total, nil
}

// cpuOf returns the CPU time that a process has used.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in brackets, which may hold anything.
	_, after, _ := bytes.Cut(b, []byte(") "))
	fields := bytes.Fields(after)
	const user, system = 11, 12 // fields 14 and 15 of proc(5), counted from the third
	if len(fields) <= system {
		return 0, fmt.Errorf("read the CPU time of process %d: %q is too short", pid, b)
	}
	u, err := strconv.ParseInt(string(fields[user]), 10, 64)
	if err != nil {
		return 0, err
	}
	s, err := strconv.ParseInt(string(fields[system]), 10, 64)
	return time.Duration(u+s) * clockTick, err
}
