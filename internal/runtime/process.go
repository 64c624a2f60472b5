package runtime

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"tidegate/schema"
)

// controlFD is where workerd writes a line for each socket that listens.
const controlFD = 3

// spawner starts child processes. The kernel ties "die with the parent" to the
// thread that started the child, so one goroutine keeps its thread to itself and
// starts them all, until close.
type spawner struct {
	starts chan func()
	ended  chan struct{}
}

func newSpawner() *spawner {
	s := &spawner{starts: make(chan func()), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		for start := range s.starts {
			start()
		}
	}()
	return s
}

func (s *spawner) start(cmd *exec.Cmd) error {
	result := make(chan error)
	s.starts <- func() { result <- cmd.Start() }
	return <-result
}

// close kills what is still running, by ending the thread.
func (s *spawner) close() {
	close(s.starts)
	<-s.ended
}

// process is a running workerd.
type process struct {
	cmd    *exec.Cmd
	pid    int
	log    *logRelay
	ready  chan struct{} // closed when every socket listens
	done   chan struct{} // closed when it has ended; err is set then
	err    error
	killed atomic.Pointer[string] // the outcome of what it had in hand, if we killed it
	asked  atomic.Bool            // that it stop
}

// startProcess runs a configuration whose sockets are counted. It does not wait
// until they listen. The process inherits the files of held and leaves them alone:
// their locks end with it.
func startProcess(s *spawner, workerd, config string, sockets int, flags []string, log *slog.Logger, held ...*os.File) (*process, error) {
	control, theirs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p := &process{log: newLogRelay(log), ready: make(chan struct{}), done: make(chan struct{})}
	args := append([]string{"serve", fmt.Sprintf("--control-fd=%d", controlFD)}, flags...)
	p.cmd = exec.Command(workerd, append(args, config, "config")...) //nolint:noctx // it outlives the call; stop and kill end it
	p.cmd.ExtraFiles = append([]*os.File{controlFD - 3: theirs}, held...)
	// Standard output is the Worker's console, which its events carry already.
	p.cmd.Stdout, p.cmd.Stderr = nil, p.log
	p.cmd.Env = []string{} // the router's is none of its business
	p.cmd.SysProcAttr = dieWithParent()
	p.cmd.WaitDelay = time.Second
	err = s.start(p.cmd)
	if err := errors.Join(err, theirs.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", workerd, err), control.Close())
	}
	p.pid = p.cmd.Process.Pid
	controlled := make(chan struct{})
	go func() {
		defer close(controlled)
		p.readControl(control, sockets)
	}()
	go func() {
		p.err = cmp.Or(p.cmd.Wait(), errors.New("exit status 0"))
		_ = control.Close() // ends the reading, should it not have ended
		<-controlled
		p.log.flush()
		close(p.done)
	}()
	return p, nil
}

// readControl reads until the process has ended.
func (p *process) readControl(control *os.File, sockets int) {
	lines := bufio.NewScanner(control)
	for lines.Scan() {
		var e struct{ Event string }
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Event == "listen" {
			if sockets--; sockets == 0 {
				close(p.ready)
			}
		}
	}
}

// waitReady returns when every socket listens. errStartTimeout and an ended process
// leave the rest to the caller: nothing is killed.
func (p *process) waitReady(ctx context.Context, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-p.ready:
		return nil
	case <-p.done:
		return errors.New(p.startupError())
	case <-timer.C:
		return errStartTimeout
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errStartTimeout = errors.New("the script's top level did not end in time")

// startupError tells why the process ended before it listened: what the runtime
// said of the user's Worker, or else the last that it said at all.
func (p *process) startupError() string {
	if outcome := p.killed.Load(); outcome != nil && *outcome == schema.OutcomeExceededMemory {
		return "the script used more memory than it may"
	}
	text := p.log.tail()
	if said := saidOfUser(text); said != "" {
		return said
	}
	text = strings.ReplaceAll(text, `Worker "user"'s`, "The Worker's")
	if outOfMemory(text) {
		return "the script used more memory than it may"
	}
	if text = strings.TrimSpace(text); text != "" {
		return text
	}
	return "workerd ended: " + p.err.Error()
}

// saidOfUser is what text, of the runtime, says of the user's Worker. Each remark begins a
// line with the Worker's name. That a flag is on anyway is a remark, and no reason to end.
func saidOfUser(text string) string {
	var reasons []string
	for _, remark := range strings.Split("\n"+text, "\nservice user: ")[1:] {
		if !strings.HasPrefix(remark, "The compatibility flag ") || !strings.Contains(remark, " became the default ") {
			reasons = append(reasons, strings.TrimSpace(remark))
		}
	}
	return strings.Join(reasons, "\n")
}

// outOfMemory recognises V8's last words.
func outOfMemory(text string) bool { return strings.Contains(text, "JavaScript heap out of memory") }

// kill ends the process at once. outcome is what becomes of its requests.
func (p *process) kill(outcome string) {
	p.killed.CompareAndSwap(nil, &outcome)
	_ = p.cmd.Process.Kill() // it fails only if the process has ended already
}

// stop lets the process finish what it has in hand, for as long as grace, and
// returns when it has ended.
func (p *process) stop(grace time.Duration) {
	p.asked.Store(true)
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // as above
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill() // as above
		<-p.done
	}
}

// outcome says what became of the requests that it had in hand when it ended: ""
// if it was asked to stop and did. It is final when done is closed.
func (p *process) outcome() string {
	if o := p.killed.Load(); o != nil {
		return *o
	}
	switch {
	case !p.isDone():
		return ""
	case outOfMemory(p.log.tail()):
		return schema.OutcomeExceededMemory
	case p.asked.Load():
		return ""
	}
	return schema.OutcomeInternalError
}

func (p *process) isDone() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// endsWithin waits for the process to end, and reports whether it did.
func (p *process) endsWithin(d time.Duration) bool {
	if p.isDone() {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}
