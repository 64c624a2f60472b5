package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kgo"

	"tidegate/internal/api/client"
	"tidegate/internal/app"
	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/schema"
	"tidegate/test/platform"
)

// recordedOf are events of one script of one account.
type recordedOf struct {
	account, script string
	from            time.Time
	events          int
}

// emitAll writes events to Kafka, a millisecond apart, as a gateway would have.
func emitAll(t *testing.T, p *platform.Platform, all ...recordedOf) {
	t.Helper()
	kafka := kafkaClient(t, p.Kafka)
	var records []*kgo.Record
	for _, of := range all {
		for i := range of.events {
			e := schema.TraceEvent{ScriptName: of.script, ScriptVersion: schema.ScriptVersion{ID: "v1"}, EventTimestampMs: of.from.UnixMilli() + int64(i),
				EventType: "fetch", Outcome: "ok", Gateway: schema.Gateway{Decision: schema.DecisionSplit}, WallTimeMs: new(int64(i)), Exceptions: []schema.Exception{{Name: "Error", Message: "no"}}}
			records = append(records, &kgo.Record{Topic: schema.Topic, Value: e.AppendJSON(nil), Headers: []kgo.RecordHeader{
				{Key: schema.HeaderAccount, Value: []byte(of.account)}, {Key: schema.HeaderSchema, Value: []byte(schema.EventSchemaVersion)}}})
		}
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	if err := kafka.ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// accountedFor waits until each record in Kafka is a row.
func accountedFor(t *testing.T, p *platform.Platform, records int64) {
	t.Helper()
	eventually(t, time.Minute, "every record is accounted for", func() (bool, error) {
		n, err := p.Count(t.Context(), "SELECT (SELECT count() FROM trace_events) + (SELECT count() FROM trace_events_quarantine)")
		if n > records {
			return false, fmt.Errorf("%d rows came of %d records", n, records)
		}
		return n == records, err
	})
}

// countsOf are events, requests by seconds, minutes and hours, and exceptions of a script,
// from before a time and from then on.
func countsOf(t *testing.T, p *platform.Platform, account, script string, before time.Time) (counts [10]int64) {
	t.Helper()
	at := 0
	for _, side := range []string{"<", ">="} {
		where := fmt.Sprintf("WHERE account_id = '%s' AND script_name = '%s' AND time %s fromUnixTimestamp64Milli(toInt64(%d), 'UTC')", account, script, side, before.UnixMilli())
		for _, what := range []string{"count() FROM trace_events", "sum(requests) FROM version_rates_1s", "sum(requests) FROM version_rates_1m", "sum(requests) FROM version_rates_1h",
			"sum(length(exception_groups)) FROM trace_events"} {
			n, err := p.Count(t.Context(), "SELECT "+what+" "+where)
			if err != nil {
				t.Fatal(err)
			}
			counts[at] = n
			at++
		}
	}
	return counts
}

func same(before, after int64) (counts [10]int64) {
	for i := range 5 {
		counts[i], counts[5+i] = before, after
	}
	return counts
}

// TestDeletion deletes what one script of an account recorded before a time, while
// everything is killed at a random moment. The others keep every event and every count, and
// what comes late, or again by a replay, does not bring it back.
func TestDeletion(t *testing.T) {
	t.Parallel() // it waits two minutes until rows are old enough
	const events, late, partitions = 20_000, 500, 2
	folder, dir := t.TempDir(), t.TempDir()
	args := []string{"--logpush-file-roots", folder, "--topic-partitions", strconv.Itoa(partitions)}
	p := start(t, platform.Options{DataDir: dir, Args: args})
	args = append(args, addresses(p)...)
	var created struct{ ID string }
	if err := p.API(t.Context(), http.MethodPost, "/accounts", map[string]any{"name": "other"}, &created); err != nil {
		t.Fatal(err)
	}
	ours, other := p.AccountID, created.ID
	before := time.Now().UTC().Truncate(time.Hour)
	old := before.Add(-30 * time.Minute)
	var all []recordedOf
	for _, account := range []string{ours, other} {
		for _, script := range []string{"shop", "cart"} {
			all = append(all, recordedOf{account, script, old, events}, recordedOf{account, script, before, late})
		}
	}
	emitAll(t, p, all...)
	accountedFor(t, p, 4*(events+late))

	job := jobInto(t, p, folder)
	letters(t, dir, job, old)

	api := client.New(p.Ready.API, p.Token, nil)
	d, err := api.CreateDeletion(t.Context(), ours, client.DeletionRequest{Script: "shop", Before: &before})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "somebody is at it", func() (bool, error) {
		got, err := api.Deletion(t.Context(), ours, d.ID)
		return got.State != schema.DeletionQueued, err
	})
	time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond) // a random moment, not a wait
	p.Process().Kill()
	p = start(t, platform.Options{DataDir: dir, Args: args})
	api = client.New(p.Ready.API, p.Token, nil)
	deleted := wantDone(t, p, d.ID)
	for _, table := range []string{"version_rates_1s", "version_rates_1m", "version_rates_1h", "assigned_rates_1s"} { // how many rows they have depends on merges
		if deleted[table] == 0 {
			t.Errorf("%s lost no row", table)
		}
		delete(deleted, table)
	}
	if want := map[string]int64{"trace_events": events, "trace_events_quarantine": 0, "dead_letters": 1}; cmp.Diff(want, deleted) != "" {
		t.Errorf("deleted were (-want +got)\n%s", cmp.Diff(want, deleted))
	}
	// A block is in the rollups a moment after it is in trace_events.
	holds := func(what string, want map[string][10]int64) {
		t.Helper()
		eventually(t, time.Minute, what, func() (bool, error) {
			got := map[string][10]int64{}
			for _, account := range []string{ours, other} {
				for _, script := range []string{"shop", "cart"} {
					got[account[30:]+" "+script] = countsOf(t, p, account, script, before)
				}
			}
			diff := cmp.Diff(want, got)
			if diff == "" {
				return true, nil
			}
			return false, fmt.Errorf("(-want +got)\n%s", diff)
		})
	}
	holds("after the deletion", map[string][10]int64{
		ours[30:] + " shop": same(0, late), ours[30:] + " cart": same(events, late), other[30:] + " shop": same(events, late), other[30:] + " cart": same(events, late)})
	accountedFor(t, p, 4*(events+late))

	// What comes late is stored only where it is not deleted.
	for i := range all {
		all[i].events = late
	}
	emitAll(t, p, all...)
	accountedFor(t, p, 4*(events+late)+8*late)
	holds("after late events", map[string][10]int64{
		ours[30:] + " shop": same(0, 2*late), ours[30:] + " cart": same(events+late, 2*late), other[30:] + " shop": same(events+late, 2*late), other[30:] + " cart": same(events+late, 2*late)})
	counter := regexp.MustCompile(`(?m)^tidegate_ingest_events_dropped_total\{.*reason="deleted".*\} (\S+)$`)
	if dropped := counter.FindStringSubmatch(metricsOf(t, p)); dropped == nil || dropped[1] != strconv.Itoa(late) {
		t.Errorf("ingest counts %q events that were deleted, want %d", dropped, late)
	}

	// A replay, half of it from ClickHouse, brings nothing back, and misses nothing.
	forgetHalf(t, p.Kafka, partitions)
	var replay struct {
		ID          int64
		State       string
		RecordsSent int64 `json:"records_sent"`
		RecordsLost int64 `json:"records_lost"`
	}
	replays := fmt.Sprintf("/accounts/{account}/logpush/jobs/%d/replays", job)
	if err := p.API(t.Context(), http.MethodPost, replays, map[string]any{"from": old, "to": before.Add(time.Minute)}, &replay); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Minute, "the replay is done", func() (bool, error) {
		err := p.API(t.Context(), http.MethodGet, fmt.Sprintf("%s/%d", replays, replay.ID), nil, &replay)
		return replay.State == "done", err
	})
	sent := map[string]int64{}
	for _, e := range delivered[struct {
		ScriptName       string
		EventTimestampMs int64
	}](t, folder) {
		sent[fmt.Sprint(e.ScriptName, " old ", e.EventTimestampMs < before.UnixMilli())]++
	}
	if want := map[string]int64{"shop old false": 2 * late, "cart old true": events + late, "cart old false": 2 * late}; cmp.Diff(want, sent) != "" || replay.RecordsLost != 0 {
		t.Errorf("the replay lost %d records, and sent (-want +got)\n%s", replay.RecordsLost, cmp.Diff(want, sent))
	}

	// A second run finds nothing.
	d, err = api.CreateDeletion(t.Context(), ours, client.DeletionRequest{Script: "shop", Before: &before})
	if err != nil {
		t.Fatal(err)
	}
	for place, n := range wantDone(t, p, d.ID) {
		if n != 0 {
			t.Errorf("the second run deleted %d rows of %s", n, place)
		}
	}
}

