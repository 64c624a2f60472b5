package logpush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// The range lies in both sources, and within it are events that are not to leave.
func TestReplayFromBothSources(t *testing.T) {
	s := newStage(t)
	s.produce(400)
	s.forget(0, 100)
	s.forget(1, 40)
	j := s.newJob(nil)
	r := s.replay(j, 20, 381)
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(wanted(20, 381))
	if r.RecordsRead != 361 || r.RecordsSent != int64(len(wanted(20, 381))) || r.RecordsLost != 0 || len(r.Losses) != 0 || r.BytesSent == 0 ||
		r.Error != "" || !r.Position.Equal(s.at(379)) && !r.Position.Equal(s.at(378)) {
		t.Errorf("progress %+v", r.ReplayProgress)
	}
	if done, total := r.Offsets(); done != total || total < 361 {
		t.Errorf("%d of %d offsets are done", done, total)
	}
	prefix := fmt.Sprintf("%d-r%d-", j.ID, r.ID)
	for name, o := range s.bucket.objects {
		if !strings.HasPrefix(o.BatchID, prefix) || o.JobID != j.ID || o.Records > 7 {
			t.Errorf("object %s has batch %s of job %d with %d records", name, o.BatchID, o.JobID, o.Records)
		}
	}
	if len(s.bucket.puts) != len(s.bucket.objects) {
		t.Errorf("%d uploads made %d objects", len(s.bucket.puts), len(s.bucket.objects))
	}
}

// ClickHouse that is younger than what Kafka keeps takes nothing from a replay.
func TestReplayOfWhatOnlyKafkaHas(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	for id, rows := range s.archive.rows {
		s.archive.rows[id] = slices.DeleteFunc(rows, func(a tables.Archived) bool { return a.Time.Before(s.at(80)) })
	}
	r := s.replay(s.newJob(nil), 10, 70)
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(wanted(10, 70))
	if r.RecordsLost != 0 {
		t.Errorf("lost %d: %+v", r.RecordsLost, r.Losses)
	}
}

// A record whose text was made in memory that is given back when the window before it
// leaves is sent whole; it was sent empty. One that is too long is told as lost.
func TestReplayOfLongRecords(t *testing.T) {
	s := newStage(t)
	s.bucket.traits.MaxBytes = 3 << 20
	const long = 7
	s.produce(20)
	for id, rows := range s.archive.rows {
		for i := range rows {
			var e schema.TraceEvent
			if err := json.Unmarshal(rows[i].Value, &e); err != nil {
				t.Fatal(err)
			}
			url := strings.Repeat("u", 5_000) // 2 MiB in the end: two do not fit into an object
			if *e.WallTimeMs == long {
				url = strings.Repeat("u", 25_000)
			}
			e.Event = json.RawMessage(`{"request":{"url":"` + url + `"}}`)
			rows[i].Value = e.AppendJSON(nil)
		}
		s.forget(int32(id), rows[len(rows)-1].Offset+1) // #nosec G115 -- 0 or 1
	}
	j := s.newJob(func(j *logjob.Job) {
		j.OutputOptions = &logjob.OutputOptions{RecordTemplate: new(`"WallTimeMs":{{.WallTimeMs}},"Events":[` + strings.Repeat("{{.Event}},", 360) + `0]`)}
		j.OutputOptions.FieldNames = []string{"WallTimeMs", "Event"}
	})
	r := s.replay(j, 0, 20)
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(slices.DeleteFunc(wanted(0, 20), func(n int) bool { return n == long }))
	if r.RecordsLost != 1 || r.Losses[0].Reason != lossLong || r.RecordsRead != 20 || r.RecordsSent != 15 {
		t.Errorf("progress %+v", r.ReplayProgress)
	}
}

