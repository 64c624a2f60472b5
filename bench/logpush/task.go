package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/logjob"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/stream"
	"tidegate/test/events"
	"tidegate/test/proc"
	"tidegate/test/topic"
)

const (
	// memoryBytes is what the deliveries may hold of events: the default.
	memoryBytes = 512 << 20
	// batchBytes is where batches end by default.
	batchBytes = 5_000_000
)

// task is what a child has to do.
type task struct {
	Brokers []string
	Topic   string
	Dir     string
	Events  int
	Jobs    []logjob.Job
	Hanging int // of the jobs, from the first on
	Round   string
	Profile string // a file for a CPU profile; empty is none
}

// result of a child.
type result struct {
	Seconds    float64 // from the first fetch to the last object
	CPUSeconds float64 // of the process, in that time
	Records    int64
	Bytes      int64 // formatted
	GzipBytes  int64
	Fetches    int64
	Resident   int64 // bytes, at most
	Heap       int64 // bytes, at most
}

// child runs the task in a process of its own.
func (t task) child(ctx context.Context, role string, round int) (r result, err error) {
	dir, err := os.MkdirTemp(t.Dir, role)
	if err != nil {
		return r, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // scratch
	t.Dir, t.Round = dir, fmt.Sprintf("%s-%d-%d", t.Topic, len(t.Jobs), round)
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	args, err := json.Marshal(t)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, string(args))
	cmd.Env = append(os.Environ(), topic.RoleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, fmt.Errorf("%s of topic %s: %w", role, t.Topic, err)
	}
	return r, json.Unmarshal(out, &r)
}

func (t *task) run(ctx context.Context, role string) error {
	for i := range t.Jobs { // times are not part of a job's JSON, nor are accounts
		j := &t.Jobs[i]
		j.AccountID, j.Revision, j.EnabledAt = events.Account, 1, time.UnixMilli(1)
		j.DestinationConf = destination(t.Dir, *j, i < t.Hanging)
	}
	var r result
	var err error
	switch role {
	case "limit":
		r, err = t.limit()
	case "deliver":
		r, err = t.deliver(ctx)
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// limit compresses what the jobs would format, from memory, on all processors. A
// tenth of the events is formatted, and compressed over and over.
func (t *task) limit() (r result, err error) {
	dice := topic.Dice()
	part := min(t.Events, 50_000)
	texts := make([][]byte, len(t.Jobs))
	formats := make([]*logjob.Format, len(t.Jobs))
	filters := make([]*logjob.Filter, len(t.Jobs))
	for i := range t.Jobs {
		if formats[i], err = t.Jobs[i].Format(); err != nil {
			return r, err
		}
		if filters[i], err = logjob.ParseFilter(t.Jobs[i].Filter); err != nil {
			return r, err
		}
	}
	var batches [][]byte
	cut := func(i int) {
		batches = append(batches, texts[i])
		texts[i] = nil
	}
	for n := range part {
		var record logjob.Record
		if err := record.Split(events.AppendSmall(nil, dice, topic.LongAgo(n))); err != nil {
			return r, err
		}
		for i, f := range formats {
			if filters[i].Match(&record) {
				texts[i] = f.AppendRecord(texts[i], &record)
				r.Records++
			}
			if len(texts[i]) >= batchBytes {
				cut(i)
			}
		}
	}
	for i := range texts {
		cut(i)
	}
	times := max(t.Events/part, 1)
	r.Records *= int64(times)
	runtime.GC()

	work := make(chan []byte, len(batches))
	var all sync.WaitGroup
	var bytesIn, bytesOut atomic.Int64
	started, used := time.Now(), proc.OwnCPU()
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			zip, err := gzip.NewWriterLevel(nil, logpush.GzipLevel)
			if err != nil {
				panic(err) // the level is one of ours
			}
			var out bytes.Buffer
			for text := range work {
				out.Reset()
				zip.Reset(&out)
				_, _ = zip.Write(text) // into memory
				_ = zip.Close()
				bytesIn.Add(int64(len(text)))
				bytesOut.Add(int64(out.Len()))
			}
		})
	}
	for range times {
		for _, text := range batches {
			work <- text
		}
	}
	close(work)
	all.Wait()
	r.Seconds, r.CPUSeconds = time.Since(started).Seconds(), (proc.OwnCPU() - used).Seconds()
	r.Bytes, r.GzipBytes = bytesIn.Load(), bytesOut.Load()
	return r, nil
}

// meter counts what comes in and goes out.
type meter struct {
	reader  logpush.Reader
	first   atomic.Int64 // Unix nanoseconds of the first fetch
	cpu     atomic.Int64 // used until then
	last    atomic.Int64 // of the newest object
	fetches atomic.Int64
	records atomic.Int64
	gzip    atomic.Int64
}

