package store

import (
	"fmt"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

func mustJob(t *testing.T, s *Store) logjob.Job {
	t.Helper()
	j := logjob.New(testAccount)
	j.Dataset, j.Enabled, j.DestinationConf = "workers_trace_events", true, "https://logs.example.com/?header_Authorization=secret"
	j, err := s.CreateJob(t.Context(), j, 1000)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func letterOf(j logjob.Job, begin int64) logjob.DeadLetter {
	return logjob.DeadLetter{
		JobID: j.ID, Partition: 2, BatchID: fmt.Sprintf("%d-2-%d", j.ID, begin), BeginOffset: begin, EndOffset: begin + 3, Records: 3,
		From: time.Unix(1_700_000_000, 0).UTC(), Until: time.Unix(1_700_000_060, 0).UTC(), Status: 400, Reason: "400 no", Attempts: 1,
		Body:   []byte{0, 1, 2, 255},
		Object: logjob.LetterObject{Name: "a.log.gz", ContentType: "text/csv", Script: "shop", Items: []logjob.LetterItem{{Begin: 1, End: 2, Outcome: "ok"}}},
	}
}

func TestDeadLettersAreKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		j, other := mustJob(t, s), mustJob(t, s)
		add := func(l logjob.DeadLetter) {
			t.Helper()
			if err := s.AddDeadLetter(ctx, l, logjob.LetterLimits{}); err != nil {
				t.Fatal(err)
			}
		}
		for begin := range int64(5) {
			add(letterOf(j, 10*begin))
			clock.add(time.Second)
		}
		add(letterOf(j, 20)) // a repeat
		list, total, err := s.DeadLetters(ctx, testAccount, j.ID, "", 2, 2)
		if err != nil || total != 5 || len(list) != 2 || list[0].BeginOffset != 20 || list[1].BeginOffset != 30 {
			t.Fatalf("page 2 is %+v of %d, error %v", list, total, err)
		}
		if list[0].Body != nil || list[0].Bytes < 4 || list[0].State != logjob.LetterNew {
			t.Errorf("a listed letter is %+v", list[0])
		}
		got, err := s.DeadLetter(ctx, testAccount, j.ID, list[0].ID)
		want := letterOf(j, 20)
		if err != nil || string(got.Body) != string(want.Body) || got.Object.Name != "a.log.gz" || got.Object.Items[0].Outcome != "ok" ||
			got.EndOffset != 23 || !got.From.Equal(want.From) || !got.Until.Equal(want.Until) || got.Reason != "400 no" || got.ResentOn != nil {
			t.Errorf("the letter is %+v, error %v", got, err)
		}
		_, err = s.DeadLetter(ctx, testAccount, other.ID, list[0].ID)
		wantKind(t, err, errs.NotFound, list[0].ID)
		_, err = s.DeadLetter(ctx, "ffffffffffffffffffffffffffffffff", j.ID, list[0].ID)
		wantKind(t, err, errs.NotFound, list[0].ID)

		if err := s.RefuseDeadLetter(ctx, got.ID, 503, "503 away"); err != nil {
			t.Fatal(err)
		}
		if got, err = s.DeadLetter(ctx, testAccount, j.ID, got.ID); err != nil || got.Attempts != 2 || got.Status != 503 || got.Reason != "503 away" {
			t.Errorf("after another refusal the letter is %+v, error %v", got, err)
		}
		closed, err := s.CloseDeadLetter(ctx, testAccount, j.ID, got.ID, logjob.LetterResent)
		if err != nil || closed.State != logjob.LetterResent || closed.Body != nil || closed.Bytes != 0 || closed.ResentOn == nil || !closed.ResentOn.Equal(clock.now()) {
			t.Errorf("the resent letter is %+v, error %v", closed, err)
		}
		_, err = s.CloseDeadLetter(ctx, testAccount, j.ID, got.ID, logjob.LetterDeleted)
		wantKind(t, err, errs.Conflict, "resent")
		add(letterOf(j, 20)) // the batch is repeated once more
		if _, total, err := s.DeadLetters(ctx, testAccount, j.ID, logjob.LetterNew, 10, 0); err != nil || total != 4 {
			t.Errorf("%d letters wait, error %v; want 4", total, err)
		}

		if err := s.DeleteJob(ctx, testAccount, j.ID, 0); err != nil {
			t.Fatal(err)
		}
		_, _, err = s.DeadLetters(ctx, testAccount, j.ID, "", 10, 0)
		wantKind(t, err, errs.NotFound, fmt.Sprint(j.ID))
		wantKind(t, s.AddDeadLetter(ctx, letterOf(j, 0), logjob.LetterLimits{}), errs.NotFound, fmt.Sprint(j.ID))
	})
}

func TestDeadLettersAreBounded(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		j, other := mustJob(t, s), mustJob(t, s)
		limits := logjob.LetterLimits{Letters: 2}
		for begin := range int64(2) {
			if err := s.AddDeadLetter(ctx, letterOf(j, begin), limits); err != nil {
				t.Fatal(err)
			}
		}
		wantKind(t, s.AddDeadLetter(ctx, letterOf(j, 5), limits), errs.TooLarge, "full")
		if err := s.AddDeadLetter(ctx, letterOf(j, 1), limits); err != nil {
			t.Errorf("a repeat at the limit: %v", err)
		}
		if err := s.AddDeadLetter(ctx, letterOf(other, 5), limits); err != nil {
			t.Errorf("another job: %v", err)
		}
		list, _, err := s.DeadLetters(ctx, testAccount, j.ID, "", 10, 0)
		if err != nil {
			t.Fatal(err)
		}
		bytes := logjob.LetterLimits{Bytes: list[0].Bytes * 5 / 2}
		wantKind(t, s.AddDeadLetter(ctx, letterOf(j, 5), bytes), errs.TooLarge, "full")
		if _, err := s.CloseDeadLetter(ctx, testAccount, j.ID, list[0].ID, logjob.LetterDeleted); err != nil {
			t.Fatal(err)
		}
		if err := s.AddDeadLetter(ctx, letterOf(j, 5), bytes); err != nil {
			t.Errorf("after one was deleted: %v", err)
		}
		alone, little := mustJob(t, s), logjob.LetterLimits{Bytes: 1}
		if err := s.AddDeadLetter(ctx, letterOf(alone, 1), little); err != nil {
			t.Errorf("a letter that is larger than the limit, with none beside it: %v", err)
		}
		wantKind(t, s.AddDeadLetter(ctx, letterOf(alone, 2), little), errs.TooLarge, "full")
	})
}