// Filters and samples choose what live delivery chooses.
func TestReplayChoosesAsLiveDeliveryDoes(t *testing.T) {
	s := newStage(t)
	s.produce(1)
	j := s.newJob(func(j *logjob.Job) {
		j.Enabled, j.Filter = true, `{"where":{"key":"Outcome","operator":"eq","value":"exception"}}`
		j.OutputOptions.SampleRate = new(0.5)
	})
	m, _ := s.run(nil)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	eventually(t, func() error {
		marks, err := s.topic.Committed(t.Context(), groupID(j.ID))
		if err == nil && len(marks) != 2 {
			err = errors.New("live delivery has not begun")
		}
		return err
	})
	s.produce(399)
	chosen := 0
	for id, rows := range s.archive.rows {
		for _, row := range rows {
			var e schema.TraceEvent
			if err := json.Unmarshal(row.Value, &e); err != nil {
				t.Fatal(err)
			}
			if n := *e.WallTimeMs; n%2 == 1 && n%5 != 0 && sampled(0.5, j.ID, id, row.Offset) {
				chosen++
			}
		}
	}
	eventually(t, func() error {
		if got := len(numbers(t, s.bucket)); got != chosen {
			return fmt.Errorf("live delivery sent %d of %d", got, chosen)
		}
		return nil
	})
	live := numbers(t, s.bucket)
	slices.Sort(live)
	s.bucket.mu.Lock()
	s.bucket.objects, s.bucket.puts = map[string]Object{}, nil
	s.bucket.mu.Unlock()
	s.forget(0, 50)
	s.ends(s.replay(j, 0, 400), logjob.ReplayDone)
	s.has(live)
}

// Retention goes on while the replay reads: first it overtakes it in Kafka, then it
// moves on while the archive is read.
func TestReplayWhileRetentionMoves(t *testing.T) {
	s := newStage(t)
	s.produce(400)
	s.forget(0, 20)
	j := s.newJob(nil)
	moved := 0
	s.bucket.fail = func(Object) error {
		if moved++; moved == 3 || moved == 10 || moved == 20 {
			for p := range int32(2) {
				s.forget(p, int64(moved*6))
			}
		}
		return nil
	}
	s.archive.paged = func(pages int) {
		if pages == 4 {
			s.forget(0, 90)
		}
	}
	r := s.ends(func() logjob.Replay { r := s.replay(j, 0, 400); s.run(nil); return r }(), logjob.ReplayDone)
	s.has(wanted(0, 400))
	if r.RecordsLost != 0 || s.archive.pages < 5 {
		t.Errorf("lost %d; %d pages came from the archive", r.RecordsLost, s.archive.pages)
	}
}

// A replay whose destination is away does not keep the others from theirs.
func TestReplayMakesPlace(t *testing.T) {
	s := newStage(t)
	s.produce(50)
	away, well := s.newJob(nil), s.newJob(nil)
	s.bucket.set(func(o Object) error {
		if o.JobID == away.ID {
			return &UploadError{Status: 503}
		}
		return nil
	})
	first, second := s.replay(away, 0, 50), s.replay(well, 0, 50)
	s.run(func(c *ReplayConfig) { c.AtOnce, c.Patience = 1, 10*time.Millisecond })
	s.ends(second, logjob.ReplayDone)
	s.has(wanted(0, 50))
	s.bucket.set(nil)
	s.ends(first, logjob.ReplayDone)
}

// Without an archive what Kafka does not have is lost from the moment of the plan on,
// and rows of which nobody knows whether they may leave stay, unless they are asked for.
func TestReplayOfUnmarkedRows(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	left := 0 // which events a partition got is the producer's business
	for p := range int32(2) {
		s.forget(p, 30)
		for i := range s.archive.rows[int(p)] {
			row := &s.archive.rows[int(p)][i]
			if i >= 30 && row.Logpush != tables.LogpushNo {
				left++
			}
			row.Logpush = tables.LogpushUnknown
		}
	}
	j := s.newJob(nil)
	s.run(nil)
	r := s.ends(s.replay(j, 0, 100), logjob.ReplayDone)
	if r.RecordsUnmarked != 60 || r.RecordsRead != 40 {
		t.Errorf("unmarked %d, read %d", r.RecordsUnmarked, r.RecordsRead)
	}
	if n := len(numbers(t, s.bucket)); n != left {
		t.Errorf("%d events left, want %d", n, left)
	}
	r, err := s.store.CreateReplay(t.Context(), account, j.ID, logjob.ReplayRequest{From: s.at(0), To: new(s.at(100)), IncludeUnmarked: true})
	if err != nil {
		t.Fatal(err)
	}
	if r = s.ends(r, logjob.ReplayDone); r.RecordsSent != int64(60+left) || r.RecordsUnmarked != 0 {
		t.Errorf("sent %d, unmarked %d", r.RecordsSent, r.RecordsUnmarked)
	}
}

