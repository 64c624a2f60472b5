package logpush

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// What neither has is told, with numbers.
func TestReplayTellsWhatIsLost(t *testing.T) {
	s := newStage(t)
	s.produce(400)
	s.forget(0, 100)
	s.archive.rows[0] = slices.DeleteFunc(s.archive.rows[0], func(a tables.Archived) bool { return a.Offset >= 40 && a.Offset < 50 || a.Offset >= 95 })
	gone := map[int]bool{}
	for _, n := range sequence(0, 400) {
		gone[n] = true
	}
	for _, rows := range s.archive.rows {
		for _, row := range rows {
			var e schema.TraceEvent
			if err := json.Unmarshal(row.Value, &e); err != nil {
				t.Fatal(err)
			}
			gone[int(*e.WallTimeMs)] = false
		}
	}
	for offset := int64(100); ; {
		batches, err := s.topic.FetchBatches(t.Context(), 0, offset, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(batches) == 0 {
			break
		}
		for i := range batches {
			records, err := batches[i].DecodeAll(new(stream.Memory))
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				var e schema.TraceEvent
				if err := json.Unmarshal(r.Value, &e); err != nil {
					t.Fatal(err)
				}
				gone[int(*e.WallTimeMs)] = gone[int(*e.WallTimeMs)] && r.Offset < 100
			}
			offset = batches[i].Next
		}
	}
	r := s.replay(s.newJob(nil), 0, 400)
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(slices.DeleteFunc(wanted(0, 400), func(n int) bool { return gone[n] }))
	if want := []logjob.ReplayLoss{{Partition: 0, Begin: 0, End: 100, Missing: 15, Reason: lossHole}}; r.RecordsLost != 15 || !slices.Equal(r.Losses, want) {
		t.Errorf("lost %d: %+v", r.RecordsLost, r.Losses)
	}
}

// A replay of what is older than all that is kept says from when on there is something, and
// how much of its time that leaves out, which was nobody's loss before.
func TestReplayTellsFromWhenOnEventsAreKept(t *testing.T) {
	began := time.Now().Truncate(time.Millisecond)
	s := newStage(t)
	s.produce(100)
	j := s.newJob(nil)
	s.run(nil)
	f := func(from, to int, want *time.Time) {
		t.Helper()
		r := s.ends(s.replay(j, from, to), logjob.ReplayDone)
		if (r.KeptFrom == nil) != (want == nil) || want != nil && !r.KeptFrom.Equal(*want) {
			t.Errorf("from %d to %d events are kept from %v on, want %v", from, to, r.KeptFrom, want)
		}
	}
	f(-9000, 100, nil) // the topic has all that there ever was
	for p := range int32(2) {
		s.forget(p, 20)
	}
	f(0, 100, nil) // ClickHouse has the rest
	f(-9000, 100, new(s.at(0)))
	f(-9000, -8000, new(s.at(-8000))) // nothing of it
	s.archive.mu.Lock()
	for id, rows := range s.archive.rows {
		s.archive.rows[id] = slices.DeleteFunc(rows, func(a tables.Archived) bool { return a.Time.Before(s.at(60)) })
	}
	s.archive.mu.Unlock()
	f(70, 100, nil)
	f(0, 100, new(s.at(60)))
	s.archive.mu.Lock()
	s.archive.rows = map[int][]tables.Archived{}
	s.archive.mu.Unlock()
	f(0, 50, new(s.at(50))) // Kafka's records are of now
	if r := s.ends(s.replay(j, 0, 100_000), logjob.ReplayDone); r.KeptFrom == nil || r.KeptFrom.Before(began) || r.KeptFrom.After(time.Now()) {
		t.Errorf("events are kept from %v on, want the time of Kafka's first record", r.KeptFrom)
	}
	for p := range int32(2) {
		_, next, err := s.topic.Bounds(t.Context(), int(p))
		if err != nil {
			t.Fatal(err)
		}
		s.forget(p, next)
	}
	f(0, 50, new(s.at(50)))
}

