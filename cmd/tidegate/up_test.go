package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/embedded"
)

// A second platform in the folder of a running one is refused and leaves its ready
// file alone, by which every other command finds the running one.
func TestUpInAFolderInUse(t *testing.T) {
	dir := t.TempDir()
	unlock, err := embedded.Lock(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unlock() }()
	ready := filepath.Join(dir, "ready.json")
	if err := os.WriteFile(ready, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // it need not wait for the other to end
	command := upCommand()
	command.SetArgs([]string{"--data-dir", dir, "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0"})
	command.SetOut(io.Discard)
	command.SetErr(io.Discard)
	if err := command.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s is in use by tidegate.test (process %d)", dir, os.Getpid())) {
		t.Errorf("got %v, want that the folder is in use", err)
	}
	if _, err := os.Stat(ready); err != nil {
		t.Errorf("the ready file of the running platform: %v", err)
	}
}

// Whoever finds a port taken is told by which flag to give another.
func TestUpOnAPortThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	addresses := map[string]string{"kafka-addr": "127.0.0.1:0", "clickhouse-addr": "127.0.0.1:0"}
	for flag := range addresses {
		args := []string{"--data-dir", t.TempDir()}
		for name, free := range addresses {
			if name == flag {
				free = l.Addr().String()
			}
			args = append(args, "--"+name, free)
		}
		command := upCommand()
		command.SetArgs(args)
		command.SetOut(io.Discard)
		command.SetErr(io.Discard)
		err := command.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "give another address with --"+flag) {
			t.Errorf("--%s: got %v, want the address and the flag", flag, err)
		}
	}
}