// A process dies at any moment, again and again: a second one takes the replay over
// when its lease is over, and no object is there twice.
func TestReplaySurvivesTheDeathOfProcesses(t *testing.T) {
	s := newStage(t)
	s.produce(400)
	s.forget(0, 60)
	s.forget(1, 60)
	j := s.newJob(nil)
	r := s.replay(j, 0, 400)
	for death := range 8 {
		dead := make(chan struct{})
		mortal := &mortalStore{Store: s.store, dead: dead}
		puts := 0
		var once sync.Once
		s.bucket.mu.Lock()
		s.bucket.after = func(Object) error {
			if puts++; puts == 1+death {
				once.Do(func() { close(dead) }) // the object is there, and nobody was told
			}
			select {
			case <-dead:
				return errors.New("nobody hears this")
			default:
				return nil
			}
		}
		s.bucket.mu.Unlock()
		_, stop := s.run(func(c *ReplayConfig) { c.Replays, c.Lease = mortal, 500*time.Millisecond })
		eventually(t, func() error {
			select {
			case <-dead:
				return nil
			default:
				return errors.New("it lives")
			}
		})
		stop()
	}
	s.bucket.mu.Lock()
	s.bucket.after = nil
	s.bucket.mu.Unlock()
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(wanted(0, 400))
	if r.RecordsSent != int64(len(wanted(0, 400))) || r.Fence < 9 {
		t.Errorf("sent %d under fence %d", r.RecordsSent, r.Fence)
	}
}

// mortalStore is a store that a process can no longer reach once it is dead.
type mortalStore struct {
	*store.Store
	dead chan struct{}
}

func (m *mortalStore) gone() error {
	select {
	case <-m.dead:
		return errors.New("dead")
	default:
		return nil
	}
}

func (m *mortalStore) ClaimReplay(ctx context.Context, holder string, ttl time.Duration) (logjob.Replay, bool, error) {
	if err := m.gone(); err != nil {
		return logjob.Replay{}, false, err
	}
	return m.Store.ClaimReplay(ctx, holder, ttl)
}

func (m *mortalStore) RenewReplay(ctx context.Context, id, fence int64, ttl time.Duration) error {
	if err := m.gone(); err != nil {
		return err
	}
	return m.Store.RenewReplay(ctx, id, fence, ttl)
}

func (m *mortalStore) SaveReplay(ctx context.Context, r logjob.Replay) error {
	if err := m.gone(); err != nil {
		return err
	}
	return m.Store.SaveReplay(ctx, r)
}

// A cancel ends an upload that hangs, and nothing is written afterwards.
func TestReplayIsCanceled(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	hang := make(chan struct{})
	sink := putter(func(ctx context.Context, _ Object) error {
		select {
		case <-hang:
		default:
			close(hang)
		}
		<-ctx.Done()
		return ctx.Err()
	})
	j := s.newJob(nil)
	m, _ := s.run(nil)
	m.sinks["bucket"] = func(*url.URL) (Sink, error) { return sink, nil }
	r := s.replay(j, 0, 100)
	eventually(t, func() error {
		select {
		case <-hang:
			return nil
		default:
			return errors.New("no upload yet")
		}
	})
	if _, err := s.store.CancelReplay(t.Context(), account, j.ID, r.ID); err != nil {
		t.Fatal(err)
	}
	next := s.replay(j, 0, 1) // it may run as soon as the other one is over
	m.sinks["bucket"] = func(*url.URL) (Sink, error) { return s.bucket, nil }
	s.ends(next, logjob.ReplayDone)
	if r = s.ends(r, logjob.ReplayCanceled); r.RecordsSent != 0 {
		t.Errorf("%d records count as sent", r.RecordsSent)
	}
}

