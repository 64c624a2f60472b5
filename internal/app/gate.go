package app

import (
	"net"
	"sync"
	"sync/atomic"
)

// gate is a listener whose socket another process may have too. It accepts from open
// to retire: what comes before and after is in the queue for the other one. Only Close
// tells its server that it is over. Its methods may be called concurrently.
type gate struct {
	net.Listener
	openOnce, closeOnce sync.Once
	opened, closed      chan struct{}
	retired             atomic.Bool
}

func newGate(l net.Listener) *gate {
	return &gate{Listener: l, opened: make(chan struct{}), closed: make(chan struct{})}
}

func (g *gate) Accept() (net.Conn, error) {
	select {
	case <-g.opened:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	c, err := g.Listener.Accept()
	if err != nil && g.retired.Load() {
		<-g.closed
		return nil, net.ErrClosed
	}
	return c, err
}

func (g *gate) open() { g.openOnce.Do(func() { close(g.opened) }) }

// retire stops accepting. The socket goes on listening as long as another process has
// it, and keeps what is in its queue.
func (g *gate) retire() error {
	g.retired.Store(true)
	return g.Listener.Close()
}

func (g *gate) Close() (err error) {
	g.closeOnce.Do(func() {
		close(g.closed)
		if !g.retired.Load() {
			err = g.Listener.Close()
		}
	})
	return err
}
