package runtime

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

// silentAddress is one at which nobody refuses a connection and nobody takes it, as that of a
// machine that is gone: its queue is full.
func silentAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 100 {
		c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Skip("the system takes every connection")
	return ""
}

// The story: the machine of an endpoint was gone, and clients waited for three seconds, where a
// connection is waited for five. That they left was held against nobody, so that the endpoint
// kept its share of the requests for as long as it was away.
func TestClientsThatWaitInVainForAConnectionTakeTheEndpointOut(t *testing.T) {
	for _, scheme := range []string{"http", "https", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			silent := scheme + "://" + silentAddress(t)
			cfg := quickConfig()
			cfg.DialTimeout, cfg.Ejection, cfg.EjectionMax = time.Hour, time.Hour, time.Hour
			backend := openOrigin(t, cfg, &deploy.Origin{Endpoints: []deploy.Endpoint{{URL: silent, Weight: 1}, {URL: silent + "/again", Weight: 1}}})
			waitFor(t, "an endpoint to be out", func() bool {
				var all sync.WaitGroup
				for range 2 * failuresInARow {
					all.Go(func() {
						ctx, cancel := context.WithTimeout(t.Context(), abandonedAfter+100*time.Millisecond)
						defer cancel()
						req := request(t, http.MethodGet, "/", "").WithContext(ctx)
						if resp, err := backend.RoundTrip(req); err == nil {
							t.Errorf("got %d", resp.StatusCode)
							_ = resp.Body.Close()
						}
					})
				}
				all.Wait()
				return strings.Contains(outOf(t, backend), "(connect)")
			})
		})
	}
}
