package embedded

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

const (
	// defaultMemoryLimitBytes is what the engine may use, everything included.
	defaultMemoryLimitBytes = 1 << 30
	// stopGrace is how long Close waits for the child: childGrace and the closing of the tables.
	stopGrace = childGrace + 3*time.Second
	// A child that lived for stableAfter is restarted at once. One that dies sooner waits restartDelay,
	// doubled each time, up to restartDelayMax.
	stableAfter     = time.Second
	restartDelay    = 50 * time.Millisecond
	restartDelayMax = 5 * time.Second
)

// EngineConfig says where the engine listens and what it may use.
type EngineConfig struct {
	Addr    string // loopback host:port of the HTTP interface; port 0 picks a free one
	DataDir string
	// Library is the path of libchdb.so; "" is what FindLibrary finds.
	Library string
	// Command runs RunEngineChild with the arguments appended to it; nil is this program with "engine-child".
	Command []string
	// MemoryLimitBytes bounds the engine's resident memory. A query that would exceed it fails with
	// ClickHouse's code 241. Zero is 1 GiB.
	MemoryLimitBytes int64
	// HangTimeout is how long a running engine may leave a SELECT 1 unanswered before it is killed and started
	// again. Zero is 30 s.
	HangTimeout time.Duration
	Logger      *slog.Logger // nil is silent
}

// Engine is a ClickHouse engine in a child process. Its methods are safe for concurrent use.
type Engine struct {
	command  []string
	dir      string // of the data
	listener *net.TCPListener
	socket   *os.File // listener's, as each child inherits it
	log      *slog.Logger
	pid      atomic.Int64 // of the child; 0 while none runs
	restarts atomic.Int64
	counted  func(reason string) // counts a restart

	hangTimeout time.Duration

	running context.Context // until Close
	stop    context.CancelFunc
	done    chan struct{} // closed when the last child has ended
	close   func() error
}

// StartEngine starts the engine on DataDir and returns when it answers.
//
// The engine runs in a child process, which is started again whenever it dies or no longer answers; its data is
// as of the last answered insert. The socket is this process's, so while no child runs clients wait instead of being
// refused; requests that were under way are broken off. The child dies with this process, however that dies.
func StartEngine(ctx context.Context, cfg EngineConfig) (*Engine, error) {
	e, err := newEngine(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("start the embedded ClickHouse engine: %w", err)
	}
	first := make(chan error)
	go e.supervise(first)
	if err := e.waitReady(ctx, first); err != nil {
		return nil, errors.Join(fmt.Errorf("start the embedded ClickHouse engine: %w", err), e.Close())
	}
	e.log.Info("embedded clickhouse serves", "addr", e.Addr(), "data_dir", cfg.DataDir, "pid", e.Pid())
	return e, nil
}

func newEngine(ctx context.Context, cfg EngineConfig) (*Engine, error) {
	library, err := FindLibrary(cfg.Library)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	command := slices.Clone(cfg.Command)
	if len(command) == 0 {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		command = []string{self, "engine-child"}
	}
	memory := cmp.Or(cfg.MemoryLimitBytes, defaultMemoryLimitBytes)
	log := cfg.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	restarts, err := telemetry.Meter("tidegate/embedded").Int64Counter("tidegate_embedded_engine_restarts_total",
		metric.WithDescription("Starts of the embedded ClickHouse engine after it had ended, by reason: died, hung, disk_full."))
	if err != nil {
		return nil, err
	}
	ln, err := listenAfterPredecessor(ctx, cfg.Addr, dir)
	if err != nil {
		return nil, err
	}
	socket, err := ln.File()
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	e := &Engine{
		command:  append(command, "--data-dir", dir, "--library", library, "--memory-limit", strconv.FormatInt(memory, 10)),
		dir:      dir,
		listener: ln,
		socket:   socket,
		log:      log,
		counted: func(reason string) {
			restarts.Add(context.Background(), 1, metric.WithAttributes(attribute.String("reason", reason)))
		},
		hangTimeout: cmp.Or(cfg.HangTimeout, defaultHangTimeout),
		done:        make(chan struct{}),
	}
	e.running, e.stop = context.WithCancel(context.Background())
	e.close = sync.OnceValue(e.closeOnce)
	return e, nil
}

// Addr returns the address of the HTTP interface, which stays the same while children come and go.
func (e *Engine) Addr() string { return e.listener.Addr().String() }

// Pid returns the process id of the child, 0 while none runs.
func (e *Engine) Pid() int { return int(e.pid.Load()) }

// Restarts returns how often a child that died was replaced.
func (e *Engine) Restarts() int { return int(e.restarts.Load()) }

// Close lets the engine finish the queries in hand, for some seconds, and ends it. Calling it again does
// nothing.
func (e *Engine) Close() error { return e.close() }

