package api_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/schema"
)

// archive has events of the last thirty days.
type archive struct{}

func (archive) OldestEvent(context.Context, string) (time.Time, bool, error) {
	return time.Now().AddDate(0, 0, -30), true, nil
}

func TestReplays(t *testing.T) { replayStory(t, newPlatform(t)) }

func replayStory(t *testing.T, p *platform) {
	ctx := t.Context()
	j := p.mustJob(t, "https://replays.example.com")
	from, to := time.Now().Add(-2*time.Hour).UTC().Truncate(time.Second), time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	first, err := p.CreateReplay(ctx, account, j.ID, logjob.ReplayRequest{From: from, To: &to, IncludeUnmarked: true})
	if err != nil || first.State != "queued" || first.JobID != j.ID || !first.From.Equal(from) || !first.To.Equal(to) || !first.IncludeUnmarked {
		t.Fatalf("made %+v, error %v", first, err)
	}
	path := fmt.Sprintf("/logpush/jobs/%d/replay", j.ID)
	body := fmt.Sprintf(`{"from": %q, "to": %q}`, from.Format(time.RFC3339), to.Format(time.RFC3339))
	if a := p.call(t, http.MethodPost, path, body); a.status != http.StatusOK {
		t.Fatalf("POST %s answered %d %s", path, a.status, a.text)
	}
	r, ok, err := p.store.ClaimReplay(ctx, "here", time.Hour)
	if err != nil || !ok || r.ID != first.ID {
		t.Fatal(r, ok, err)
	}
	r.Partitions = []logjob.ReplayPartition{{Begin: 10, Next: 60, End: 110}}
	r.RecordsSent, r.Position, r.KeptFrom = 40, &from, &to
	r.Lose(logjob.ReplayLoss{Partition: 0, Begin: 10, End: 20, Missing: 3, Reason: "why"})
	if err := p.store.SaveReplay(ctx, r); err != nil {
		t.Fatal(err)
	}
	got, err := p.Replay(ctx, account, j.ID, first.ID)
	if err != nil || got.State != "running" || got.OffsetsDone != 50 || got.OffsetsTotal != 100 || got.EstimatedEnd == nil ||
		got.RecordsSent != 40 || !got.Position.Equal(from) || got.KeptFrom == nil || !got.KeptFrom.Equal(to) || got.RecordsLost != 3 || len(got.Losses) != 1 {
		t.Errorf("running it is %+v, error %v", got, err)
	}
	if got, err = p.CancelReplay(ctx, account, j.ID, first.ID); err != nil || got.State != "canceled" || got.EndedOn == nil || got.EstimatedEnd != nil {
		t.Errorf("canceled it is %+v, error %v", got, err)
	}
	list, err := p.Replays(ctx, account, j.ID)
	if err != nil || len(list) != 2 || list[1].ID != first.ID {
		t.Fatalf("%+v, error %v", list, err)
	}
	if a := p.call(t, http.MethodDelete, fmt.Sprintf("/logpush/jobs/%d/replays/%d", j.ID, list[0].ID), ""); a.status != http.StatusOK {
		t.Errorf("DELETE answered %d %s", a.status, a.text)
	}
}

func TestWhatReplaysRefuse(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://replays.example.com")
	path := fmt.Sprintf("/logpush/jobs/%d/replays", j.ID)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	f := func(from, to string, parts ...string) {
		t.Helper()
		p.call(t, http.MethodPost, path, fmt.Sprintf(`{"from": %q, "to": %q}`, from, to)).want(t, http.StatusBadRequest, 1002, parts...)
	}
	f(at(-time.Hour), at(-2*time.Hour), "must be after")
	f(at(-time.Hour), at(time.Hour), "future")
	f(at(time.Hour), at(2*time.Hour), "future")
	p.previews.oldest = time.Now().Add(-24 * time.Hour)
	f(at(-1000*time.Hour), at(-900*time.Hour), "nothing is kept from before", time.Now().UTC().AddDate(0, 0, -30).Format("2006-01-02"), "Kafka has none that old")
	p.call(t, http.MethodPost, path, `{"to": "`+at(-time.Hour)+`"}`).want(t, http.StatusBadRequest, 1002, "from is missing")
	p.call(t, http.MethodPost, path, `{"from": "`+at(-time.Hour)+`"}`).want(t, http.StatusBadRequest, 1002, "switched off")
	p.call(t, http.MethodPost, "/logpush/jobs/999/replays", `{"from": "`+at(-time.Hour)+`"}`).want(t, http.StatusNotFound, 1002, "999")
	p.call(t, http.MethodGet, path+"/999", "").want(t, http.StatusNotFound, 1002, "999")
	p.call(t, http.MethodGet, path+"/x", "").want(t, http.StatusNotFound, 1002, "whole number")
	for range 5 {
		if a := p.call(t, http.MethodPost, path, fmt.Sprintf(`{"from": %q, "to": %q}`, at(-2*time.Hour), at(-time.Hour))); a.status != http.StatusOK {
			t.Fatalf("answered %d %s", a.status, a.text)
		}
	}
	p.call(t, http.MethodPost, path, fmt.Sprintf(`{"from": %q, "to": %q}`, at(-2*time.Hour), at(-time.Hour))).want(t, http.StatusConflict, 1004, "5 replays")
}

// ClickHouse may be younger than what Kafka keeps: it was made anew, or keeps events for
// a shorter time. Replays of what only Kafka has were refused.
func TestReplaysOfWhatOnlyKafkaMayHave(t *testing.T) {
	p := newPlatform(t)
	path := fmt.Sprintf("/logpush/jobs/%d/replays", p.mustJob(t, "https://replays.example.com").ID)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	f := func(what string, oldest time.Time) {
		t.Helper()
		p.previews.oldest = oldest
		if a := p.call(t, http.MethodPost, path, fmt.Sprintf(`{"from": %q, "to": %q}`, at(-1000*time.Hour), at(-900*time.Hour))); a.status != http.StatusOK {
			t.Errorf("%s: answered %d %s", what, a.status, a.text)
		}
	}
	f("Kafka has older events", time.Now().Add(-950*time.Hour))
	f("Kafka does not answer", time.Time{})
}

func TestJobThatStartsInThePast(t *testing.T) {
	p := newPlatform(t)
	create := func(enabled bool, start time.Time) (logjob.Job, error) {
		dataset, conf := schema.Dataset, "https://start.example.com"
		return p.CreateJob(t.Context(), account, logjob.Update{Dataset: &dataset, DestinationConf: &conf, Enabled: &enabled, Start: &start})
	}
	start := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	j, err := create(true, start)
	if err != nil {
		t.Fatal(err)
	}
	list, err := p.Replays(t.Context(), account, j.ID)
	if err != nil || len(list) != 1 || !list[0].From.Equal(start) || list[0].To != nil {
		t.Errorf("its replays are %+v, error %v", list, err)
	}
	if _, err := create(true, time.Time{}); err == nil {
		t.Error("a job starts in the year 1, which stands for no start")
	}
	if _, err := create(false, start); err == nil {
		t.Error("a job that is off has a start")
	}
	if _, err := create(true, time.Now().Add(time.Hour)); err == nil {
		t.Error("a job starts in the future")
	}
	if _, err := p.UpdateJob(t.Context(), account, j.ID, logjob.Update{Start: &start}); err == nil {
		t.Error("a job that is there has another start")
	}
}
