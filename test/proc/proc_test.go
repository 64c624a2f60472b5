package proc

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

func TestADescendantIsFoundUntilItHasEnded(t *testing.T) {
	child := exec.Command("sleep", "3599")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	pid, err := Descendant(os.Getpid(), "3599")
	if err != nil || pid != child.Process.Pid {
		t.Errorf("found %d, %v: want %d", pid, err, child.Process.Pid)
	}
	if tree := Tree(os.Getpid()); tree[0] != os.Getpid() || !slices.Contains(tree, pid) {
		t.Errorf("the tree is %v: want %d first, and %d", tree, os.Getpid(), pid)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // it was killed
	if pid, err := Descendant(os.Getpid(), "3599"); err == nil {
		t.Errorf("found %d, which has ended", pid)
	}
	if _, err := CPU(pid); err == nil || Resident(pid) != 0 || CommandLine(pid) != "" {
		t.Error("something is told of a process that has ended")
	}
}

func TestAProcessUsesMemoryAndTime(t *testing.T) {
	before := OwnCPU()
	for OwnCPU() == before { // this loop uses some
	}
	if _, err := CPU(os.Getpid()); err != nil || Resident(os.Getpid()) == 0 {
		t.Errorf("%d bytes are resident, CPU: %v", Resident(os.Getpid()), err)
	}
}