func (m *meter) FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error) {
	if m.first.CompareAndSwap(0, time.Now().UnixNano()) {
		m.cpu.Store(int64(proc.OwnCPU()))
	}
	m.fetches.Add(1)
	return m.reader.FetchBatches(ctx, partition, offset, wait)
}

// measured is a sink that counts.
type measured struct {
	logpush.Sink
	*meter
}

func (s measured) Put(ctx context.Context, o logpush.Object) error {
	err := s.Sink.Put(ctx, o)
	if err == nil {
		s.records.Add(int64(o.Records))
		s.gzip.Add(int64(len(o.Body)))
		s.last.Store(time.Now().UnixNano())
	}
	return err
}

// hanging is a destination that never answers.
type hanging struct{}

func (hanging) Put(ctx context.Context, _ logpush.Object) error {
	<-ctx.Done()
	return ctx.Err()
}

// jobs is a control plane.
type jobs []logjob.Job

func (j jobs) Jobs(context.Context) ([]logjob.Job, error)          { return j, nil }
func (jobs) ReportDelivery(context.Context, logjob.Delivery) error { return nil }

// deliver runs the jobs from the beginning of the topic until they have all of it.
func (t *task) deliver(ctx context.Context) (r result, err error) {
	want, size, err := t.expected()
	if err != nil {
		return r, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	config := stream.Config{Brokers: t.Brokers, Topic: t.Topic}
	reader, err := stream.NewReader(config, log)
	if err != nil {
		return r, err
	}
	defer reader.Close()
	m := &meter{reader: reader}
	sinks := logpush.Sinks{
		"file": func(u *url.URL) (logpush.Sink, error) {
			sink, err := file.New(u, file.Options{Roots: []string{t.Dir}})
			return measured{sink, m}, err
		},
		"hang": func(*url.URL) (logpush.Sink, error) { return hanging{}, nil },
	}
	groups := func(id string) logpush.Group {
		return stream.NewGroup(stream.GroupConfig{Config: config, GroupID: id + "-" + t.Round, Logger: log})
	}
	manager, err := logpush.New(logpush.Config{DefaultInterval: 100 * time.Millisecond, MemoryBytes: memoryBytes, StopGrace: time.Second}, jobs(t.Jobs), sinks, groups, m, log)
	if err != nil {
		return r, err
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- manager.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-done)
	}()
	if t.Profile != "" {
		f, err := os.Create(t.Profile)
		if err != nil {
			return r, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return r, err
		}
		defer pprof.StopCPUProfile()
	}
	deadline := time.Now().Add(10 * time.Minute)
	for m.records.Load() < want {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return r, fmt.Errorf("%d of %d records were delivered", m.records.Load(), want)
		}
		time.Sleep(10 * time.Millisecond)
		r.sample()
	}
	used := proc.OwnCPU() - time.Duration(m.cpu.Load())
	r.Seconds = float64(m.last.Load()-m.first.Load()) / 1e9
	r.CPUSeconds = used.Seconds()
	r.Records, r.Bytes, r.GzipBytes, r.Fetches = want, size, m.gzip.Load(), m.fetches.Load()
	return r, nil
}

// expected returns how many records, and formatted bytes, the jobs that do not
// hang have to deliver.
func (t *task) expected() (records, size int64, err error) {
	dice := topic.Dice()
	formats := make([]*logjob.Format, len(t.Jobs))
	filters := make([]*logjob.Filter, len(t.Jobs))
	for i := range t.Jobs {
		if formats[i], err = t.Jobs[i].Format(); err != nil {
			return 0, 0, err
		}
		if filters[i], err = logjob.ParseFilter(t.Jobs[i].Filter); err != nil {
			return 0, 0, err
		}
	}
	var text, out []byte
	for n := range t.Events {
		var record logjob.Record
		text = events.AppendSmall(text[:0], dice, topic.LongAgo(n))
		if err := record.Split(text); err != nil {
			return 0, 0, err
		}
		for i := t.Hanging; i < len(t.Jobs); i++ {
			if filters[i].Match(&record) {
				out = formats[i].AppendRecord(out[:0], &record)
				records++
				size += int64(len(out))
			}
		}
	}
	runtime.GC()
	return records, size, nil
}

// sample notes the memory, now and then.
func (r *result) sample() {
	r.Resident = max(r.Resident, proc.Resident(os.Getpid()))
	var s [1]metrics.Sample
	s[0].Name = "/memory/classes/heap/objects:bytes"
	metrics.Read(s[:])
	r.Heap = max(r.Heap, int64(s[0].Value.Uint64())) // #nosec G115 -- bytes in memory
}
