package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// retiring is what a take-over wants of the gateway.
type retiring interface {
	Retire()         // every response ends its connection from now on
	InFlight() int64 // requests and switched connections
	Warm() bool      // no Worker that traffic is for is still starting
}

// replacement is how a router takes over from another, and is replaced itself. The
// fields belong to Run and the roles before the services run, then to keepReplaceable.
type replacement struct {
	slot        *slot
	predecessor *predecessor // nil if there is none
	gates       map[string]*gate
	gateway     retiring
	serving     chan struct{}      // closed when the gates are open
	end         context.CancelFunc // of the process

	mu       sync.Mutex
	deadline time.Time // of the requests in flight after a take-over; zero before
}

// slot is nil for a process that nobody can take over from.
func (p *process) slot() *slot {
	if p.replacement == nil {
		return nil
	}
	return p.replacement.slot
}

// replaceable reports whether a process can be taken over from: a router and nothing
// else. The other parts either listen to nobody or keep what one process has at a time.
func (c *Config) replaceable() bool { return slices.Equal(c.Roles, []Role{RoleGateway}) }

// takeOver prepares a router for its successor, and asks its predecessor for its
// sockets, by their names in this process.
func (p *process) takeOver(ctx context.Context, end context.CancelFunc) (sockets map[string]net.Listener, err error) {
	if !p.config.replaceable() {
		return nil, nil
	}
	if err := os.MkdirAll(p.config.DataDir, 0o750); err != nil {
		return nil, err
	}
	r := &replacement{gates: map[string]*gate{}, serving: make(chan struct{}), end: end}
	if p.config.TakeOver {
		if r.predecessor, err = askPredecessor(ctx, p.config.DataDir); err != nil {
			return nil, err
		}
	}
	if r.slot, err = takeSlot(p.config.DataDir, p.config.TakeOver); err != nil {
		return nil, err
	}
	p.closers = append(p.closers, r.slot.lock.Close)
	p.replacement = r
	if r.predecessor == nil {
		return nil, nil
	}
	p.log.Info("taking over", "sockets", len(r.predecessor.sockets))
	return r.predecessor.sockets, nil
}

