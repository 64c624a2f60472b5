package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"tidegate/test/proc"
)

// cgroup is a group of this soak's own, of which only the platform's processes are members while a fault is in force.
type cgroup struct{ dir string }

const cgroups = "/sys/fs/cgroup"

// newCgroup makes a group of a controller, of either version of the kernel's interface.
func newCgroup(v1, v2 string) (g *cgroup, version int, err error) {
	name := fmt.Sprintf("tidegate-soak-%d", os.Getpid())
	if _, err := os.Stat(filepath.Join(cgroups, "cgroup.controllers")); err == nil {
		if err := os.WriteFile(filepath.Join(cgroups, "cgroup.subtree_control"), []byte("+"+v2), 0); err != nil {
			return nil, 0, fmt.Errorf("no cgroup with %s: %w", v2, err)
		}
		g, version = &cgroup{filepath.Join(cgroups, name)}, 2
	} else {
		g, version = &cgroup{filepath.Join(cgroups, v1, name)}, 1
	}
	return g, version, os.Mkdir(g.dir, 0o755) // #nosec G301 -- the kernel's
}

func (g *cgroup) set(file, value string) error {
	return os.WriteFile(filepath.Join(g.dir, file), []byte(value), 0)
}

// join moves processes, which may have ended, into the group.
func (g *cgroup) join(pids []int) error {
	for _, pid := range pids {
		if err := g.set("cgroup.procs", strconv.Itoa(pid)); err != nil && alive(pid) {
			return err
		}
	}
	return nil
}

// leave moves all of its processes back to the group above and removes it.
func (g *cgroup) leave() error {
	for range 100 { // processes are born meanwhile
		text, err := os.ReadFile(filepath.Join(g.dir, "cgroup.procs"))
		if err != nil {
			return err
		}
		for pid := range strings.FieldsSeq(string(text)) {
			_ = os.WriteFile(filepath.Join(filepath.Dir(g.dir), "cgroup.procs"), []byte(pid), 0) // it may have ended
		}
		if err = os.Remove(g.dir); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the cgroup %s does not empty", g.dir)
}

func alive(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err == nil
}

// slowWrites is how many writes of the platform the slow disk takes in a second.
const slowWrites = 15

// slow lets the platform's processes write seldom, and refuses if a probe finds that nothing became slower.
func (d *disk) slow(pids []int) (undo func() error, note string, err error) {
	before, err := d.probe(nil)
	if err != nil {
		return nil, "", err
	}
	g, version, err := newCgroup("blkio", "io")
	if err != nil {
		return nil, "", &unavailable{err}
	}
	if version == 1 {
		err = g.set("blkio.throttle.write_iops_device", fmt.Sprintf("%s %d", d.device, slowWrites))
	} else {
		err = g.set("io.max", fmt.Sprintf("%s wiops=%d", d.device, slowWrites))
	}
	if err != nil {
		return nil, "", &unavailable{errors.Join(err, g.leave())}
	}
	slowed, err := d.probe(g)
	if err == nil && slowed < 3*before {
		err = &unavailable{fmt.Errorf("the kernel's throttle has no effect on %s: a synced write took %s before and %s with it", d.device, before, slowed)}
	}
	if err == nil {
		err = g.join(pids)
	}
	if err != nil {
		return nil, "", errors.Join(err, g.leave())
	}
	return g.leave, fmt.Sprintf("a synced write takes %s instead of %s", slowed.Round(time.Millisecond), before.Round(time.Microsecond)), nil
}

// probe tells how long a synced write of 4 KiB takes a member of the group.
func (d *disk) probe(g *cgroup) (time.Duration, error) {
	const writes = 10
	name := filepath.Join(d.dir, "probe")
	script := fmt.Sprintf("exec dd if=/dev/zero of=%s bs=4k count=%d oflag=dsync status=none", name, writes)
	if g != nil {
		script = fmt.Sprintf("echo $$ > %s/cgroup.procs && ", g.dir) + script
	}
	began := time.Now()
	out, err := exec.Command("sh", "-c", script).CombinedOutput() // #nosec G204 -- our own words
	took := time.Since(began) / writes
	if err != nil {
		return 0, fmt.Errorf("probe the disk: %w: %s", err, out)
	}
	return took, os.Remove(name)
}

// squeezeBytes is what the platform may take beyond what it has while memory is short.
const squeezeBytes = 96 << 20

// squeeze leaves the platform's processes little more memory than they have. Who needs more waits until there is
// some; nobody is killed for it.
func squeeze(pids []int) (undo func() error, err error) {
	g, version, err := newCgroup("memory", "memory")
	if err != nil {
		return nil, &unavailable{err}
	}
	if version == 1 { // pages that they have stay charged where they were
		err = errors.Join(g.set("memory.limit_in_bytes", strconv.Itoa(squeezeBytes)), g.set("memory.oom_control", "1"), g.join(pids))
	} else if err = g.join(pids); err == nil {
		var has int64
		for _, pid := range pids {
			has += proc.Resident(pid)
		}
		err = g.set("memory.high", strconv.FormatInt(has+squeezeBytes, 10))
	}
	if err != nil {
		return nil, &unavailable{errors.Join(err, g.leave())}
	}
	return func() error {
		if version == 1 {
			return errors.Join(g.set("memory.limit_in_bytes", "-1"), g.leave())
		}
		return errors.Join(g.set("memory.high", "max"), g.leave())
	}, nil
}
