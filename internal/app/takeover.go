package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// A take-over. The new router asks the old one, over a Unix socket in the data folder:
//
//	new: {"version": 1}
//	old: {"sockets": ["gateway", ...]}    with a descriptor for each socket
//	new: {"serving": true}                it is ready, and accepts
//	old: {"draining": true}               it accepts no more
//
// Both accept for a moment, from one queue, so no connection is refused or reset. If
// the new one ends before it serves, the old one goes on as if nothing had been. With
// SO_REUSEPORT each would have a queue of its own, and what waits in the old one's is
// reset when it closes.
const (
	takeOverVersion = 1
	// takeOverTimeout bounds the start of the new router, as the old one sees it.
	takeOverTimeout = 2 * time.Minute
	// readyTimeout is when the new one gives up and leaves everything to the old one.
	readyTimeout = time.Minute
	// warmTimeout is how long it waits for Workers to start, beyond being ready.
	warmTimeout = 15 * time.Second
	// idleGrace is how long idle connections are left open for a next request, whose
	// response ends them, before they are closed without one.
	idleGrace = 2 * time.Second
	// messageBytesMax is the size of the longest message, with room to spare.
	messageBytesMax = 4 << 10
)

type takeOverMessage struct {
	Version  int      `json:"version,omitempty"`
	Sockets  []string `json:"sockets,omitempty"`
	Serving  bool     `json:"serving,omitempty"`
	Draining bool     `json:"draining,omitempty"`
	Error    string   `json:"error,omitempty"` // why there will be no take-over
}

func takeOverPath(dataDir string) (string, error) {
	dir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "takeover.sock")
	if len(path)+len(".new") > socketPathMax {
		return "", fmt.Errorf("the path %s is too long for a socket, so no router can take over: choose a shorter --data-dir", path)
	}
	return path, nil
}

// predecessor is the router that this one takes over from.
type predecessor struct {
	conn    *net.UnixConn
	sockets map[string]net.Listener
}

// askPredecessor returns nil if no router serves from the data folder.
func askPredecessor(ctx context.Context, dataDir string) (_ *predecessor, err error) {
	path, err := takeOverPath(dataDir)
	if err != nil {
		return nil, err
	}
	dialed, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take over from the router that uses %s: %w", dataDir, err)
	}
	conn := dialed.(*net.UnixConn)
	p := &predecessor{conn: conn, sockets: map[string]net.Listener{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("take over from the router that uses %s: %w", dataDir, err), conn.Close(), closeListeners(p.sockets))
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(takeOverTimeout)); err != nil {
		return nil, err
	}
	if err := writeMessage(conn, takeOverMessage{Version: takeOverVersion}); err != nil {
		return nil, err
	}
	message, fds, err := receive(conn)
	for i, fd := range fds {
		if i >= len(message.Sockets) || socketNames[message.Sockets[i]] == "" {
			err = errors.Join(err, syscall.Close(fd))
			continue
		}
		l, errSocket := listenerOf(fd, message.Sockets[i])
		if err = errors.Join(err, errSocket); errSocket == nil {
			p.sockets[socketNames[message.Sockets[i]]] = l
		}
	}
	if err == nil && len(fds) != len(message.Sockets) {
		err = fmt.Errorf("it names %d sockets and passed %d", len(message.Sockets), len(fds))
	}
	return p, err
}

// relieve tells it that this process serves, and returns when it accepts no more.
func (p *predecessor) relieve() error {
	err := writeMessage(p.conn, takeOverMessage{Serving: true})
	if err == nil {
		_, err = readMessage(p.conn)
	}
	return errors.Join(err, p.conn.Close())
}

// writeMessage sends a message, and descriptors with it.
func writeMessage(conn *net.UnixConn, message takeOverMessage, fds ...int) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(append(b, '\n'), rights, nil)
	return err
}

// readMessage returns a message of the other side, and closes what came with it.
func readMessage(conn *net.UnixConn) (takeOverMessage, error) {
	message, fds, err := receive(conn)
	for _, fd := range fds {
		err = errors.Join(err, syscall.Close(fd))
	}
	return message, err
}

// receive returns a message of the other side with its descriptors, which are the
// caller's also if there is an error. Messages take turns, so that one read gives one.
func receive(conn *net.UnixConn) (message takeOverMessage, fds []int, err error) {
	b, rights := make([]byte, messageBytesMax), make([]byte, syscall.CmsgSpace(4*len(socketNames)))
	n, rightsN, _, _, err := conn.ReadMsgUnix(b, rights)
	if err != nil {
		return message, nil, err
	}
	controls, err := syscall.ParseSocketControlMessage(rights[:rightsN])
	if err != nil {
		return message, nil, err
	}
	for i := range controls {
		passed, err := syscall.ParseUnixRights(&controls[i])
		if err != nil {
			return message, fds, err
		}
		fds = append(fds, passed...)
	}
	if n == 0 {
		return message, fds, errors.New("it has ended")
	}
	if err := json.Unmarshal(b[:n], &message); err != nil {
		return message, fds, fmt.Errorf("read what it says: %w", err)
	}
	if message.Error != "" {
		return message, fds, errors.New(message.Error)
	}
	return message, fds, nil
}

// listenForSuccessor opens the socket on which the next router asks. It appears in the
// place of the predecessor's in one step.
func listenForSuccessor(dataDir string) (*net.UnixListener, error) {
	path, err := takeOverPath(dataDir)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(path + ".new"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + ".new", Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // by then it may be another's
	if err := errors.Join(os.Chmod(path+".new", 0o600), os.Rename(path+".new", path)); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// fileDescriptors calls f with the descriptors of listeners, which are good until it returns.
func fileDescriptors(listeners []net.Listener, f func(fds []int) error) error {
	var fds []int
	var next func(i int) error
	next = func(i int) error {
		if i == len(listeners) {
			return f(fds)
		}
		// Not File: its Fd sets the socket to block, for every process that has it.
		raw, err := listeners[i].(*net.TCPListener).SyscallConn()
		if err != nil {
			return err
		}
		var inner error
		err = raw.Control(func(fd uintptr) {
			fds = append(fds, int(fd))
			inner = next(i + 1)
		})
		return errors.Join(err, inner)
	}
	return next(0)
}
