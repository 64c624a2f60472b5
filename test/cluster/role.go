package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidegate/test/cluster/network"
	"tidegate/test/platform"
)

// Ports are the same on every host.
const (
	opsPort        = 9464
	gatewayPort    = 8080
	apiPort        = 8787
	postgresPort   = 5432
	clickhousePort = 8123
)

// readyTimeout is how long a process may take to serve: it may wait for others.
const readyTimeout = 90 * time.Second

// part is one process on a host of its own, and the one that takes its place.
type part struct {
	*network.Host
	program []string // command line; that of a role lacks the folder of the binary
	role    bool
	signal  syscall.Signal // that ends it in order; 0: SIGTERM
	log     *os.File
	process *platform.Process // nil while there is none
	release string            // folder of the binary that was started last
	all     []*platform.Process
}

// start starts the process. Of a role, bin is the folder of the binary.
func (p *part) start(bin string) error {
	command := append([]string(nil), p.program...)
	if p.role {
		command[0] = filepath.Join(bin, command[0])
	}
	command = p.Command(command...)
	process, err := platform.StartProcess(p.log, nil, command[0], command[1:]...)
	if err != nil {
		return err
	}
	p.process, p.release = process, bin
	p.all = append(p.all, process)
	return nil
}

// stop ends the process as an operator would.
func (p *part) stop() error {
	if err := p.process.Terminate(2 * platform.StopContract); err != nil { // the machine is busy
		return fmt.Errorf("stop %s: %w", p.Name, err)
	}
	p.process = nil
	return nil
}

// send sends a signal to the process.
func (p *part) send(s syscall.Signal) error {
	if err := syscall.Kill(p.process.Pid(), s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal %s to %s: %w", s, p.Name, err)
	}
	return nil
}

// kill ends the process at once.
func (p *part) kill() {
	p.process.Kill()
	p.process = nil
}

// ops is a client that holds no connection, and does not wait for silent hosts.
var ops = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (p *part) get(ctx context.Context, path string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Port(opsPort)+path, nil)
	if err != nil {
		return 0, "", err
	}
	res, err := ops.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// ready waits until the process serves.
func (p *part) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return until(ctx, p.Name+" is ready", func() error {
		select {
		case <-p.process.Done():
			return fatal{fmt.Errorf("%s ended by itself", p.Name)}
		default:
		}
		status, text, err := p.get(ctx, "/readyz")
		if err == nil && status != http.StatusOK {
			err = errors.New(text)
		}
		return err
	})
}

// note is the second line of /readyz; empty if there is none.
func (p *part) note(ctx context.Context) (string, error) {
	_, text, err := p.get(ctx, "/readyz")
	_, note, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return note, err
}

// metric is the sum of all series of a metric whose labels have some text.
func (p *part) metric(ctx context.Context, name, labels string) (sum float64, err error) {
	_, text, err := p.get(ctx, "/metrics")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		line := lines.Text()
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest == "" || rest[0] != '{' && rest[0] != ' ' || !strings.Contains(rest, labels) {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, p.Name, err)
		}
		sum += value
	}
	return sum, nil
}

// fatal is an error for which waiting is no use.
type fatal struct{ error }

// until polls a condition until it holds. The error says what did not hold at the end.
func until(ctx context.Context, what string, check func() error) error {
	last := errors.New("nothing was seen")
	err := platform.Poll(ctx, func() (bool, error) {
		err := check()
		if _, ok := errors.AsType[fatal](err); ok {
			return false, err
		}
		if err != nil && ctx.Err() == nil {
			last = err // the end of ctx says nothing about the condition
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("until %s: %w (last: %w)", what, err, last)
	}
	return nil
}