// fitting closes and takes out the sockets of a predecessor that listened elsewhere, or
// for what this process has not.
func (p *process) fitting(sockets map[string]net.Listener) error {
	wanted := map[string]string{listenGateway: p.config.Gateway.Addr, listenTLS: p.config.Gateway.TLSAddr, listenOps: p.config.OpsAddr}
	for name, l := range sockets {
		if sameAddress(wanted[name], l.Addr()) {
			continue
		}
		p.log.Info("a socket of the router before is not taken over", "listener", name, "its_address", l.Addr().String(), "address", wanted[name])
		delete(sockets, name)
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// sameAddress reports whether a listener is one that a flag asks for.
func sameAddress(flag string, is net.Addr) bool {
	asked, err := net.ResolveTCPAddr("tcp", flag)
	have, ok := is.(*net.TCPAddr)
	if flag == "" || err != nil || !ok {
		return false
	}
	unspecified := func(ip net.IP) bool { return len(ip) == 0 || ip.IsUnspecified() }
	return (asked.Port == 0 || asked.Port == have.Port) && (asked.IP.Equal(have.IP) || unspecified(asked.IP) && unspecified(have.IP))
}

// gated puts gates before the listeners.
func (p *process) gated() {
	if p.replacement == nil {
		return
	}
	for name, l := range p.listeners {
		g := newGate(l)
		p.replacement.gates[name], p.listeners[name] = g, g
		p.closers = append(p.closers, g.Close) // for a start that fails half-way
	}
}

// keepReplaceable serves once everything is ready, relieves the predecessor, and waits
// for a successor. When one serves, it drains and ends the process.
func (p *process) keepReplaceable(ctx context.Context) error {
	r := p.replacement
	if err := p.begin(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	l, err := listenForSuccessor(p.config.DataDir)
	if err != nil {
		p.log.Warn("no router can take over from this one", "error", err)
		<-ctx.Done()
		return nil
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			// It is nobody's, unless a successor has its own there, which accepts anew.
			return nil
		}
		if err != nil {
			return fmt.Errorf("listen for a router that takes over: %w", err)
		}
		if err := p.handOver(ctx, conn); err != nil {
			p.log.WarnContext(ctx, "a take-over came to nothing, this router goes on", "error", err)
			continue
		}
		_ = l.Close() // the successor has one of its own
		p.drain(ctx)
		r.end()
		<-ctx.Done()
		return nil
	}
}

// begin opens the gates: at once, or if there is a predecessor when this process can
// serve as well as that.
func (p *process) begin(ctx context.Context) error {
	r := p.replacement
	open := func() {
		for _, g := range r.gates {
			g.open()
		}
		close(r.serving)
	}
	if r.predecessor == nil {
		open()
		return nil
	}
	ready, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.awaitReady(ready); err != nil && ctx.Err() == nil {
		return fmt.Errorf("take over: this router is not ready, so the one before goes on: %w", err)
	}
	for warm := time.Now().Add(warmTimeout); !r.gateway.Warm() && time.Now().Before(warm) && ctx.Err() == nil; {
		time.Sleep(warmPoll)
	}
	if ctx.Err() != nil {
		return nil // the one before goes on
	}
	open()
	if err := p.relieve(ctx); err != nil && ctx.Err() == nil {
		// This one serves, whatever the other one does.
		p.log.Warn("the router before does not say that it is draining: see whether it ends", "error", err)
	}
	p.log.Info("took over")
	return nil
}

// relieve has the predecessor drain. One that no longer listens to this process either
// has ended, or has given up waiting and would serve beside it: it is asked anew.
func (p *process) relieve(ctx context.Context) error {
	before := p.replacement.predecessor
	for left := relieveAttempts; ; left-- {
		err := before.relieve()
		if err == nil || left == 1 || ctx.Err() != nil {
			return err
		}
		if before, err = askPredecessor(ctx, p.config.DataDir); before == nil || err != nil {
			return err
		}
		if err := closeListeners(before.sockets); err != nil { // which this process has
			return errors.Join(err, before.conn.Close())
		}
	}
}

// relieveAttempts is how often a predecessor is asked to drain; the second one does,
// unless something is wrong.
const relieveAttempts = 3

// warmPoll is how often Workers and requests are looked at.
const warmPoll = 20 * time.Millisecond

// handOver gives the sockets to a successor and returns nil when that serves.
func (p *process) handOver(ctx context.Context, conn *net.UnixConn) (err error) {
	defer func() { err = errors.Join(err, conn.Close()) }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(takeOverTimeout)); err != nil {
		return err
	}
	asked, err := readMessage(conn)
	if err != nil {
		return err
	}
	if refusal := p.refusal(asked); refusal != "" {
		return errors.Join(errors.New(refusal), writeMessage(conn, takeOverMessage{Error: refusal}))
	}
	var answer takeOverMessage
	var listeners []net.Listener
	for name, inside := range socketNames {
		if g := p.replacement.gates[inside]; g != nil {
			answer.Sockets = append(answer.Sockets, name)
			listeners = append(listeners, g.Listener)
		}
	}
	if err := fileDescriptors(listeners, func(fds []int) error { return writeMessage(conn, answer, fds...) }); err != nil {
		return err
	}
	p.log.InfoContext(ctx, "another router is about to take over")
	serving, err := readMessage(conn)
	if err != nil {
		return err
	}
	if !serving.Serving {
		return errors.New("the other router says neither that it serves nor that it does not")
	}
	for _, g := range p.replacement.gates {
		if err := g.retire(); err != nil {
			p.log.WarnContext(ctx, "a listener was not closed", "error", err)
		}
	}
	p.replacement.gateway.Retire()
	// The successor serves: whether it hears of this or not changes nothing.
	_ = writeMessage(conn, takeOverMessage{Draining: true})
	return nil
}

// refusal says why this router cannot be taken over, or is "".
func (p *process) refusal(asked takeOverMessage) string {
	switch {
	case asked.Version != takeOverVersion:
		return fmt.Sprintf("it takes over by version %d of the protocol and was asked for version %d: stop it, then start the new one", takeOverVersion, asked.Version)
	case p.config.Workers.DurableObjects:
		return "it keeps Durable Objects, whose storage one process may open at a time: stop it, then start the new one"
	}
	return ""
}

// drain waits for the requests in flight, up to the drain timeout or the end of ctx.
func (p *process) drain(ctx context.Context) {
	r := p.replacement
	now := time.Now()
	r.mu.Lock()
	r.deadline = now.Add(p.config.DrainTimeout)
	r.mu.Unlock()
	p.log.InfoContext(ctx, "another router has taken over, draining", "requests", r.gateway.InFlight(), "timeout", p.config.DrainTimeout.String())
	tick := time.NewTicker(warmPoll)
	defer tick.Stop()
	idle := now.Add(min(idleGrace, p.config.DrainTimeout))
	for now.Before(r.deadline) && (now.Before(idle) || r.gateway.InFlight() > 0) {
		select {
		case now = <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// drainGrace is how long a listener's requests may go on at a stop. After a take-over
// most of that has passed; the rest is for those that came at the last moment.
func (p *process) drainGrace() time.Duration {
	if p.replacement == nil {
		return p.config.DrainTimeout
	}
	deadline := p.replacement.drainsUntil()
	if deadline.IsZero() {
		return p.config.DrainTimeout
	}
	return min(p.config.DrainTimeout, max(time.Until(deadline), time.Second))
}

// drainsUntil is the deadline of the requests in flight after a take-over, and zero
// before.
func (r *replacement) drainsUntil() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deadline
}

// workersDir is where this router keeps Workers. It begins with what other routers of the
// data folder have fetched, so that Workers start while the control plane is away: after
// a take-over, and after the end of a router that had another slot.
func (p *process) workersDir() (string, error) {
	dir := filepath.Join(p.config.DataDir, "workers")
	if p.replacement == nil {
		return dir, nil
	}
	own := dir + p.replacement.slot.suffix()
	for n := 1; n <= slotsMax; n++ {
		from := dir + (&slot{number: n}).suffix()
		if from == own {
			continue
		}
		for _, kind := range []string{"bundles", "modules"} {
			if err := linkAll(filepath.Join(from, kind), filepath.Join(own, kind)); err != nil {
				return "", fmt.Errorf("take over the code of Workers: %w", err)
			}
		}
	}
	return own, nil
}

// linkAll gives the files of a folder a second name in another one. Neither ever
// changes a file, and both check what they read.
func linkAll(from, to string) error {
	entries, err := os.ReadDir(from)
	if errors.Is(err, os.ErrNotExist) {
		return nil // no Workers there
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		err := os.Link(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) { // swept meanwhile
			return err
		}
	}
	return nil
}
