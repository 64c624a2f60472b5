package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/test/platform"
)

// serviceManager does what systemd does for a service with sockets: it holds them,
// passes them to each start, and listens to what the process says of itself.
type serviceManager struct {
	sockets []*os.File
	names   []string
	notices *net.UnixConn

	mu   sync.Mutex
	said []string
}

func newServiceManager(t *testing.T, names ...string) (m *serviceManager, addresses map[string]string) {
	t.Helper()
	m = &serviceManager{names: names}
	addresses = map[string]string{}
	for _, name := range names {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		file, err := listener.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses[name] = listener.Addr().String()
		_ = listener.Close() // file goes on listening
		t.Cleanup(func() { _ = file.Close() })
		m.sockets = append(m.sockets, file)
	}
	var err error
	if m.notices, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "n"), Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, err := m.notices.Read(buffer)
			if err != nil {
				return
			}
			m.mu.Lock()
			m.said = append(m.said, string(buffer[:n]))
			m.mu.Unlock()
		}
	})
	t.Cleanup(func() { _ = m.notices.Close(); reading.Wait() })
	return m, addresses
}

// start runs a command with the sockets. The shell knows the id that the process will
// have, as systemd does.
func (m *serviceManager) start(t *testing.T, name string, args ...string) *platform.Process {
	t.Helper()
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, name}, args...)...)
	cmd.ExtraFiles = m.sockets // from 3 on
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(m.sockets)), "LISTEN_FDNAMES="+strings.Join(m.names, ":"), "NOTIFY_SOCKET="+m.notices.LocalAddr().String())
	log := logOf(t, filepath.Base(name))
	cmd.Stdout, cmd.Stderr = log, log
	process, err := platform.StartCommand(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return process
}

// hears waits until a process has said something n times.
func (m *serviceManager) hears(t *testing.T, what string, n int) {
	t.Helper()
	eventually(t, 30*time.Second, what+" is said", func() (bool, error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		count := 0
		for _, said := range m.said {
			if strings.Contains(said, what) {
				count++
			}
		}
		return count == n, nil
	})
}

// Sockets that the service manager holds are open before the router runs and while it
// is replaced: who comes then waits, and is served.
func TestSocketActivation(t *testing.T) {
	p := start(t, platform.Options{})
	serve(t, p, "shop", okHandler)
	manager, addresses := newServiceManager(t, "ops", "gateway")
	dir := t.TempDir()
	run := func() *platform.Process {
		return manager.start(t, filepath.Join(bin, "router"), "--api-url", p.Ready.API, "--api-token-file", p.TokenFile,
			"--kafka", p.Kafka, "--data-dir", dir, "--ops-addr", "127.0.0.1:1", "--gateway-addr", "127.0.0.1:1") // which nobody may open
	}
	far := *p
	far.Gateway = "http://" + addresses["gateway"]
	visit := func() chan error {
		done := make(chan error, 1)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
		go func() {
			status, body, err := far.Visit(context.WithoutCancel(t.Context()), client, "shop", nil)
			if err == nil && status != http.StatusOK && status != http.StatusServiceUnavailable { // it has no snapshot at its very first moment
				err = fmt.Errorf("status %d: %s", status, body)
			}
			done <- err
		}()
		return done
	}

	early := visit()
	router := run()
	if err := <-early; err != nil {
		t.Errorf("a visit before the first start: %v", err)
	}
	manager.hears(t, fmt.Sprintf("READY=1\nMAINPID=%d", router.Pid()), 1)
	res, err := http.Get("http://" + addresses["ops"] + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("/readyz answers %s after READY=1", res.Status)
	}

	if err := router.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop the router: %v", err)
	}
	manager.hears(t, "STOPPING=1", 1)
	var between []chan error
	for range 20 {
		between = append(between, visit())
	}
	router = run()
	for _, visit := range between {
		if err := <-visit; err != nil {
			t.Errorf("a visit between two processes: %v", err)
		}
	}
	manager.hears(t, "READY=1", 2)
	if err := router.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop the second router: %v", err)
	}
}
