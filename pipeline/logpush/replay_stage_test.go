package logpush

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidegate/internal/logjob"
	"tidegate/internal/store"
	"tidegate/internal/store/storetest"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
	"tidegate/schema/control"
)

// stage is a topic of two partitions on a broker of its own, an archive of what it
// held, the control plane's database, and a bucket.
type stage struct {
	t       *testing.T
	cluster *kfake.Cluster
	stream  stream.Config
	topic   *stream.Reader
	store   *store.Store
	bucket  *bucket
	archive *archive
	alerts  AlertStore
	epoch   time.Time // event n begins n seconds later
	made    int
}

func newStage(t *testing.T) *stage {
	t.Helper()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0", "log.cleaner.backoff.ms": "315360000000"}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	s := &stage{t: t, cluster: cluster, bucket: newBucket(), epoch: time.Now().Add(-6 * time.Hour).Truncate(time.Second),
		stream: stream.Config{Brokers: cluster.ListenAddrs(), Topic: "events"}}
	if err := stream.EnsureTopic(t.Context(), s.stream, 2, 1, 0); err != nil {
		t.Fatal(err)
	}
	if s.topic, err = stream.NewReader(s.stream, quiet); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.topic.Close)
	s.store = storetest.New(t, store.Options{})
	if _, err := s.store.Bootstrap(t.Context(), control.Account{ID: account, Subdomain: "dev"}, func(string) error { return nil }); err != nil {
		t.Fatal(err)
	}
	s.archive = &archive{rows: map[int][]tables.Archived{}}
	return s
}

// produce adds n events, numbered on, the n-th of which began n seconds after the
// epoch; one in five of a script that opted out.
func (s *stage) produce(n int) {
	s.t.Helper()
	producer, err := stream.NewProducer(stream.ProducerConfig{Config: s.stream, Schema: schema.EventSchemaVersion,
		SpoolDir: s.t.TempDir(), Linger: time.Millisecond, BatchEventsMax: 10, Logger: quiet})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, stop := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = producer.Run(ctx) })
	for range n {
		e := schema.TraceEvent{ScriptName: "shop", EventTimestampMs: s.at(s.made).UnixMilli(), EventType: "fetch",
			Outcome: []string{"ok", "exception"}[s.made%2], WallTimeMs: new(int64(s.made))}
		var headers []stream.Header
		if s.made%5 == 0 {
			headers = []stream.Header{{Name: schema.HeaderLogpush, Value: schema.LogpushDisabled}}
		}
		producer.EmitHeaders(account, headers, e.AppendJSON(nil))
		s.made++
	}
	eventually(s.t, func() error {
		if got := producer.Stats().EventsOut; int(got) != n {
			return fmt.Errorf("Kafka has %d of %d events", got, n)
		}
		return nil
	})
	stop()
	running.Wait()
	s.fill()
}

func (s *stage) at(n int) time.Time { return s.epoch.Add(time.Duration(n) * time.Second) }

// fill puts what Kafka has into the archive, as ingest would.
func (s *stage) fill() {
	s.t.Helper()
	s.archive.mu.Lock()
	defer s.archive.mu.Unlock()
	for id := range 2 {
		rows := s.archive.rows[id]
		offset := int64(0)
		if len(rows) > 0 {
			offset = rows[len(rows)-1].Offset + 1
		}
		for {
			batches, err := s.topic.FetchBatches(s.t.Context(), id, offset, false)
			if err != nil {
				s.t.Fatal(err)
			}
			if len(batches) == 0 {
				break
			}
			records, _ := batches[0].Decode(new(stream.Memory))
			from := offset
			offset = batches[0].Next
			for _, r := range records {
				if r.Offset < from {
					continue
				}
				var e schema.TraceEvent
				if err := schema.DecodeEvent(r.Value, &e); err != nil {
					s.t.Fatal(err)
				}
				a := tables.Archived{Offset: r.Offset, Time: time.UnixMilli(e.EventTimestampMs), Logpush: tables.LogpushYes, Value: r.Value}
				if r.Header(schema.HeaderLogpush) != "" {
					a.Logpush = tables.LogpushNo
				}
				rows = append(rows, a)
			}
		}
		s.archive.rows[id] = rows
	}
}

// forget takes what lies before an offset out of Kafka, as retention does.
func (s *stage) forget(partition int32, before int64) {
	s.t.Helper()
	if first := s.cluster.PartitionInfo("events", partition).LogStartOffset; before <= first {
		return
	}
	if err := s.cluster.DeleteRecords("events", partition, before); err != nil {
		s.t.Error(err) // also called where a replay reads
	}
}

