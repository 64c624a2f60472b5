package app

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// quietGateway is a gateway without requests.
type quietGateway struct {
	retired  atomic.Bool
	inFlight atomic.Int64
}

func (g *quietGateway) Retire()         { g.retired.Store(true) }
func (g *quietGateway) InFlight() int64 { return g.inFlight.Load() }
func (g *quietGateway) Warm() bool      { return true }

// testRouter is a process that only listens. What it accepts it greets with its name.
type testRouter struct {
	*process
	gw     *quietGateway
	ended  chan struct{} // closed when it wants to end
	cancel context.CancelFunc
	err    chan error
}

func newTestRouter(t *testing.T, dir, name string, change func(*Config)) *testRouter {
	t.Helper()
	r := openTestRouter(t, dir, name, change)
	if r.replacement != nil { // it was opened
		r.run(t, name)
	}
	return r
}

// openTestRouter is a router that has its sockets and does not run yet.
func openTestRouter(t *testing.T, dir, name string, change func(*Config)) *testRouter {
	t.Helper()
	r := &testRouter{process: &process{log: slog.New(slog.DiscardHandler), config: DefaultConfig(RoleGateway)}, gw: &quietGateway{}, ended: make(chan struct{}), err: make(chan error, 1)}
	r.config.DataDir, r.config.Gateway.Addr, r.config.TakeOver = dir, "127.0.0.1:0", true
	if change != nil {
		change(&r.config)
	}
	if err := r.openListeners(t.Context(), func() { close(r.ended) }); err != nil {
		for _, c := range r.closers {
			_ = c()
		}
		t.Logf("%s: %v", name, err)
		r.err <- err
		r.replacement = nil
		return r
	}
	r.replacement.gateway = r.gw
	return r
}

func (r *testRouter) run(t *testing.T, name string) {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		for {
			c, err := r.listeners[listenGateway].Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, name)
			_ = c.Close()
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.err <- r.keepReplaceable(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		for _, c := range slices.Backward(r.closers) {
			if err := c(); err != nil {
				t.Errorf("close %s: %v", name, err)
			}
		}
		<-accepting
	})
}

// greeting connects and returns who answers.
func greeting(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func (r *testRouter) serves(t *testing.T) {
	t.Helper()
	select {
	case <-r.replacement.serving:
	case err := <-r.err:
		t.Fatalf("the router ended: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the router does not serve")
	}
	path, err := takeOverPath(r.config.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; { // until it can be asked
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody can take over from the router")
		}
	}
}

func TestTakeOverOfASocket(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", nil)
	first.serves(t)
	addr := first.listeners[listenGateway].Addr().String()
	if got := greeting(t, addr); got != "first" {
		t.Fatalf("%q answers", got)
	}
	first.gw.inFlight.Store(1)

	second := newTestRouter(t, dir, "second", nil)
	second.serves(t)
	if got := second.listeners[listenGateway].Addr().String(); got != addr {
		t.Errorf("the second listens on %s, the first on %s", got, addr)
	}
	for deadline := time.Now().Add(time.Minute); !first.gw.retired.Load(); { // until then either may answer
		if got := greeting(t, addr); got != "first" && got != "second" {
			t.Fatalf("%q answers", got)
		}
		if time.Now().After(deadline) {
			t.Fatal("the first gateway was not told to retire")
		}
	}
	for range 20 {
		if got := greeting(t, addr); got != "second" {
			t.Fatalf("%q answers", got)
		}
	}
	select {
	case <-first.ended:
		t.Error("the first ended with a request in flight")
	default:
	}
	first.gw.inFlight.Store(0)
	select {
	case <-first.ended:
	case <-time.After(time.Minute):
		t.Fatal("the first does not end")
	}
	if first.slot().number != 1 || second.slot().number != 2 {
		t.Errorf("the slots are %d and %d", first.slot().number, second.slot().number)
	}
}

// Requests that do not end are given up at the timeout.
func TestDrainAfterATakeOverEnds(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	first.serves(t)
	first.gw.inFlight.Store(1)
	newTestRouter(t, dir, "second", nil).serves(t)
	select {
	case <-first.ended:
	case <-time.After(time.Minute):
		t.Fatal("the first does not end")
	}
	if grace := first.drainGrace(); grace > time.Second {
		t.Errorf("its listeners are given %s more", grace)
	}
}

func TestTakeOverThatFailsChangesNothing(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", nil)
	first.serves(t)
	addr := first.listeners[listenGateway].Addr().String()
	for range 3 {
		asked, err := askPredecessor(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(asked.conn.Close(), closeListeners(asked.sockets)); err != nil {
			t.Fatal(err)
		}
		if got := greeting(t, addr); got != "first" {
			t.Fatalf("%q answers", got)
		}
	}
	if first.gw.retired.Load() {
		t.Error("the gateway was told to retire")
	}
}

func TestTakeOverThatIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", func(c *Config) { c.Workers.DurableObjects = true })
	first.serves(t)
	addr := first.listeners[listenGateway].Addr().String()
	f := func(want string, change func(*Config)) {
		t.Helper()
		select {
		case err := <-newTestRouter(t, dir, "second", change).err:
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want an error with %q", err, want)
			}
		case <-time.After(time.Minute):
			t.Error("the second started")
		}
	}
	f("keeps Durable Objects", nil)
	f("--take-over to replace it", func(c *Config) { c.TakeOver = false })
	if got := greeting(t, addr); got != "first" {
		t.Errorf("%q answers", got)
	}
}