func (e *Engine) closeOnce() error {
	e.stop()
	<-e.done
	return errors.Join(e.socket.Close(), e.listener.Close())
}

// supervise runs children until Close. While StartEngine waits for first, a child's end goes there and is the
// end: it could not start.
func (e *Engine) supervise(first chan<- error) {
	defer close(e.done)
	// The kernel ties "die with the parent" to the thread that started the child. This goroutine keeps its
	// thread to itself; it ends after the last child.
	runtime.LockOSThread()
	delay := restartDelay
	for {
		started := time.Now()
		err := e.runChild()
		if e.running.Err() != nil {
			return
		}
		select {
		case first <- err:
			return
		default:
		}
		reason := "died"
		switch {
		case errors.Is(err, errHung):
			reason = "hung"
		case errors.Is(err, errWriteFailed):
			reason = "disk_full"
		}
		// A disk that is still full ends the next child as well, however long that lived.
		if time.Since(started) >= stableAfter && !errors.Is(err, errWriteFailed) {
			delay = 0
		}
		e.log.Error("embedded clickhouse "+reason+"; starting it again", "error", err, "lived", time.Since(started).String(), "delay", delay.String())
		select {
		case <-e.running.Done():
			return
		case <-time.After(delay):
		}
		e.restarts.Add(1)
		e.counted(reason)
		delay = min(max(2*delay, restartDelay), restartDelayMax)
	}
}

// runChild starts a child and waits for its end, which it describes. Close ends it.
func (e *Engine) runChild() (err error) {
	lifeline, ours, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ours.Close()) }()
	relay := &logRelay{log: e.log}
	cmd := exec.CommandContext(e.running, e.command[0], e.command[1:]...) // #nosec G204 -- the operator's own program
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace // then it is killed
	cmd.ExtraFiles = []*os.File{listenerFD - 3: e.socket, lifelineFD - 3: lifeline}
	cmd.Stderr, cmd.Stdout = relay, relay
	cmd.SysProcAttr = dieWithParent()
	cmd.Env = childEnvironment(e.dir)
	err = cmd.Start()
	if err := errors.Join(err, lifeline.Close()); err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	e.pid.Store(int64(cmd.Process.Pid))
	watching, stopWatching := context.WithCancel(e.running)
	hung := make(chan bool, 1)
	go func() { hung <- e.watch(watching, cmd.Process) }()
	err = cmd.Wait()
	stopWatching()
	e.pid.Store(0)
	if <-hung {
		return fmt.Errorf("%w: no answer for %s", errHung, e.hangTimeout)
	}
	if err == nil {
		err = errors.New("exit status 0")
	}
	if cmd.ProcessState.ExitCode() == exitWriteFailed {
		return errWriteFailed
	}
	if last := relay.lastError(); last != "" {
		err = fmt.Errorf("%w: %s", err, last)
	}
	return err
}

// waitReady waits until the engine answers, or a child has ended before it did.
func (e *Engine) waitReady(ctx context.Context, first <-chan error) error {
	ready := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { ready <- e.ping(ctx) }()
	select {
	case err := <-ready:
		return err
	case err := <-first:
		cancel()
		<-ready
		return fmt.Errorf("the engine's process ended before it answered: %w", err)
	}
}

// logRelay passes a child's log on, line by line. The child logs JSON; other lines are the library's.
type logRelay struct {
	log *slog.Logger

	mu   sync.Mutex
	rest []byte // an unfinished line
	last string // the last error
}

func (l *logRelay) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rest = append(l.rest, p...)
	for {
		line, rest, found := bytes.Cut(l.rest, []byte("\n"))
		if !found {
			return len(p), nil
		}
		l.rest = rest
		l.line(line)
	}
}

func (l *logRelay) line(line []byte) {
	var entry map[string]any
	if json.Unmarshal(line, &entry) != nil {
		text := string(bytes.TrimSpace(line))
		l.log.Debug("embedded clickhouse", "output", text)
		if text != "" && !strings.HasPrefix(text, "Logging ") { // where its log is, at every start
			l.last = text
		}
		return
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(fmt.Sprint(entry["level"]))) // unknown: info
	message := fmt.Sprint(entry["msg"])
	var attrs []any
	for key, value := range entry {
		if key != "level" && key != "msg" && key != "time" {
			attrs = append(attrs, slog.Any(key, value))
		}
	}
	if level >= slog.LevelError { // likely why it ends, which its end is reported with
		l.last = message
		if reason, ok := entry["error"]; ok {
			l.last = fmt.Sprint(reason)
		}
	}
	l.log.Log(context.Background(), level, message, attrs...)
}

func (l *logRelay) lastError() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}
