package store

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/logjob"
	"tidegate/schema/control"
)

func TestSnapshotAnswersWhenSomethingChanges(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{SnapshotWait: time.Minute})
		ctx := t.Context()
		v := mustVersion(t, s, "shop")
		first, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil || first.Scripts[0].Name != "shop" || first.Scripts[0].DeploymentID != "" {
			t.Fatalf("snapshot %+v, error %v", first, err)
		}
		const waiters = 10
		var all sync.WaitGroup
		answers := make(chan *deploy.Snapshot, waiters)
		for range waiters {
			all.Go(func() {
				snap, err := s.Snapshot(ctx, testAccount, first.Revision)
				if err != nil {
					t.Error(err)
					return
				}
				answers <- snap
			})
		}
		d := mustDeploy(t, s, "shop", full(v))
		all.Wait()
		close(answers)
		for snap := range answers {
			if snap.Revision <= first.Revision || snap.Scripts[0].DeploymentID != d.ID {
				t.Errorf("answer with revision %d after %d: %+v", snap.Revision, first.Revision, snap)
			}
		}
		if other, err := s.Snapshot(ctx, "unknown", 0); err != nil || len(other.Scripts) != 0 {
			t.Errorf("an account without scripts has %+v, error %v", other, err)
		}
	})
}

func TestSnapshotSeesOtherProcesses(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		a := bootstrapped(t, open, Options{SnapshotWait: time.Minute})
		b := open(Options{SnapshotWait: time.Minute})
		before, err := b.SnapshotAll(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		mustVersion(t, a, "shop")
		after, err := b.SnapshotAll(t.Context(), before.Revision)
		if err != nil || after.Revision <= before.Revision || len(after.Scripts) != 1 {
			t.Fatalf("snapshot %+v after %+v, error %v", after, before, err)
		}
	})
}

func TestSnapshotWaitsNoLongerThanAsked(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{SnapshotWait: time.Millisecond})
		snap, err := s.SnapshotAll(t.Context(), 0)
		if err != nil {
			t.Fatal(err)
		}
		j, err := s.CreateJob(t.Context(), logjob.Job{AccountID: testAccount}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.ReportDelivery(t.Context(), logjob.Delivery{JobID: j.ID, CompleteUntil: time.Now()}); err != nil {
			t.Fatal(err)
		}
		same, err := s.SnapshotAll(t.Context(), snap.Revision)
		if err != nil || same.Revision != snap.Revision {
			t.Fatalf("revision %d after %d, error %v: jobs are no business of the gateways", same.Revision, snap.Revision, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := open(Options{}).SnapshotAll(ctx, snap.Revision); !errors.Is(err, context.Canceled) {
			t.Fatalf("error %v for a caller that is gone", err)
		}
	})
}

// TestProcessesMayStartTogether: several of them bring one empty database up to
// date, and one of them makes the first account.
func TestProcessesMayStartTogether(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		var all sync.WaitGroup
		var first atomic.Int32
		for range 4 {
			all.Go(func() {
				s, err := Open(t.Context(), databaseURL, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				created, err := s.Bootstrap(t.Context(), control.Account{}, forget)
				if err := errors.Join(err, s.Close()); err != nil {
					t.Error(err)
				}
				if created {
					first.Add(1)
				}
			})
		}
		all.Wait()
		if first.Load() != 1 {
			t.Errorf("%d of 4 made the first account", first.Load())
		}
	})
}

func TestOpenRefusesWhatItCannotServe(t *testing.T) {
	for _, databaseURL := range []string{"", "mysql://host/db", ":memory:", "postgres://user:hunter2@127.0.0.1:1/db"} {
		_, err := Open(t.Context(), databaseURL, Options{})
		if err == nil {
			t.Errorf("Open(%q) succeeded", databaseURL)
			continue
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error %q tells the password", err)
		}
	}
}

func TestDatabaseFileIsPrivate(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "control.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, name := range []string{path, path + "-wal"} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v, error %v", name, info.Mode(), err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Ready(t.Context()); err == nil {
		t.Error("a closed store is ready")
	}
}

// writerEnv makes the test binary write versions until it is killed.
const writerEnv = "TIDEGATE_TEST_STORE_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		writeUntilKilled(path)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(path string) {
	ctx := context.Background()
	s, err := Open(ctx, path, Options{})
	if err != nil {
		panic(err)
	}
	for {
		v, err := s.CreateVersion(ctx, testAccount, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://a"}})
		if err != nil {
			panic(err)
		}
		if _, err := os.Stdout.WriteString(v.ID + "\n"); err != nil {
			panic(err)
		}
	}
}

func TestAcknowledgedWritesSurviveKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.db")
	s, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	if _, err := s.Bootstrap(t.Context(), control.Account{}, forget); err != nil {
		t.Fatal(err)
	}
	total := 0
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var acknowledged []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			acknowledged = append(acknowledged, lines.Text())
			if len(acknowledged) == 10+round {
				if err := cmd.Process.Kill(); err != nil { // further lines may be in the pipe: they count
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		for _, id := range acknowledged {
			if _, err := s.Version(t.Context(), testAccount, "shop", id); err != nil {
				t.Errorf("round %d: acknowledged version %s: %v", round, id, err)
			}
		}
		total += len(acknowledged)
	}
	if _, n, err := s.Versions(t.Context(), testAccount, "shop", 1, 0); err != nil || n < total {
		t.Errorf("%d versions for %d acknowledgements, error %v", n, total, err)
	}
}
