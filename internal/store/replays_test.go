package store

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const replayTTL = 10 * time.Second

func startedJob(t *testing.T, s *Store, start time.Time) logjob.Job {
	t.Helper()
	j, err := s.CreateJob(t.Context(), logjob.Job{AccountID: testAccount, Dataset: "workers_trace_events", DestinationConf: "file:///x", Enabled: true, Start: start}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func mustReplay(t *testing.T, s *Store, job int64) logjob.Replay {
	t.Helper()
	r, err := s.CreateReplay(t.Context(), testAccount, job, logjob.ReplayRequest{From: newClock().t, To: new(newClock().t.Add(time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// claim fails unless holder gets the replay that is wanted; 0 is none.
func claim(t *testing.T, s *Store, holder string, want int64) logjob.Replay {
	t.Helper()
	r, ok, err := s.ClaimReplay(t.Context(), holder, replayTTL)
	if err != nil || ok != (want != 0) || r.ID != want {
		t.Fatalf("%s got replay %d, %v, error %v; want %d", holder, r.ID, ok, err, want)
	}
	return r
}

func TestReplaysAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		job := startedJob(t, s, time.Time{})
		made := mustReplay(t, s, job.ID)
		if made.State != logjob.ReplayQueued || made.JobID != job.ID || !made.CreatedOn.Equal(clock.t) || made.StartedOn != nil {
			t.Errorf("made %+v", made)
		}
		clock.add(time.Second)
		r := claim(t, s, "a", made.ID)
		if r.State != logjob.ReplayRunning || !r.StartedOn.Equal(clock.t) || !r.From.Equal(made.From) || !r.To.Equal(*made.To) {
			t.Errorf("claimed %+v", r)
		}
		at := clock.t.Add(-time.Hour)
		r.RecordsRead, r.RecordsSent, r.BytesSent, r.Position, r.Error = 10, 9, 8, &at, "away"
		r.Lose(logjob.ReplayLoss{Partition: 1, Begin: 2, End: 5, Missing: 2, Reason: "retention"})
		r.Partitions = []logjob.ReplayPartition{{ID: 1, Begin: 1, Next: 5, End: 9, Plan: &logjob.ReplayPlan{Revision: 1, Begin: 5, End: 7}}}
		if err := s.SaveReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		got, err := s.Replay(t.Context(), testAccount, job.ID, r.ID)
		if err != nil || fmt.Sprintf("%+v", got.Losses) != fmt.Sprintf("%+v", r.Losses) || got.RecordsSent != 9 || got.RecordsLost != 2 ||
			got.Partitions[0].Plan == nil || *got.Partitions[0].Plan != *r.Partitions[0].Plan || !got.Position.Equal(at) || got.EndedOn != nil {
			t.Errorf("kept %+v, error %v", got, err)
		}
		clock.add(time.Second)
		r.State = logjob.ReplayDone
		if err := s.SaveReplay(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.SaveReplay(t.Context(), r), errs.Conflict, "canceled")
		list, err := s.Replays(t.Context(), testAccount, job.ID)
		if err != nil || len(list) != 1 || list[0].State != logjob.ReplayDone || !list[0].EndedOn.Equal(clock.t) {
			t.Errorf("listed %+v, error %v", list, err)
		}
		_, err = s.CancelReplay(t.Context(), testAccount, job.ID, r.ID)
		wantKind(t, err, errs.Conflict, "done already")
		_, err = s.Replay(t.Context(), testAccount, job.ID, 99)
		wantKind(t, err, errs.NotFound, "99")
		_, err = s.Replays(t.Context(), testAccount, 99)
		wantKind(t, err, errs.NotFound, "99")
		_, err = s.CreateReplay(t.Context(), "another", job.ID, made.ReplayRequest)
		wantKind(t, err, errs.NotFound, "does not exist")
		if err := s.DeleteJob(t.Context(), testAccount, job.ID, 0); err != nil {
			t.Fatal(err)
		}
		claim(t, s, "a", 0)
	})
}

func TestOneProcessRunsAReplay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		job, other := startedJob(t, s, time.Time{}), startedJob(t, s, time.Time{})
		first, second, third := mustReplay(t, s, job.ID), mustReplay(t, s, job.ID), mustReplay(t, s, other.ID)
		a := claim(t, s, "a", first.ID)
		claim(t, s, "b", third.ID) // not the second: one of a job at a time
		claim(t, s, "c", 0)
		clock.add(replayTTL - 1)
		if err := s.RenewReplay(t.Context(), a.ID, a.Fence, replayTTL); err != nil {
			t.Fatal(err)
		}
		clock.add(2)
		claim(t, s, "c", third.ID) // b's time is over, a's is not
		clock.add(replayTTL)
		b := claim(t, s, "b", first.ID)
		wantKind(t, s.RenewReplay(t.Context(), a.ID, a.Fence, replayTTL), errs.Conflict, "another")
		wantKind(t, s.SaveReplay(t.Context(), a), errs.Conflict, "another")
		if err := s.RenewReplay(t.Context(), b.ID, b.Fence, 0); err != nil { // gives it back
			t.Fatal(err)
		}
		c := claim(t, s, "c", first.ID)
		if r, err := s.CancelReplay(t.Context(), testAccount, job.ID, c.ID); err != nil || r.State != logjob.ReplayCanceled {
			t.Errorf("canceled %+v, error %v", r, err)
		}
		if _, err := s.CancelReplay(t.Context(), testAccount, job.ID, c.ID); err != nil {
			t.Errorf("canceled again: %v", err)
		}
		wantKind(t, s.SaveReplay(t.Context(), c), errs.Conflict, "canceled")
		claim(t, s, "a", second.ID)
		var audited string
		if err := s.reader.QueryRowContext(t.Context(), `SELECT target FROM audit_log WHERE action = 'replay.cancel'`).Scan(&audited); err != nil || audited != fmt.Sprintf("%d/%d", job.ID, first.ID) {
			t.Errorf("audited %q, error %v", audited, err)
		}
	})
}

func TestReplaysOfAJobAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		job := startedJob(t, s, time.Time{})
		for range replaysActive {
			mustReplay(t, s, job.ID)
		}
		_, err := s.CreateReplay(t.Context(), testAccount, job.ID, logjob.ReplayRequest{From: time.Now()})
		wantKind(t, err, errs.Conflict, "5 replays")
		for range replaysKept + 5 {
			r, ok, err := s.ClaimReplay(t.Context(), "a", replayTTL)
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			r.State = logjob.ReplayFailed
			if err := s.SaveReplay(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			mustReplay(t, s, job.ID)
		}
		list, err := s.Replays(t.Context(), testAccount, job.ID)
		if err != nil || len(list) != replaysKept {
			t.Errorf("%d replays are kept, error %v", len(list), err)
		}
	})
}

// Several claimers at once: each replay goes to one of them.
func TestClaimsOfManyProcesses(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		for range 4 {
			mustReplay(t, s, startedJob(t, s, time.Time{}).ID)
		}
		var mu sync.Mutex
		got := map[int64]int{}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 8 {
					r, ok, err := s.ClaimReplay(t.Context(), fmt.Sprint(i), time.Hour)
					if err != nil {
						t.Error(err)
					}
					if ok {
						mu.Lock()
						got[r.ID]++
						mu.Unlock()
					}
				}
			})
		}
		wg.Wait()
		if fmt.Sprint(got) != "map[1:1 2:1 3:1 4:1]" {
			t.Errorf("claims by replay: %v", got)
		}
	})
}

func TestAJobThatStartsInThePastHasAReplay(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		start := newClock().t
		job := startedJob(t, s, start)
		list, err := s.Replays(t.Context(), testAccount, job.ID)
		if err != nil || len(list) != 1 || !list[0].From.Equal(start) || list[0].To != nil {
			t.Errorf("replays %+v, error %v", list, err)
		}
	})
}
