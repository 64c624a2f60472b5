package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// findWorkerd returns the path of the Workers runtime, or "" where none is
// installed and none was asked for: origins are served without it.
func (p *process) findWorkerd() (string, error) {
	path, err := runtime.FindWorkerd(p.config.Workers.Workerd)
	if err != nil && p.config.Workers.Workerd != "" {
		return "", err
	}
	if err != nil {
		p.log.Warn("Workers are neither taken nor run", "error", err)
	}
	return path, nil
}

// checker runs uploaded code once; nil where there is no runtime.
func (p *process) checker() (*runtime.Checker, error) {
	path, err := p.findWorkerd()
	if path == "" {
		return nil, err
	}
	checker, err := runtime.NewChecker(path, "", 0)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() error { checker.Close(); return nil })
	return checker, nil
}

// backends returns the ways to the versions, Workers among them where there is a
// runtime.
func (p *process) backends(ctx context.Context, bundles runtime.Bundles, told *ear) (*runtime.Backends, error) {
	config := runtime.DefaultConfig()
	config.Origins = p.config.Network.Origins
	config.Origins.Own = p.notForOrigins.Has
	path, err := p.findWorkerd()
	if err != nil {
		return nil, err
	}
	if path != "" {
		if err := p.listenBindings(ctx); err != nil {
			return nil, err
		}
		dir, err := p.workersDir()
		if err != nil {
			return nil, err
		}
		config.Workers = &runtime.WorkerConfig{
			Workerd: path, DataDir: dir,
			BindingsSocket: p.listeners[listenBindings].Addr().String(),
			DurableObjects: p.config.Workers.DurableObjects,
			ProcessesMax:   p.config.Workers.Max, AllowPrivateNetwork: p.config.Workers.AllowPrivate,
		}
		config.Bundles = bundles
		config.Invocations, config.Ended = told.invocation, told.ended
	}
	backends, err := runtime.New(config, p.log)
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() error { backends.Close(); return nil }) // for a start that fails half-way
	p.services = append(p.services, service{"runtime", stageRuntime, func(stage context.Context) error {
		return closeWithin(ctx, stage, p.stopGrace()-workersRest, backends.CloseBy)
	}})
	return backends, nil
}

// workersRest is how long before the end of a stop Workers must have ended what they
// have in hand. It is for processes that have to be killed then, and for the producers.
const workersRest = 3 * time.Second / 2

// closeWithin waits for the stage and closes by a deadline that counts from the
// beginning of the stop, so that what came before has used up its own time only.
func closeWithin(stop, stage context.Context, grace time.Duration, closeBy func(time.Time)) error {
	select {
	case <-stop.Done():
	case <-stage.Done():
	}
	deadline := time.Now().Add(grace)
	<-stage.Done()
	closeBy(deadline)
	return nil
}

// socketPathMax is what the shortest limit of a Unix socket's path leaves: 104 bytes
// with its end on macOS, 108 on Linux.
const socketPathMax = 103

// listenBindings opens the socket that calls from Worker to Worker come in on. Only
// this user may reach it.
func (p *process) listenBindings(ctx context.Context) error {
	dir, err := filepath.Abs(p.config.DataDir)
	if err != nil {
		return err
	}
	name := "bindings" + p.slot().suffix() + ".sock"
	path := filepath.Join(dir, name)
	if len(path) > socketPathMax {
		if dir, err = os.MkdirTemp("", "tidegate-"); err != nil { // mode 0700
			return fmt.Errorf("make a folder for the bindings' socket, because %s is too long for one: %w", path, err)
		}
		p.closers = append(p.closers, func() error { return os.RemoveAll(dir) })
		path = filepath.Join(dir, name)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a predecessor that was killed
		return fmt.Errorf("listen for calls from Worker to Worker: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("listen for calls from Worker to Worker: %w", err)
	}
	p.keepListener(listenBindings, listener)
	return os.Chmod(path, 0o600)
}

// serveBindings adds the server of that socket. It stops after the public listener,
// whose last requests may call other Workers.
func (p *process) serveBindings(gw *gateway.Gateway) {
	listener := p.listeners[listenBindings]
	if listener == nil {
		return // no Workers run here
	}
	server := gateway.NewServer(gw.BindingHandler()).HTTP
	server.Protocols = new(http.Protocols) // the runtime has HTTP/1.1 only
	server.Protocols.SetHTTP1(true)
	server.ErrorLog = slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)
	p.services = append(p.services, service{listenBindings, stageRouting, func(ctx context.Context) error {
		return serveUntil(ctx, p.log, listenBindings, server, listener, func() time.Duration { return bindingsGrace })
	}})
}

// bindingsGrace is short: no client waits for these calls any more, because the
// public listener has stopped. Only work that goes on after a response makes them.
const bindingsGrace = time.Second

// ear is what the runtime tells the gateway through: each of the two needs the
// other to be made. Processes may start, and end, while the gateway is being made;
// what they tell waits for it.
type ear struct {
	made    chan struct{} // closed once gateway is set, or will never be
	gateway *gateway.Gateway
}

func newEar() *ear { return &ear{made: make(chan struct{})} }

// attach sets whom to tell; nil means that nobody will ever listen.
func (e *ear) attach(g *gateway.Gateway) {
	e.gateway = g
	close(e.made)
}

func (e *ear) invocation(versionID string, inv schema.Invocation) {
	if <-e.made; e.gateway != nil {
		e.gateway.Invocation(versionID, inv)
	}
}

func (e *ear) ended(p deploy.Process, outcome string) {
	if <-e.made; e.gateway != nil {
		e.gateway.Ended(p, outcome)
	}
}
