package e2e

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"tidegate/test/platform"
)

// chaosRounds is how many kills in a row must leave the counts exact.
const chaosRounds = 10

// TestCountsSurviveKills kills, under load and at random moments, the ingest
// process, the ClickHouse engine, or the whole platform, and starts it again.
// After each round what Kafka holds, the raw rows and the sums of every rollup
// must be the same, to the event.
func TestCountsSurviveKills(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))

	// Ingest runs in a process of its own here, so that it can die alone.
	dir := t.TempDir()
	up := func(previous *platform.Platform) *platform.Platform {
		o := platform.Options{DataDir: dir, Args: []string{"--roles", "api,rollback,logpush,gateway"}}
		if previous != nil { // the same addresses as before the kill
			o.Args = append(o.Args, addresses(previous)...)
		}
		return start(t, o)
	}
	p := up(nil)
	ingest := startIngest(t, p)
	serve(t, p, "shop", okHandler)

	kinds := []string{"ingest", "engine", "platform"}
	for round := range chaosRounds {
		kind := kinds[round%len(kinds)]
		traffic := startLoad(t, p, "shop", 400)
		wait := time.Duration(500+dice.IntN(2500)) * time.Millisecond
		time.Sleep(wait) // the random moment is the point of the test

		switch kind {
		case "ingest":
			ingest.Kill()
			ingest = startIngest(t, p)
		case "engine":
			killEngine(t, p)
		case "platform":
			p.Process().Kill()
			ingest.Kill()
			p = up(p)
			ingest = startIngest(t, p)
		}
		time.Sleep(time.Duration(dice.IntN(1000)) * time.Millisecond)
		traffic.stop()

		var counts platform.Counts
		eventually(t, time.Minute, "counts agree after killing "+kind, func() (bool, error) {
			var err error
			if counts, err = p.Counts(t.Context()); err == nil && !counts.Agree() {
				return false, errors.New(counts.String())
			}
			return err == nil, err
		})
		t.Logf("round %d: killed %s after %s: %s; %d requests answered, %d refused", round+1, kind, wait, counts, traffic.answered.Load(), traffic.refused.Load())
		if kind != "platform" && traffic.refused.Load() > 0 {
			t.Errorf("killing %s made %d requests fail: %v", kind, traffic.refused.Load(), traffic.refusal())
		}
	}
	if err := ingest.Terminate(platform.StopContract); err != nil {
		t.Errorf("stop ingest: %v", err)
	}
}

// startIngest runs bin/ingest with only the ingest role against p.
func startIngest(t *testing.T, p *platform.Platform) *platform.Process {
	t.Helper()
	process, err := platform.StartProcess(logOf(t, "ingest"), nil, filepath.Join(bin, "ingest"),
		"--roles", "ingest", "--kafka", p.Kafka, "--clickhouse", p.ClickHouse)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(process.Kill)
	return process
}