// What a router that was killed left in the folder is no router.
func TestTakeOverFromNobody(t *testing.T) {
	dir := t.TempDir()
	l, err := listenForSuccessor(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r := newTestRouter(t, dir, "alone", nil)
	r.serves(t)
	if got := greeting(t, r.listeners[listenGateway].Addr().String()); got != "alone" {
		t.Errorf("%q answers", got)
	}
	if info, err := os.Stat(filepath.Join(dir, "takeover.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has the mode %v, %v", info.Mode(), err)
	}
}

func TestAnotherAddressIsOpenedAnew(t *testing.T) {
	f := func(flag, is string, want bool) {
		t.Helper()
		addr, err := net.ResolveTCPAddr("tcp", is)
		if err != nil {
			t.Fatal(err)
		}
		if got := sameAddress(flag, addr); got != want {
			t.Errorf("%s and a listener on %s: %v", flag, is, got)
		}
	}
	f("127.0.0.1:80", "127.0.0.1:80", true)
	f("127.0.0.1:0", "127.0.0.1:80", true)
	f(":80", "[::]:80", true)
	f("0.0.0.0:80", "[::]:80", true)
	f("127.0.0.1:80", "127.0.0.1:81", false)
	f("127.0.0.1:80", "[::]:80", false)
	f("", "127.0.0.1:80", false)
}

func TestSlotsOfADataFolder(t *testing.T) {
	dir := t.TempDir()
	var held []*slot
	for n := 1; n <= slotsMax; n++ {
		s, err := takeSlot(dir, true)
		if err != nil || s.number != n {
			t.Fatalf("slot %d: %v, %v", n, s, err)
		}
		held = append(held, s)
	}
	if _, err := takeSlot(dir, true); err == nil || !strings.Contains(err.Error(), "are ending") {
		t.Errorf("one more: %v", err)
	}
	if err := held[2].lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := takeSlot(dir, false); err == nil || !strings.Contains(err.Error(), "--take-over") {
		t.Errorf("one that does not take over: %v", err)
	}
	s, err := takeSlot(dir, true)
	if err != nil || s.number != 3 || s.suffix() != "-3" {
		t.Fatalf("the one that was left: %v, %v", s, err)
	}
	own, others := s.spool()
	if own != filepath.Join(dir, "spool", "3") || len(others) != slotsMax-1 || others[0] != filepath.Join(dir, "spool") {
		t.Errorf("its spool is %s beside %v", own, others)
	}
	for _, s := range append(held, s) {
		_ = s.lock.Close() // one of them has been closed
	}
}

// Descriptors come with whatever a process says. Those that nobody asked for must not
// stay open in the router.
func TestUnwantedDescriptorsAreClosed(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", nil)
	first.serves(t)
	path, err := takeOverPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = read.Close() }()
	if err := errors.Join(writeMessage(conn, takeOverMessage{Version: takeOverVersion + 1}, int(write.Fd())), write.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := readMessage(conn); err == nil || !strings.Contains(err.Error(), "version 1 of the protocol") {
		t.Fatalf("the router says %v", err)
	}
	if err := read.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the other end of the pipe is still open in the router: %v", err)
	}
}

// The story: a router in the second place was killed while the control plane was away.
// The next one began in the first place, where the code of its Workers was not.
func TestCodeOfWorkersOutlivesARouterThatWasKilled(t *testing.T) {
	dir := t.TempDir()
	code := filepath.Join("bundles", "8f2d.json")
	if err := os.MkdirAll(filepath.Join(dir, "workers-2", "bundles"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "workers-2", code), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := takeSlot(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.lock.Close() }()
	p := &process{config: DefaultConfig(RoleGateway), replacement: &replacement{slot: s}}
	p.config.DataDir = dir
	own, err := p.workersDir()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(own, code)); err != nil || string(got) != "{}" {
		t.Errorf("%s has %q: %v", own, got, err)
	}
}

// The story: a new router was not ready in the time that the old one gives it, because
// its machine stood still. The old one went on, the new one served all the same, and
// both did for ever.
func TestRouterThatGaveUpWaitingIsRelieved(t *testing.T) {
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", nil)
	first.serves(t)
	second := openTestRouter(t, dir, "second", nil)
	if err := second.replacement.predecessor.conn.Close(); err != nil {
		t.Fatal(err)
	}
	second.run(t, "second")
	second.serves(t)
	select {
	case <-first.ended:
	case <-time.After(time.Minute):
		t.Fatal("the first does not end")
	}
}

// Routers of two versions speak to each other, and whoever can open the data folder may speak to either. A
// message that is written is read as itself; of any other bytes, only those that are one message are taken.
func FuzzTakeOverMessage(f *testing.F) {
	for _, seed := range []string{`{"version": 1}`, `{"sockets": ["gateway", "gateway-tls"]}`, `{"serving": true} {}`, `{"error": "no"}`, `{"version": 2, "new": {}}`, "", "[]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		here, there := socketPair(t)
		if _, err := there.Write(sent); err != nil {
			t.Fatal(err)
		}
		if err := there.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		message, err := readMessage(here)
		if err != nil {
			return
		}
		if !json.Valid(sent) {
			t.Fatalf("%q was taken as %+v", sent, message)
		}
		if err := writeMessage(here, message); err != nil {
			t.Fatal(err)
		}
		again, err := readMessage(there)
		if err != nil || again.Version != message.Version || !slices.Equal(again.Sockets, message.Sockets) || again.Serving != message.Serving || again.Draining != message.Draining {
			t.Fatalf("%q was taken as %+v, then as %+v, %v", sent, message, again, err)
		}
	})
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket") // #nosec G115 -- a descriptor
		conn, err := net.FileConn(file)
		if err != nil {
			t.Fatal(err)
		}
		_ = file.Close() // conn has a copy
		t.Cleanup(func() { _ = conn.Close() })
		ends[i] = conn.(*net.UnixConn)
	}
	return ends[0], ends[1]
}