type putter func(context.Context, Object) error

func (p putter) Put(ctx context.Context, o Object) error { return p(ctx, o) }

// What a replay waits for is shown, without what is nobody's business; then it goes on.
func TestReplayShowsWhatItWaitsFor(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	s.forget(0, 10)
	s.archive.fail = func() error { return errs.New(errs.Unavailable, 0, "dial tcp 10.0.0.1: refused") }
	s.bucket.set(func(Object) error { return &UploadError{Status: 503, Text: "hunter22"} })
	r := s.replay(s.newJob(nil), 0, 100)
	s.run(nil)
	shows := func(part string) {
		t.Helper()
		eventually(t, func() error {
			got, err := s.store.Replay(t.Context(), account, r.JobID, r.ID)
			if err == nil && (!strings.Contains(got.Error, part) || strings.Contains(got.Error, "10.0.0.1") || strings.Contains(got.Error, "hunter22")) {
				err = fmt.Errorf("it shows %q", got.Error)
			}
			return err
		})
	}
	shows("ClickHouse does not answer")
	s.archive.mu.Lock()
	s.archive.fail = nil
	s.archive.mu.Unlock()
	shows("error 503: error pushing")
	s.bucket.set(nil)
	if r = s.ends(r, logjob.ReplayDone); r.Error != "" {
		t.Errorf("at the end it shows %q", r.Error)
	}
	s.has(wanted(0, 100))
}

// A job that starts in the past gets what was before from a replay and the rest from
// live delivery, with nothing left out or sent twice in between, under traffic.
func TestJobStartsInThePast(t *testing.T) {
	s := newStage(t)
	s.produce(150)
	s.forget(0, 20)
	m, _ := s.run(nil)
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = m.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	created := make(chan struct{})
	running.Go(func() {
		defer close(created)
		s.newJob(func(j *logjob.Job) { j.Enabled, j.Start = true, s.at(30) })
	})
	for range 10 {
		s.produce(20)
	}
	<-created
	eventually(t, func() error {
		got := numbers(t, s.bucket)
		slices.Sort(got)
		if want := wanted(30, 350); !slices.Equal(got, want) {
			return fmt.Errorf("%d events, want %d", len(got), len(want))
		}
		return nil
	})
}

// Settings change while the replay runs: the rest is sent under the new ones.
func TestReplayFollowsTheJobsSettings(t *testing.T) {
	s := newStage(t)
	s.produce(200)
	j := s.newJob(nil)
	s.bucket.set(func(Object) error { return &UploadError{Status: 400, Text: "not this"} })
	r := s.replay(j, 0, 200)
	s.run(nil)
	eventually(t, func() error {
		if len(s.bucket.tried()) == 0 {
			return errors.New("nothing was tried yet")
		}
		return nil
	})
	j.OutputOptions.RecordPrefix = new(`{"new":1,`)
	if _, err := s.store.UpdateJob(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	s.bucket.set(func(o Object) error {
		if !strings.Contains(unzip(t, o.Body), `"new":1`) {
			return &UploadError{Status: 400, Text: "not this"}
		}
		return nil
	})
	s.ends(r, logjob.ReplayDone)
	s.has(wanted(0, 200))
}

func (b *bucket) tried() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.tries)
}

func TestReplayOfAJobThatIsOffNeedsAnEnd(t *testing.T) {
	s := newStage(t)
	j := s.newJob(nil)
	r, err := s.store.CreateReplay(t.Context(), account, j.ID, logjob.ReplayRequest{From: s.at(0)})
	if err != nil {
		t.Fatal(err)
	}
	s.run(nil)
	if r = s.ends(r, logjob.ReplayFailed); !strings.Contains(r.Error, "say to when") {
		t.Errorf("it failed with %q", r.Error)
	}
}
