// Package e2e starts the built binaries on free ports and looks at them from
// outside: HTTP, Kafka, ClickHouse, signals.
package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/api/apitest"
	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// bin is the folder of the binaries under test, built once for this run.
var bin string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// Beside deps/, where the binaries look for the native engines.
	bin = filepath.Join(root, "bin", "e2e")
	build := exec.Command("go", "build", "-trimpath", "-o", bin+string(filepath.Separator), "./cmd/...")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0") // as make build does, which has compiled most of it
	build.Stdout, build.Stderr = os.Stdout, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build the binaries under test:", err)
		return 1
	}
	return m.Run()
}

// start runs "tidegate up" until the test ends; its log goes to the test's when
// the test fails, unless the test wants it. Every answer of the API that the test sees through it is held
// against openapi.yaml.
func start(t *testing.T, o platform.Options) *platform.Platform {
	t.Helper()
	if o.DataDir == "" {
		o.DataDir = t.TempDir()
	}
	o.Binary = filepath.Join(bin, "tidegate")
	if o.Output == nil {
		o.Output = logOf(t, "tidegate up")
	}
	contract, err := apitest.NewValidator(o.Transport)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, violation := range contract.Violations() {
			t.Errorf("an answer is not as openapi.yaml says: %s", violation)
		}
	})
	o.Transport = contract
	p, err := platform.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-p.Process().Done(): // the test ended it
		default:
			if err := p.Stop(); err != nil {
				t.Errorf("stop: %v", err)
			}
		}
	})
	return p
}

// logOf keeps the output of a process and shows its end if the test fails.
func logOf(t *testing.T, name string) io.Writer {
	f, err := os.CreateTemp(t.TempDir(), "log-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer func() { _ = f.Close() }()
		if !t.Failed() {
			return
		}
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Log(err)
		}
		const keep = 8000
		t.Logf("the end of the log of %s:\n%s", name, b[max(0, len(b)-keep):])
	})
	return f
}

// eventually polls f until it is true; it fails the test after limit.
func eventually(t *testing.T, limit time.Duration, what string, f func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	var last error
	err := platform.Poll(ctx, func() (bool, error) {
		ok, err := f()
		last = err // parts that were just killed answer with errors for a while
		return ok && err == nil, nil
	})
	if err != nil {
		t.Fatalf("waited %s until %s: %v (last error: %v)", limit, what, err, last)
	}
}

// serve deploys one origin as a script at 100 % and waits until it answers.
func serve(t *testing.T, p *platform.Platform, script string, handler http.HandlerFunc) (versionID string) {
	t.Helper()
	origin := httptest.NewServer(handler)
	t.Cleanup(origin.Close)
	versionID, err := p.UploadOrigin(t.Context(), script, origin.URL, "v1", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Deploy(t.Context(), script, deploy.Split{VersionID: versionID, Percentage: deploy.Full}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, script+" answers", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, script, nil)
		return err == nil && status < 300, err
	})
	return versionID
}

func okHandler(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

// load sends requests from several clients until stop, and counts the outcomes.
type load struct {
	answered, refused atomic.Int64
	firstRefusal      atomic.Pointer[error]
	cancel            context.CancelFunc
	done              sync.WaitGroup
}

// startLoad sends about perSecond requests a second to script.
func startLoad(t *testing.T, p *platform.Platform, script string, perSecond int) *load {
	const clients = 4
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{cancel: cancel}
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	for range clients {
		l.done.Go(func() {
			tick := time.NewTicker(time.Second * clients / time.Duration(perSecond))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				status, body, err := p.Visit(context.WithoutCancel(ctx), client, script, nil)
				if err == nil && status >= 300 {
					err = fmt.Errorf("status %d: %s", status, body)
				}
				if err != nil {
					l.refused.Add(1)
					l.firstRefusal.CompareAndSwap(nil, &err)
					continue
				}
				l.answered.Add(1)
			}
		})
	}
	t.Cleanup(func() { l.stop(); transport.CloseIdleConnections() })
	return l
}

// stop ends the load and waits for the requests in flight.
func (l *load) stop() {
	l.cancel()
	l.done.Wait()
}

// refusal is the first failure, for messages.
func (l *load) refusal() error {
	if err := l.firstRefusal.Load(); err != nil {
		return *err
	}
	return nil
}
