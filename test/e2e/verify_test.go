package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// report is what a test reads of "tidegate verify --json".
type report struct {
	Verdict    string
	Partitions []struct {
		Partition     int
		Rows, Missing int64
		Faults        []struct {
			Kind        string
			First, Last int64
		}
	}
	Rollups []struct {
		Table               string
		Requests, Different int64
	}
}

// TestVerify asks the running all-in-one, with no flag beside its folder, whether it
// counts what its broker holds.
func TestVerify(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, platform.Options{DataDir: filepath.Join(dir, "data")})
	c := cli{dir: dir}
	verify := func(status int, args ...string) (r report) {
		t.Helper()
		stdout, stderr, got := c.exec(t, filepath.Join(bin, "tidegate"), append([]string{"verify", "--json"}, args...)...)
		if got != status {
			t.Fatalf("tidegate verify %q: status %d, want %d\n%s%s", args, got, status, stdout, stderr)
		}
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := verify(0); r.Verdict != "exact" || len(r.Partitions) != 4 || len(r.Rollups) != 4 {
		t.Errorf("the report of a platform without events is %+v", r)
	}

	serve(t, p, "shop", okHandler)
	traffic := startLoad(t, p, "shop", 300)
	eventually(t, 30*time.Second, "events are stored", func() (bool, error) {
		n, err := p.Count(t.Context(), "SELECT count() FROM trace_events")
		return n > 100, err
	})
	verify(0, "--since", "1h") // in use
	traffic.stop()
	eventually(t, 30*time.Second, "every event has arrived", func() (bool, error) {
		counts, err := p.Counts(t.Context())
		return err == nil && counts.Agree(), err
	})
	var rows int64
	for _, part := range verify(0).Partitions {
		rows += part.Rows
	}
	if rows < 100 {
		t.Errorf("%d rows were compared", rows)
	}
	if text := c.run(t, "verify"); !strings.Contains(text, "PARTITION  OFFSETS") || !strings.Contains(text, "Exact: each of ") {
		t.Errorf("for people it says\n%s", text)
	}

	at, err := p.Count(t.Context(), "SELECT kafka_partition * 1000000 + kafka_offset FROM trace_events ORDER BY ray_id LIMIT 1")
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.Post(p.ClickHouse+"/?database=tidegate&mutations_sync=2", "text/plain",
		strings.NewReader("ALTER TABLE trace_events DELETE WHERE kafka_partition * 1000000 + kafka_offset = (SELECT kafka_partition * 1000000 + kafka_offset FROM trace_events ORDER BY ray_id LIMIT 1)"))
	if err != nil {
		t.Fatal(err)
	}
	answer, _ := io.ReadAll(res.Body)
	if res.Body.Close(); res.StatusCode != http.StatusOK {
		t.Fatalf("delete a row: %s", answer)
	}
	r := verify(1)
	part := r.Partitions[at/1_000_000]
	if len(part.Faults) != 1 || part.Missing != 1 || part.Faults[0].Kind != "missing" || part.Faults[0].First != at%1_000_000 || r.Rollups[0].Different != 1 {
		t.Errorf("offset %d of partition %d is missing, and the report is %+v", at%1_000_000, at/1_000_000, r)
	}
	if _, stderr, status := c.exec(t, filepath.Join(bin, "tidegate"), "verify"); status != 1 || !strings.Contains(stderr, "ClickHouse does not count what Kafka holds") {
		t.Errorf("status %d, %s", status, stderr)
	}

	c.fail(t, 2, "no platform with Kafka and ClickHouse is running", "verify", "--data-dir", "nowhere")
	c.fail(t, 2, "ClickHouse is not available", "verify", "--clickhouse", "http://127.0.0.1:1")
	c.fail(t, 2, "read the partitions of topic workers_trace_events", "verify", "--kafka", "127.0.0.1:1")
	c.fail(t, 2, "name the database", "verify", "--clickhouse", p.ClickHouse+"/system")
	c.fail(t, 2, "--limit is 0", "verify", "--limit", "0")
	c.fail(t, 2, "such as 36h", "verify", "--since", "yesterday")
	c.fail(t, 2, "without --kafka-tls", "verify", "--kafka", p.Kafka, "--kafka-tls-ca-file", "ca.pem")
}