// An answer without records is not the end of a partition: the next one may have some. The
// replay said that nothing was kept up to now.
func TestReplayAsksAgainFromWhenOnEventsAreKept(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	for p := range int32(2) {
		s.forget(p, 20)
	}
	made := time.Now()
	r := s.replay(s.newJob(nil), 0, 100_000)
	s.run(func(c *ReplayConfig) {
		c.Topic, c.Archive = &hesitant{Reader: s.topic, asked: map[int]int{}, times: 10}, nil
	})
	if r = s.ends(r, logjob.ReplayDone); r.KeptFrom == nil || r.KeptFrom.After(made) {
		t.Errorf("events are kept from %v on, want the time of Kafka's first record, before %v", r.KeptFrom, made)
	}
}

// A new leader may not know for a while how far its predecessor was, and sends nothing of that. The replay
// went on behind it, and said that all was sent.
func TestReplayWaitsForALeaderThatSendsNothing(t *testing.T) {
	s := newStage(t)
	s.produce(200)
	r := s.replay(s.newJob(nil), 0, 200)
	s.run(func(c *ReplayConfig) {
		c.Topic, c.Archive = &hesitant{Reader: s.topic, asked: map[int]int{}, times: 10}, nil
	})
	s.ends(r, logjob.ReplayDone)
	s.has(wanted(0, 200))
}

// hesitant is a topic that has nothing to tell of a partition when it is asked first, as many times.
type hesitant struct {
	*stream.Reader
	times int
	mu    sync.Mutex
	asked map[int]int
}

func (s *hesitant) FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error) {
	s.mu.Lock()
	s.asked[partition]++
	silent := s.asked[partition] <= s.times
	s.mu.Unlock()
	if silent {
		return nil, nil
	}
	return s.Reader.FetchBatches(ctx, partition, offset, wait)
}

