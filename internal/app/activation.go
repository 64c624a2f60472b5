package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// socketNames are what sockets are called outside of this process: by systemd
// (FileDescriptorName=), and in a take-over.
var socketNames = map[string]string{
	"api":         listenAPI,
	"gateway":     listenGateway,
	"gateway-tls": listenTLS,
	"ops":         listenOps,
}

// listenFDsStart is the first descriptor that systemd passes (sd_listen_fds(3)).
const listenFDsStart = 3

// activated returns the listeners that systemd passed to this process, by their names
// in it. The variables that say so are removed: children must not believe them.
func activated() (_ map[string]net.Listener, err error) {
	names, err := passedNames(os.Getenv, os.Getpid())
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		err = errors.Join(err, os.Unsetenv(name))
	}
	if err != nil {
		return nil, fmt.Errorf("take the sockets that systemd passed: %w", err)
	}
	listeners := map[string]net.Listener{}
	for i, name := range names {
		listener, err := listenerOf(listenFDsStart+i, name)
		if err != nil {
			return nil, errors.Join(err, closeListeners(listeners))
		}
		listeners[socketNames[name]] = listener
	}
	return listeners, nil
}

// passedNames reads systemd's variables and returns the names of the sockets, in the
// order of their descriptors. Variables for another process are none.
func passedNames(getenv func(string) string, pid int) ([]string, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %q: it must be a number", getenv("LISTEN_FDS"))
	}
	if n == 0 {
		return nil, nil
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	if len(names) != n {
		return nil, fmt.Errorf("there are %d sockets and the names %q: give each .socket unit a FileDescriptorName=", n, getenv("LISTEN_FDNAMES"))
	}
	for i, name := range names {
		if socketNames[name] == "" {
			return nil, fmt.Errorf("one is named %q: FileDescriptorName= must be one of %s", name, strings.Join(knownSockets(), ", "))
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("two are named %q: one that listens on [::] takes IPv4 too", name)
		}
	}
	return names, nil
}

func knownSockets() []string {
	var names []string
	for name := range socketNames {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// listenerOf makes a listener of a descriptor, which it closes.
func listenerOf(fd int, name string) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	file := os.NewFile(uintptr(fd), name)
	if file == nil {
		return nil, fmt.Errorf("the socket %q has the descriptor %d, which is not open", name, fd)
	}
	listener, err := net.FileListener(file) // has a descriptor of its own
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, fmt.Errorf("the socket %q is not one that listens: %w", name, err)
	}
	if _, ok := listener.(*net.TCPListener); !ok {
		return nil, errors.Join(fmt.Errorf("the socket %q listens on %s %s: it must be one of TCP", name, listener.Addr().Network(), listener.Addr()), listener.Close())
	}
	return listener, nil
}

func closeListeners(listeners map[string]net.Listener) error {
	var errs []error
	for _, l := range listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
