package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// hangingRouter starts a router on a snapshot from disk, with nothing around it, and
// returns when a request hangs in it.
func hangingRouter(t *testing.T, flags ...string) (router *platform.Process, ended <-chan error) {
	t.Helper()
	arrived, release := make(chan struct{}), make(chan struct{})
	origin := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	t.Cleanup(origin.Close)
	t.Cleanup(func() { close(release) }) // before: Close waits for its handlers
	const version = "aaaaaaaa-1111-4111-8111-111111111111"
	snapshot, err := json.Marshal(deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
		AccountID: "00000000000000000000000000000001", Subdomain: "dev", Name: "shop", DeploymentID: "d",
		Versions: []deploy.SnapshotVersion{{ID: version, Origin: &deploy.Origin{URL: origin.URL}}},
		Splits:   []deploy.Split{{VersionID: version, Percentage: deploy.Full}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	dir, gateway := t.TempDir(), "127.0.0.1:"+freePort(t)
	for name, content := range map[string][]byte{"snapshot.json": snapshot, "token": []byte("none")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	nobody := "127.0.0.1:" + freePort(t)
	router, err = platform.StartProcess(logOf(t, "router"), nil, filepath.Join(bin, "router"), append([]string{
		"--api-url", "http://" + nobody, "--api-token-file", filepath.Join(dir, "token"), "--kafka", nobody, "--gateway-addr", gateway, "--data-dir", dir,
	}, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(router.Kill)
	far := platform.Platform{Ready: platform.Ready{Gateway: "http://" + gateway}}
	answered := make(chan error, 1)
	go func() {
		ctx := context.WithoutCancel(t.Context())
		_ = platform.Poll(ctx, func() (bool, error) { // until the router listens
			_, _, err := far.Visit(ctx, &http.Client{Timeout: time.Minute}, "shop", nil)
			select {
			case <-arrived:
				answered <- err
				return true, nil
			case <-router.Done():
				answered <- err
				return true, nil
			default:
				return false, nil
			}
		})
	}()
	select {
	case <-arrived:
	case <-time.After(30 * time.Second):
		t.Fatal("the request has not reached its origin")
	}
	return router, answered
}

// A request that hangs keeps a router for as long as --drain-timeout says, unless it is
// told a second time.
func TestSecondSIGTERMEndsAtOnce(t *testing.T) {
	router, answered := hangingRouter(t, "--drain-timeout", "10m")
	process, err := os.FindProcess(router.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the router ends", func() (bool, error) {
		select {
		case <-router.Done():
			return true, nil
		default:
			return false, process.Signal(syscall.SIGTERM) // the first may still be on its way
		}
	})
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
	ended := router.Terminate(time.Second) // it has ended: this is how
	state, ok := errors.AsType[*exec.ExitError](ended)
	if !ok {
		t.Fatalf("the router ended with %v", ended)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("the router ended with %v, not by the signal", state)
	}
}

// A drain timeout that has passed cuts off what hangs, and the stop is a clean one.
func TestDrainTimeoutCutsOffWhatHangs(t *testing.T) {
	router, answered := hangingRouter(t, "--drain-timeout", "200ms")
	if err := router.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered")
	}
}