// newJob stores a job to the bucket; change may be nil.
func (s *stage) newJob(change func(*logjob.Job)) logjob.Job {
	s.t.Helper()
	j := job(0)
	j.DestinationConf, j.Enabled = "bucket://all/?secret-access-key=hunter22", false
	j.MaxUploadRecords = new(int64(7))
	if change != nil {
		change(&j)
	}
	j, err := s.store.CreateJob(s.t.Context(), j, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	return j
}

func (s *stage) replay(j logjob.Job, from, to int) logjob.Replay {
	s.t.Helper()
	r, err := s.store.CreateReplay(s.t.Context(), account, j.ID, logjob.ReplayRequest{From: s.at(from), To: new(s.at(to))})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// run starts a process that delivers jobs and runs replays.
func (s *stage) run(change func(*ReplayConfig)) (m *Manager, stop func()) {
	s.t.Helper()
	m, err := New(Config{DefaultInterval: 100 * time.Millisecond, PollInterval: 10 * time.Millisecond, Letters: s.store, Alerts: s.alerts}, s.store,
		Sinks{"bucket": func(*url.URL) (Sink, error) { return s.bucket, nil }},
		func(groupID string) Group {
			return stream.NewGroup(stream.GroupConfig{Config: s.stream, GroupID: groupID, Logger: quiet})
		}, s.topic, quiet)
	if err != nil {
		s.t.Fatal(err)
	}
	c := ReplayConfig{Replays: s.store, Topic: s.topic, Archive: s.archive, Holder: fmt.Sprintf("%p", m), Lease: time.Minute}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := errors.Join(m.RunReplays(ctx, c)); err != nil {
			s.t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	s.t.Cleanup(stop)
	return m, stop
}

// ends waits until a replay has a state.
func (s *stage) ends(r logjob.Replay, state string) logjob.Replay {
	s.t.Helper()
	eventually(s.t, func() (err error) {
		if r, err = s.store.Replay(s.t.Context(), account, r.JobID, r.ID); err == nil && r.State != state {
			err = fmt.Errorf("the replay is %s, not %s: %q", r.State, state, r.Error)
		}
		return err
	})
	return r
}

// wanted lists the numbers from up to to that are not of the script that opted out.
func wanted(from, to int) []int {
	return slices.DeleteFunc(sequence(from, to), func(n int) bool { return n%5 == 0 })
}

// has fails unless the bucket's objects hold exactly the numbers wanted.
func (s *stage) has(want []int) {
	s.t.Helper()
	got := numbers(s.t, s.bucket)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		s.t.Errorf("the bucket has %d events, want %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

// archive is a ClickHouse in memory, with pages of five.
type archive struct {
	mu    sync.Mutex
	rows  map[int][]tables.Archived
	fail  func() error
	paged func(pages int) // called before each page
	pages int
}

func (a *archive) ArchivedEvents(_ context.Context, q tables.ArchiveQuery) (list []tables.Archived, next int64, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pages++
	if a.paged != nil {
		a.paged(a.pages)
	}
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return nil, 0, err
		}
	}
	for _, row := range a.rows[q.Partition] {
		if row.Offset < q.Begin || row.Offset >= q.End || row.Time.Before(q.From) || !q.To.IsZero() && !row.Time.Before(q.To) {
			continue
		}
		if list = append(list, row); len(list) == 5 {
			return list, row.Offset + 1, nil
		}
	}
	return list, q.End, nil
}

func (a *archive) OldestArchived(context.Context) (oldest time.Time, ok bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, rows := range a.rows {
		for _, row := range rows {
			if !ok || row.Time.Before(oldest) {
				oldest, ok = row.Time, true
			}
		}
	}
	return oldest, ok, nil
}

func (a *archive) ArchiveRange(_ context.Context, q tables.ArchiveQuery) (tables.ArchiveRange, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fail != nil {
		if err := a.fail(); err != nil {
			return tables.ArchiveRange{}, err
		}
	}
	first, last, below, above := q.End, q.Begin-1, int64(-1), q.End
	for _, row := range a.rows[q.Partition] {
		if row.Offset >= q.Begin && row.Offset < q.End && !row.Time.Before(q.From) && (q.To.IsZero() || row.Time.Before(q.To)) {
			first, last = min(first, row.Offset), row.Offset
		}
	}
	for _, row := range a.rows[q.Partition] {
		switch {
		case row.Offset < q.Begin || row.Offset >= q.End:
		case row.Offset < first && first < q.End:
			below = row.Offset
		case row.Offset > last && first < q.End:
			above = min(above, row.Offset)
		}
	}
	r := tables.ArchiveRange{Begin: first, End: above}
	if below >= 0 {
		r.Begin = below + 1
	} else if q.Begin >= 0 {
		r.Begin = q.Begin
	}
	for _, row := range a.rows[q.Partition] {
		if row.Offset >= r.Begin && row.Offset < r.End {
			r.Held++
		}
	}
	return r, nil
}
