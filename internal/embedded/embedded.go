// Package embedded starts, on one machine and without any service installed, what production gets from
// Apache Kafka and a ClickHouse server: a broker inside this process and the ClickHouse engine in a
// supervised child process. Both listen on loopback and speak the real protocols, so everything past the
// address is the same code as in production.
//
// It is the only package that loads a native library, and only the child process ever does.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// LockWait is how long a starting platform, broker or engine waits for a predecessor to let go of the data directory.
// A killed process lets go at once; one that was left behind by its parent needs the time of its last query.
const LockWait = 10 * time.Second

// ErrInUse is that of a lock that somebody has.
var ErrInUse = errors.New("is in use by another process")

// listenLoopback listens on addr, which must name a loopback host: neither the broker nor the engine asks
// who is calling.
func listenLoopback(ctx context.Context, addr string) (*net.TCPListener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	tcp, ok := ln.(*net.TCPListener)
	if ip, isTCP := ln.Addr().(*net.TCPAddr); !ok || !isTCP || !ip.IP.IsLoopback() {
		return nil, errors.Join(
			fmt.Errorf("%s is not a loopback address: the embedded services have no access control; name 127.0.0.1 or run a real service", addr),
			ln.Close())
	}
	return tcp, nil
}

// listenAfterPredecessor is listenLoopback for an engine on dir. The child of an engine that was killed has its
// socket, too, and takes a moment to die: on a busy machine longer than a supervisor takes to start the next
// platform. As long as somebody holds dir it is that child's; if nobody does, the address is a stranger's.
func listenAfterPredecessor(ctx context.Context, addr, dir string) (*net.TCPListener, error) {
	ln, err := listenLoopback(ctx, addr)
	if !errors.Is(err, syscall.EADDRINUSE) {
		return ln, err
	}
	// A process that ends closes its socket before its lock, whose descriptor is the higher one.
	unlock, err := Lock(ctx, dir)
	if err == nil {
		err = unlock()
	}
	if err != nil {
		return nil, err
	}
	return listenLoopback(ctx, addr)
}

// Lock creates dir and takes its lock, which the kernel releases when the process ends however it ends.
// It waits up to LockWait for another holder; then the error is ErrInUse, and that of ctx if it ended sooner.
func Lock(ctx context.Context, dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	name := filepath.Join(dir, "lock")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600) // #nosec G304 -- the operator's data directory
	if err != nil {
		return nil, err
	}
	patience := time.After(LockWait)
	for {
		// flock belongs to the open file, so two brokers in one process exclude each other too.
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("wait for data directory %s, which %w: %w", dir, ErrInUse, ctx.Err()), f.Close())
		case <-patience:
			return nil, errors.Join(fmt.Errorf("data directory %s %w; stop it or name another directory", dir, ErrInUse), f.Close())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Sandbox says what the engine's process will be kept from on this machine, or why it cannot be.
func Sandbox() (string, error) { return sandboxDescription() }
