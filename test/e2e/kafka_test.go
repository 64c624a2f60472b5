package e2e

import (
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tidegate/internal/embedded"
	"tidegate/schema"
	"tidegate/test/platform"
)

// TestKafkaAway takes the broker away for 30 s under load. No request may fail,
// and afterwards no event may be missing.
func TestKafkaAway(t *testing.T) {
	config := embedded.BrokerConfig{Addr: "127.0.0.1:0", DataDir: filepath.Join(t.TempDir(), "kafka"),
		Topics: []embedded.Topic{{Name: schema.Topic, Partitions: 4, Retention: time.Hour}}, Logger: slog.New(slog.DiscardHandler)}
	broker, err := embedded.StartBroker(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	config.Addr = broker.Addr() // it comes back where it was
	p := start(t, platform.Options{Args: []string{"--kafka", broker.Addr()}})
	serve(t, p, "shop", okHandler)

	traffic := startLoad(t, p, "shop", 300)
	eventually(t, 30*time.Second, "events arrive while Kafka is there", func() (bool, error) {
		n, err := p.Count(t.Context(), "SELECT count() FROM trace_events")
		return n > 300, err
	})
	if err := broker.Close(); err != nil {
		t.Fatal(err)
	}
	before := traffic.answered.Load()
	time.Sleep(30 * time.Second) // the length of the outage is the promise under test
	during := traffic.answered.Load() - before
	if broker, err = embedded.StartBroker(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() }) // best effort: the test is over
	time.Sleep(2 * time.Second)              // load goes on across the return
	traffic.stop()

	if traffic.refused.Load() > 0 {
		t.Errorf("%d requests failed: %v", traffic.refused.Load(), traffic.refusal())
	}
	if during < 1000 {
		t.Errorf("only %d requests were answered while Kafka was away", during)
	}
	// Every answer is one event, and the ones by which serve waited are more.
	var counts platform.Counts
	eventually(t, time.Minute, "every event has arrived", func() (bool, error) {
		var err error
		counts, err = p.Counts(t.Context())
		return err == nil && counts.Agree() && counts.Rows >= traffic.answered.Load(), err
	})
	distinct, err := p.Count(t.Context(), "SELECT uniqExact(ray_id) FROM trace_events")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("answered %d (%d while Kafka was away); %s; %d distinct rays", traffic.answered.Load(), during, counts, distinct)
	if distinct < traffic.answered.Load() {
		t.Errorf("%d requests were answered, but only %d distinct events arrived", traffic.answered.Load(), distinct)
	}
}