// wantDone waits for the end of a deletion, and returns how many rows each place lost.
func wantDone(t *testing.T, p *platform.Platform, id string) map[string]int64 {
	t.Helper()
	var d client.Deletion
	eventually(t, 5*time.Minute, "the deletion is done", func() (bool, error) {
		err := p.API(t.Context(), http.MethodGet, "/accounts/{account}/deletions/"+id, nil, &d)
		return d.State == schema.DeletionDone, err
	})
	deleted := map[string]int64{}
	for _, place := range d.Places {
		deleted[place.Name] = place.RowsDeleted
		if place.RowsLeft != 0 || place.PartsLeft != 0 {
			t.Errorf("it is done, and says of %s %+v", place.Name, place)
		}
	}
	return deleted
}

// jobInto makes a job that is switched off, for replays.
func jobInto(t *testing.T, p *platform.Platform, folder string) int64 {
	t.Helper()
	var job struct{ ID int64 }
	if err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
		"dataset": "workers_trace_events", "enabled": false, "destination_conf": "file://" + folder,
		"output_options": map[string]any{"field_names": []string{"ScriptName", "EventTimestampMs"}},
	}, &job); err != nil {
		t.Fatal(err)
	}
	return job.ID
}

// letters gives the job two dead letters: one says that it is of shop, the other that it
// is of cart.
func letters(t *testing.T, dir string, job int64, at time.Time) {
	t.Helper()
	keys, err := app.ReadKeys(filepath.Join(dir, "secrets-key"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), filepath.Join(dir, "control.db"), store.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	for i, script := range []string{"shop", "cart"} {
		err := db.AddDeadLetter(context.WithoutCancel(t.Context()), logjob.DeadLetter{JobID: job, BatchID: script, BeginOffset: int64(i), EndOffset: int64(i + 1), Records: 1,
			From: at, Until: at.Add(time.Second), Status: 400, Reason: "no", Body: []byte{1}, Object: logjob.LetterObject{Script: script}}, logjob.LetterLimits{})
		if err != nil {
			t.Fatal(err)
		}
	}
}
