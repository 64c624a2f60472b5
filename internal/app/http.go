package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

// Names of the listeners.
const (
	listenAPI     = "api"
	listenGateway = "gateway"
	listenTLS     = "gateway over TLS"
	listenOps     = "ops"
	// listenBindings is a Unix socket, opened by the gateway's role.
	listenBindings = "bindings"
)

// listen opens every listener before anything else is built: requests made before
// the start wait instead of being refused, and everybody can know the addresses.
// Listeners in passed, which are open already, come before addresses.
func (p *process) listen(ctx context.Context, passed map[string]net.Listener) error {
	p.listeners = map[string]net.Listener{}
	open := func(name, flag, addr string, wanted bool) error {
		listener := passed[name]
		if listener != nil {
			p.keepListener(name, listener)
		}
		if listener != nil && !wanted {
			return fmt.Errorf("a socket for the %s was passed to this process, which has none: name an address by its flag, or do not pass it", name)
		}
		if listener != nil || !wanted {
			return nil
		}
		var config net.ListenConfig
		var err error
		listener, err = config.Listen(ctx, "tcp", addr)
		if err != nil {
			return fmt.Errorf("listen for the %s: %w", name, ListenError(err, flag))
		}
		p.keepListener(name, listener)
		return nil
	}
	return errors.Join(
		open(listenAPI, "api-addr", p.config.API.Addr, p.config.has(RoleAPI)),
		open(listenGateway, "gateway-addr", p.config.Gateway.Addr, p.config.has(RoleGateway)),
		open(listenTLS, "gateway-tls-addr", p.config.Gateway.TLSAddr, p.config.has(RoleGateway) && p.config.Gateway.TLSAddr != ""),
		open(listenOps, "ops-addr", p.config.OpsAddr, p.config.OpsAddr != ""),
	)
}

// ListenError adds to the failure of a listener how it is given another address.
func ListenError(err error, flag string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: end what uses it, which \"tidegate doctor\" names, or give another address with --%s", err, flag)
	}
	return err
}

func (p *process) keepListener(name string, listener net.Listener) {
	p.listeners[name] = listener
	p.closers = append(p.closers, func() error {
		if err := listener.Close(); !errors.Is(err, net.ErrClosed) { // its server has closed it, if it got so far
			return err
		}
		return nil
	})
}

// baseURL is how a listener is reached from this machine.
func (p *process) baseURL(name string) string {
	scheme := "http://"
	if _, ok := p.listeners[name].(secured); ok {
		scheme = "https://"
	}
	return scheme + p.listeners[name].Addr().String()
}

// serve adds an HTTP server on one of the listeners.
func (p *process) serve(name string, server *http.Server) {
	if server.ErrorLog == nil {
		server.ErrorLog = slog.NewLogLogger(p.log.Handler(), slog.LevelWarn)
	}
	p.serveOn(name, server)
}

// httpServer is what http.Server has for those who serve with it.
type httpServer interface {
	Serve(l net.Listener) error
	Shutdown(ctx context.Context) error
	Close() error
}

func (p *process) serveOn(name string, server httpServer) {
	p.services = append(p.services, service{name, stageEdge, func(ctx context.Context) error {
		return serveUntil(ctx, p.log, name, server, p.listeners[name], p.drainGrace)
	}})
}

// serveUntil serves until ctx ends, then finishes the requests in flight. Those
// that take longer than graceOf then says are cut off.
func serveUntil(ctx context.Context, log *slog.Logger, name string, server httpServer, listener net.Listener, graceOf func() time.Duration) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace := graceOf()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		log.WarnContext(ctx, "requests were still in flight and are cut off", "service", name, "grace", grace.String())
		err = server.Close()
	}
	<-failed // http.ErrServerClosed
	return err
}

// drainTimeout is Config.DrainTimeout unless somebody sets another one. It leaves the
// rest of stopGrace to the parts behind the listeners.
const drainTimeout = 4 * time.Second
