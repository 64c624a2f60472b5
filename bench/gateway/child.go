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
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
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

// cpuTime returns what the process and its children have used so far, in steps of 10 ms;
// 0 where there is no /proc. On a busy machine CPU per request says more than a rate.
func (c *child) cpuTime() (sum time.Duration) {
	for _, fields := range c.family() {
		// proc(5): utime and stime are the 14th and 15th, in ticks of 10 ms.
		for _, field := range fields[11:13] {
			n, _ := strconv.Atoi(field) // the kernel writes numbers
			sum += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return sum
}

// resident returns the memory of the process and its children.
func (c *child) resident() (bytes int64) {
	for _, fields := range c.family() {
		pages, _ := strconv.ParseInt(fields[21], 10, 64) // rss, the 24th
		bytes += pages * int64(os.Getpagesize())
	}
	return bytes
}

// family returns what /proc says of the process and its children, from the third field on:
// nginx works in children of its own.
func (c *child) family() (list [][]string) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is a good one
	own := strconv.Itoa(c.cmd.Process.Pid)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		text := string(raw)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // after the name, which may hold anything
		if fields[1] == own || strings.HasPrefix(text, own+" ") {
			list = append(list, fields)
		}
	}
	return list
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
