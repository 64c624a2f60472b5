package e2e

import (
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"tidegate/test/platform"
	"tidegate/test/proc"
)

// addresses are the flags that make a second start listen where the first did.
func addresses(p *platform.Platform) []string {
	return []string{"--api-addr", hostPort(p.Ready.API), "--gateway-addr", hostPort(p.Gateway),
		"--kafka-addr", p.Kafka, "--clickhouse-addr", hostPort(p.ClickHouse)}
}

func hostPort(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

// killEngine sends SIGKILL to the ClickHouse child of p and waits until another
// one answers.
func killEngine(t *testing.T, p *platform.Platform) {
	t.Helper()
	pid := engineChild(t, p.Process().Pid())
	process, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the engine is back", func() (bool, error) {
		conn, err := net.Dial("tcp", hostPort(p.ClickHouse))
		if err != nil {
			return false, err
		}
		_ = conn.Close()
		_, err = p.Query(t.Context(), "SELECT 1")
		return err == nil, err
	})
}

// engineChild finds the engine among the children of a process by its command line.
func engineChild(t *testing.T, parent int) int {
	t.Helper()
	pid, err := proc.Descendant(parent, "engine-child")
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