// Batches that cannot be decoded, in the middle and at the end, are passed and told as
// lost, once, though the replay is taken up again behind the first. A preview passes them, too.
func TestReplayPassesBatchesThatCannotBeDecoded(t *testing.T) {
	s := newStage(t)
	client, err := kgo.NewClient(kgo.SeedBrokers(s.stream.Brokers...), kgo.MaxVersions(kversion.V3_0_0()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	s.produce(100)
	middle := spoil(t, client, "events", 0, 3)
	s.produce(100)
	last := spoil(t, client, "events", 0, 2)
	j := s.newJob(nil)
	r := s.replay(j, 0, 200)
	hung := make(chan struct{}, 1)
	uploads := 0
	s.bucket.set(func(o Object) error {
		if uploads++; uploads == 20 {
			hung <- struct{}{}
		}
		if uploads >= 20 {
			return &UploadError{Status: 503}
		}
		return nil
	})
	_, stop := s.run(nil)
	<-hung
	stop()
	s.bucket.set(nil)
	s.run(nil)
	r = s.ends(r, logjob.ReplayDone)
	s.has(wanted(0, 200))
	want := []logjob.ReplayLoss{{Partition: 0, Begin: middle, End: middle + 3, Missing: 3, Reason: lossBroken},
		{Partition: 0, Begin: last, End: last + 2, Missing: 2, Reason: lossBroken}}
	if r.RecordsLost != 5 || !slices.Equal(r.Losses, want) {
		t.Errorf("lost %d: %+v, want %+v", r.RecordsLost, r.Losses, want)
	}
	p := NewPreviews(Sinks{"bucket": func(*url.URL) (Sink, error) { return s.bucket, nil }}, s.topic, nil)
	if got, err := p.Preview(t.Context(), j, nil, 1000); err != nil || got.LookedAt != 200 {
		t.Errorf("the preview looked at %d events, %v, want 200", got.LookedAt, err)
	}
}

// A partition's new leader tells of a lower end than there was, for a moment. Nothing
// is lost by that, and nothing is called so.
func TestReplayWhileALeaderChanges(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	r := s.replay(s.newJob(nil), 0, 100)
	s.run(func(c *ReplayConfig) { c.Topic, c.Archive = &shrunken{Reader: s.topic, asked: map[int]int{}}, nil })
	r = s.ends(r, logjob.ReplayDone)
	s.has(wanted(0, 100))
	if r.RecordsLost != 0 {
		t.Errorf("lost %d: %+v", r.RecordsLost, r.Losses)
	}
}

// shrunken is a topic whose partitions are said to end at offset 10 once they were
// looked at, three times.
type shrunken struct {
	*stream.Reader
	mu    sync.Mutex
	asked map[int]int
}

func (s *shrunken) Bounds(ctx context.Context, partition int) (first, next int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[partition]++
	first, next, err = s.Reader.Bounds(ctx, partition)
	if n := s.asked[partition]; n > 1 && n < 5 {
		next = min(next, 10)
	}
	return first, next, err
}

// What became dead letters counted as sent, and a replay that ended "done" did not tell that its destination had
// refused all of it. Nor did an alert.
func TestReplayCountsWhatItsDestinationTook(t *testing.T) {
	s := newStage(t)
	s.produce(60)
	letters, bytes := 0, 0              // the bucket's lock guards them
	s.bucket.set(func(o Object) error { // it takes all but the first record of an object
		text := unzip(t, o.Body)
		letters, bytes = letters+1, bytes+strings.Index(text, "\n")+1
		return &UploadError{Status: 400, Text: "no", Permanent: true, Records: []int{0}}
	})
	j := s.newJob(nil)
	s.alerts = &alertbox{}
	m, _ := s.run(nil)
	r := s.ends(s.replay(j, 0, 60), logjob.ReplayDone)
	want := wanted(0, 60)
	whole := 0
	for _, n := range want {
		whole += len(fmt.Sprintf("{\"WallTimeMs\":%d}\n", n))
	}
	if r.RecordsRead < int64(len(want)) || letters == 0 || r.RecordsSent != int64(len(want)-letters) || r.BytesSent != int64(whole-bytes) {
		t.Errorf("of %d records with %d bytes %d with %d bytes were refused, and the replay says %+v", len(want), whole, letters, bytes, r.ReplayProgress)
	}
	if _, total, err := s.store.DeadLetters(t.Context(), account, j.ID, logjob.LetterNew, 100, 0); err != nil || total != letters {
		t.Errorf("%d dead letters, want %d, error %v", total, letters, err)
	}
	if list := m.alerts.waiting[account]; len(list) != 1 || list[0].kind != AlertLetters || list[0].job.ID != j.ID { // each took the last one's place
		t.Errorf("the alerts %+v", list)
	}
}

// The story: a replay's upload was whole when the process died. Until it was repeated,
// retention took a part of it: what was left replaced the object under the same name.
func TestWhatRetentionLeftOfAReplaysBatchDoesNotReplaceIt(t *testing.T) {
	s := newStage(t)
	s.produce(100)
	j := s.newJob(nil)
	r := s.replay(j, 0, 100)
	dead := make(chan struct{})
	var once sync.Once
	s.bucket.after = func(Object) error {
		once.Do(func() { close(dead) })
		return errors.New("nobody hears this")
	}
	_, stop := s.run(func(c *ReplayConfig) {
		c.Replays, c.Archive, c.Lease = &mortalStore{Store: s.store, dead: dead}, nil, 500*time.Millisecond
	})
	eventually(t, func() error {
		select {
		case <-dead:
			return nil
		default:
			return errors.New("it lives")
		}
	})
	stop()
	s.bucket.mu.Lock()
	s.bucket.after = nil
	before := maps.Clone(s.bucket.objects)
	s.bucket.mu.Unlock()
	for p := range int32(2) {
		s.forget(p, 3)
	}
	s.run(func(c *ReplayConfig) { c.Archive = nil })
	s.ends(r, logjob.ReplayDone)
	if len(before) != 1 {
		t.Fatalf("%d objects were there before", len(before))
	}
	for name, o := range before {
		if now := s.bucket.objects[name]; !bytes.Equal(now.Body, o.Body) {
			t.Errorf("%s had %d records and now has %d", name, o.Records, now.Records)
		}
	}
}
