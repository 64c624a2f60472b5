package app

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serviceManager listens as systemd does. Its stop returns what it was told meanwhile.
func serviceManager(t *testing.T) (stop func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	return func() string {
		t.Helper()
		defer func() { _ = conn.Close() }()
		if err := sdNotify("end"); err != nil { // of the queue
			t.Fatal(err)
		}
		var told []string
		for b := make([]byte, 1024); ; {
			n, err := conn.Read(b)
			if err != nil {
				t.Fatal(err)
			}
			if string(b[:n]) == "end" {
				return strings.Join(told, "\n")
			}
			told = append(told, string(b[:n]))
		}
	}
}

func TestServiceManagerIsToldOfTheStop(t *testing.T) {
	manager := serviceManager(t)
	p := &process{log: slog.New(slog.DiscardHandler), config: DefaultConfig(RoleAPI)}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.keepNotified(ctx); err != nil {
		t.Fatal(err)
	}
	if got := manager(); !strings.HasSuffix(got, "STOPPING=1") {
		t.Errorf("it was told %q", got)
	}
}

// The story: a unit whose new router takes over has NotifyAccess=all. What ended then was
// the old router, but its STOPPING=1 was taken for the unit's, which systemd then stopped.
func TestServiceManagerIsNotToldOfARouterThatWasReplaced(t *testing.T) {
	manager := serviceManager(t)
	dir := t.TempDir()
	first := newTestRouter(t, dir, "first", func(c *Config) { c.DrainTimeout = 100 * time.Millisecond })
	first.serves(t)
	newTestRouter(t, dir, "second", nil).serves(t)
	select {
	case <-first.ended:
	case <-time.After(time.Minute):
		t.Fatal("the first does not end")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := first.keepNotified(ctx); err != nil {
		t.Fatal(err)
	}
	if got := manager(); strings.Contains(got, "STOPPING=1") {
		t.Errorf("it was told %q", got)
	}
}
