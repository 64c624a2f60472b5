// Package platform starts the built binaries, as a user would, and speaks to
// them over HTTP. The demo and the end-to-end tests stand on it.
package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// startDeadline bounds the way to ready.json. A cold start of the engine on a
// busy two-core machine takes a few seconds.
const startDeadline = 90 * time.Second

// Options of a platform. Zero values pick free ports and a fresh folder.
type Options struct {
	Binary  string   // path of bin/tidegate
	DataDir string   // kept after Stop, so that a second Start finds it
	Args    []string // added to "tidegate up"
	Env     []string // added to the environment, KEY=value
	Output  io.Writer
	// Transport serves the API client; nil is http.DefaultTransport.
	Transport http.RoundTripper
}

// Ready is DATA/ready.json.
type Ready struct {
	API        string `json:"api"`
	Gateway    string `json:"gateway"`
	GatewayTLS string `json:"gateway_tls"`
	Kafka      string `json:"kafka"` // of several brokers, with commas between them
	ClickHouse string `json:"clickhouse"`
	AccountID  string `json:"account_id"`
	TokenFile  string `json:"token_file"`
}

// Platform is one running "tidegate up".
type Platform struct {
	Ready
	DataDir string
	Token   string

	process *Process
	client  *http.Client
}

// Process is a child process whose end can be waited for more than once.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// StartProcess starts a command, which lives until Kill or Terminate. Its group is its own, so that a SIGINT at the
// terminal reaches only the parent, which then stops it in order.
func StartProcess(output io.Writer, env []string, name string, args ...string) (*Process, error) {
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(os.Environ(), env...)
	return StartCommand(cmd)
}

// StartCommand is StartProcess for a command that needs more than that.
func StartCommand(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Pid is the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Kill sends SIGKILL and waits for the end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only when it has ended already
	<-p.done
}

// Terminate sends SIGTERM and waits up to grace for a clean end; after that it
// kills, and says so.
func (p *Process) Terminate(grace time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only when it has ended already
	select {
	case <-p.done:
		return p.err
	case <-time.After(grace):
		p.Kill()
		return fmt.Errorf("%s did not stop within %s of SIGTERM", filepath.Base(p.cmd.Path), grace)
	}
}

// Start runs "tidegate up" and waits until it is ready.
func Start(ctx context.Context, o Options) (*Platform, error) {
	ready := filepath.Join(o.DataDir, "ready.json")
	args := append([]string{"up", "--data-dir", o.DataDir, "--api-addr", "127.0.0.1:0", "--gateway-addr", "127.0.0.1:0",
		"--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0"}, o.Args...)
	process, err := StartProcess(o.Output, o.Env, o.Binary, args...)
	if err != nil {
		return nil, err
	}
	p := &Platform{DataDir: o.DataDir, process: process, client: &http.Client{Transport: o.Transport, Timeout: time.Minute}}
	ctx, cancel := context.WithTimeout(ctx, startDeadline)
	defer cancel()
	err = Poll(ctx, func() (bool, error) {
		select {
		case <-process.Done():
			return false, fmt.Errorf("tidegate up ended before it was ready: %w", process.err)
		default:
		}
		b, err := os.ReadFile(ready)
		if err != nil {
			return false, nil
		}
		return true, json.Unmarshal(b, &p.Ready)
	})
	if err != nil {
		process.Kill()
		return nil, fmt.Errorf("wait for %s: %w", ready, err)
	}
	token, err := os.ReadFile(p.TokenFile)
	if err != nil {
		process.Kill()
		return nil, fmt.Errorf("read the admin token: %w", err)
	}
	p.Token = strings.TrimSpace(string(token))
	return p, nil
}

// At is a platform whose parts somebody else started, and stops.
func At(r Ready, token string) *Platform {
	return &Platform{Ready: r, Token: token, client: &http.Client{Timeout: time.Minute}}
}

// Process is the running "tidegate up".
func (p *Platform) Process() *Process { return p.process }

// StopContract is how long a clean stop may take after SIGTERM.
const StopContract = 10 * time.Second

// Stop ends it cleanly, within StopContract.
func (p *Platform) Stop() error { return p.process.Terminate(StopContract) }

// Poll calls f every 20 ms until it returns true or an error, or ctx ends.
func Poll(ctx context.Context, f func() (bool, error)) error {
	for {
		ok, err := f()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}
