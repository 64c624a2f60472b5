package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"tidegate/test/proc"
)

// child is a process of the benchmark.
type child struct {
	cmd  *exec.Cmd
	addr string
}

// startSelf starts this program in a role and waits for the address that it prints.
func startSelf(ctx context.Context, role string, args ...string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return startRole(ctx, self, role, args...)
}

// startRole is startSelf of another build of this program.
func startRole(ctx context.Context, program, role string, args ...string) (*child, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	c := &child{cmd: cmd}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.stop()
		return nil, fmt.Errorf("%s did not say where it listens: %w", role, err)
	}
	c.addr = strings.TrimSpace(line)
	return c, nil
}

// cpuTime returns what the process and its descendants have used so far, in steps of 10 ms;
// 0 where there is no /proc. On a busy machine CPU per request says more than a rate.
func (c *child) cpuTime() (sum time.Duration) {
	for _, pid := range proc.Tree(c.cmd.Process.Pid) { // nginx works in children of its own
		if used, err := proc.CPU(pid); err == nil { // else it has ended
			sum += used
		}
	}
	return sum
}

// resident returns the memory of the process and its descendants.
func (c *child) resident() (bytes int64) {
	for _, pid := range proc.Tree(c.cmd.Process.Pid) {
		bytes += proc.Resident(pid)
	}
	return bytes
}

// startPeer starts a program that opens the port by itself, and waits until it answers.
func startPeer(ctx context.Context, addr string, env []string, program string, args ...string) (*child, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	c := &child{cmd: cmd, addr: addr}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			return c, conn.Close()
		}
		if time.Now().After(deadline) {
			c.stop()
			return nil, fmt.Errorf("no %s on %s: %w", program, addr, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// freePort returns an address that nobody listens on.
func freePort(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	_ = c.cmd.Wait()                          // its exit after a signal tells nothing
}

// runLoad runs one measurement in a process of its own.
func runLoad(ctx context.Context, addr string, l loadOptions) (result, error) {
	self, err := os.Executable()
	if err != nil {
		return result{}, err
	}
	args, err := json.Marshal(l)
	if err != nil {
		return result{}, err
	}
	cmd := exec.CommandContext(ctx, self, addr, string(args))
	cmd.Env = append(os.Environ(), roleVariable+"=load")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, errors.Join(fmt.Errorf("load on %s", addr), err)
	}
	r := result{LoadCPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	return r, json.Unmarshal(out, &r)
}
