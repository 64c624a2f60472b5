package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"tidegate/internal/clickhouse"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
	"tidegate/test/proc"
	"tidegate/test/topic"
)

// Roles of a child.
const (
	roleLimit  = "limit"
	roleIngest = "ingest"
)

// task is what a child has to do.
type task struct {
	Brokers            []string
	Topic, Group       string
	Dir                string
	Events, Partitions int
	ClickHouse         string
	EnginePid          int
	Profile            string // a file for a CPU profile; empty is none
}

// result of a child.
type result struct {
	Seconds          float64 // from the first fetch, or insert, until the last block is stored
	CPUSeconds       float64 // of the child, in that time
	EngineCPUSeconds float64
	Rows, Blocks     int
}

// spawn runs the task in a child and reads its result.
func (t task) spawn(ctx context.Context, role string, r *result) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args, err := json.Marshal(t)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, string(args))
	cmd.Env = append(os.Environ(), topic.RoleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", role, err)
	}
	return json.Unmarshal(out, r)
}

func (t *task) run(ctx context.Context, role string) (err error) {
	cfg := clickhouse.DefaultConfig(t.ClickHouse)
	db, err := clickhouse.Open(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	var r result
	switch role {
	case roleLimit:
		r, err = t.limit(ctx, db)
	case roleIngest:
		r, err = t.ingest(ctx, db)
	default:
		err = fmt.Errorf("there is no role %q", role)
	}
	if err != nil {
		return err
	}
	counts, err := db.Counts(ctx)
	if err != nil {
		return err
	}
	if n := int64(t.Events); counts.Events != n || counts.Seconds != n || counts.Minutes != n || counts.Hours != n {
		return fmt.Errorf("of %d events the tables count %+v", t.Events, counts)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// read runs ingest with writer from the beginning of the topic until it has all of it.
func (t *task) read(ctx context.Context, writer ingest.Writer, begun func(), done <-chan struct{}) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	in, err := ingest.New(ingest.DefaultConfig(t.Topic), writer, log)
	if err != nil {
		return err
	}
	group := stream.NewGroup(stream.GroupConfig{Config: stream.Config{Brokers: t.Brokers, Topic: t.Topic}, GroupID: t.Group, Logger: log})
	ctx, stop := context.WithTimeout(ctx, 10*time.Minute)
	defer stop()
	go func() {
		select {
		case <-done:
			stop()
		case <-ctx.Done():
		}
	}()
	err = group.Run(ctx, func(ctx context.Context, p stream.Partition) error {
		begun()
		return in.HandlePartition(ctx, p)
	})
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return errors.New("the topic was not read in time")
	}
	return err
}

// counter passes blocks on and tells when all rows are stored.
type counter struct {
	ingest.Writer
	mu     sync.Mutex
	rows   int // stored
	blocks int
	want   int
	done   func() // called once
}

func (c *counter) InsertEvents(ctx context.Context, token string, rows *tables.Events) error {
	err := c.Writer.InsertEvents(ctx, token, rows)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows += rows.Len()
	c.blocks++
	if c.rows == c.want {
		c.done()
	}
	return nil
}

// ingest moves the topic into the tables.
func (t *task) ingest(ctx context.Context, db *clickhouse.DB) (r result, err error) {
	done := make(chan struct{})
	var s stopwatch
	count := &counter{Writer: db, want: t.Events, done: func() {
		s.stop(&r)
		close(done)
	}}
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
	begin := sync.OnceFunc(func() { s.start(t.EnginePid) })
	if err := t.read(ctx, count, begin, done); err != nil {
		return r, err
	}
	r.Rows, r.Blocks = count.rows, count.blocks
	return r, s.err
}

// copies keeps the blocks of each partition instead of storing them.
type copies struct {
	ingest.Writer
	mu     sync.Mutex
	blocks map[int32][]*tables.Events
}

func (c *copies) InsertEvents(_ context.Context, _ string, rows *tables.Events) error {
	kept := new(tables.Events)
	from, to := reflect.ValueOf(rows).Elem(), reflect.ValueOf(kept).Elem()
	for i := range from.NumField() {
		if from.Field(i).Kind() != reflect.Slice {
			continue // blocks from memory need no proof
		}
		to.Field(i).Set(reflect.AppendSlice(reflect.Zero(from.Field(i).Type()), from.Field(i)))
		// Ingest uses the memory of records again.
		if texts, ok := to.Field(i).Interface().([][]byte); ok {
			for i := range texts {
				texts[i] = bytes.Clone(texts[i])
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	partition := rows.KafkaPartition[0]
	c.blocks[partition] = append(c.blocks[partition], kept)
	return nil
}

// Tombstones says that nothing is deleted.
func (*copies) Tombstones(context.Context) ([]schema.Tombstone, error) { return nil, nil }

// limit takes the blocks that ingest makes of the topic and inserts them from memory,
// each partition's one after the other and all partitions at once, as ingest does.
func (t *task) limit(ctx context.Context, db *clickhouse.DB) (r result, err error) {
	done := make(chan struct{})
	kept := &copies{Writer: db, blocks: map[int32][]*tables.Events{}}
	count := &counter{Writer: kept, want: t.Events, done: func() { close(done) }}
	if err := t.read(ctx, count, func() {}, done); err != nil {
		return r, err
	}
	runtime.GC()
	r.Rows, r.Blocks = count.rows, count.blocks
	var s stopwatch
	s.start(t.EnginePid)
	var all sync.WaitGroup
	failures := make([]error, t.Partitions)
	for partition, blocks := range kept.blocks {
		all.Go(func() {
			for i, b := range blocks {
				failures[partition] = errors.Join(failures[partition], db.InsertEvents(ctx, fmt.Sprintf("%d-%d", partition, i), b))
			}
		})
	}
	all.Wait()
	s.stop(&r)
	return r, errors.Join(errors.Join(failures...), s.err)
}

// stopwatch measures time and processor time of this process and the engine's.
type stopwatch struct {
	pid       int
	began     time.Time
	own, used time.Duration
	err       error
}

func (s *stopwatch) start(pid int) {
	s.pid, s.began, s.own = pid, time.Now(), proc.OwnCPU()
	s.used, s.err = proc.CPU(pid)
}

func (s *stopwatch) stop(r *result) {
	r.Seconds, r.CPUSeconds = time.Since(s.began).Seconds(), (proc.OwnCPU() - s.own).Seconds()
	used, err := proc.CPU(s.pid)
	r.EngineCPUSeconds, s.err = (used - s.used).Seconds(), errors.Join(s.err, err)
}
