// Package logpush kills the process that delivers Logpush jobs, over and over, and
// looks at what the destinations have afterwards.
package logpush

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tidegate/internal/embedded"
	"tidegate/internal/logjob"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/bucket"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/pipeline/logpush/sink/file"
	"tidegate/pipeline/logpush/sink/intake"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const (
	// taskVariable makes this program the process that delivers.
	taskVariable = "TIDEGATE_TEST_DELIVER"
	account      = "0123456789abcdef0123456789abcdef"
)

var quiet = slog.New(slog.DiscardHandler)

func TestMain(m *testing.M) {
	if text := os.Getenv(taskVariable); text != "" {
		if err := deliver(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// task is what the process that delivers has to know.
type task struct {
	Stream       stream.Config
	Root         string   // of file destinations
	Destinations []string // one a job
}

// tasks is a control plane whose jobs were made before the first event.
type tasks []logjob.Job

func (t tasks) Jobs(context.Context) ([]logjob.Job, error)          { return t, nil }
func (tasks) ReportDelivery(context.Context, logjob.Delivery) error { return nil }

// deliver runs until it is told to stop, or killed.
func deliver(text string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var t task
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return err
	}
	var jobs tasks
	for i, conf := range t.Destinations {
		jobs = append(jobs, logjob.Job{ID: int64(i + 1), AccountID: account, Enabled: true, Revision: 1, EnabledAt: time.UnixMilli(1),
			DestinationConf: conf, MaxUploadRecords: new(int64(150)), OutputOptions: &logjob.OutputOptions{FieldNames: []string{"WallTimeMs"}}})
	}
	policy := egress.Policy{AllowHTTP: true, AllowLoopback: true, AllowPrivate: true}
	sinks := logpush.Sinks{
		"file":  func(u *url.URL) (logpush.Sink, error) { return file.New(u, file.Options{Roots: []string{t.Root}}) },
		"s3":    func(u *url.URL) (logpush.Sink, error) { return bucket.New(u, bucket.Options{Egress: policy}) },
		"http":  func(u *url.URL) (logpush.Sink, error) { return intake.New(u, intake.Options{Egress: policy}) },
		"items": func(u *url.URL) (logpush.Sink, error) { return items{u.Host}, nil },
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	reader, err := stream.NewReader(t.Stream, log)
	if err != nil {
		return err
	}
	defer reader.Close()
	groups := func(id string) logpush.Group {
		return stream.NewGroup(stream.GroupConfig{Config: t.Stream, GroupID: id, SessionTimeout: time.Second, Logger: log})
	}
	manager, err := logpush.New(logpush.Config{DefaultInterval: 200 * time.Millisecond}, jobs, sinks, groups, reader, log)
	if err != nil {
		return err
	}
	return manager.Run(ctx)
}

// killRounds is how often the process is killed: TIDEGATE_LONG replaces the number for every day.
func killRounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("TIDEGATE_LONG")
	if text == "" {
		return 3
	}
	rounds, err := strconv.Atoi(text)
	if err != nil || rounds < 1 {
		t.Fatalf("TIDEGATE_LONG is %q, want a number of rounds", text)
	}
	return rounds
}

// Under load, the process that delivers dies at any moment. Afterwards nothing is
// missing at any destination, and no event is in two objects of a bucket or folder;
// receivers that cannot overwrite get a repeat under the same id, with the same content.
func TestNothingIsMissingAfterKills(t *testing.T) {
	root := t.TempDir()
	broker, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{Addr: "127.0.0.1:0", DataDir: t.TempDir(),
		Topics: []embedded.Topic{{Name: schema.Topic, Partitions: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	d := newDestinations(t, root)
	tk := task{Stream: stream.Config{Brokers: []string{broker.Addr()}, Topic: schema.Topic}, Root: root, Destinations: d.confs()}
	producer := produce(t, tk.Stream)

	rounds := killRounds(t)
	for round := range rounds {
		child := start(t, tk)
		before := d.uploads.Load()
		wait(t, func() error {
			if n := d.uploads.Load(); n < before+20 {
				return fmt.Errorf("round %d: %d uploads", round, n-before)
			}
			return nil
		})
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond) // a random moment, not a wait
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // killed
	}
	last := start(t, tk)
	want := producer.stop()
	wait(t, func() error { return d.complete(want) })
	if err := last.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := last.Wait(); err != nil {
		t.Errorf("the last process ended with %v", err)
	}
	if err := d.complete(want); err != nil {
		t.Errorf("after the stop: %v", err)
	}
	t.Logf("%d events, killed %d times: %d uploads to receivers and buckets, %d of them refused, %d repeated to receivers",
		want, rounds, d.uploads.Load(), d.refused.Load(), d.repeats())
}

func start(t *testing.T, tk task) *exec.Cmd {
	t.Helper()
	text, err := json.Marshal(tk)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), taskVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it may have ended
	return cmd
}

// wait polls until check is content.
func wait(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after 3 minutes: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// load produces numbered events until it is stopped.
type load struct {
	halt chan struct{}
	done chan int
}

func produce(t *testing.T, config stream.Config) *load {
	t.Helper()
	p, err := stream.NewProducer(stream.ProducerConfig{Config: config, Schema: schema.EventSchemaVersion,
		SpoolDir: t.TempDir(), Linger: 5 * time.Millisecond, BatchEventsMax: 40, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the producer ended with %v", err)
		}
	})
	l := &load{halt: make(chan struct{}), done: make(chan int, 1)}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; {
			select {
			case <-l.halt:
				l.done <- n
				return
			case <-tick.C:
			}
			for range 20 {
				e := schema.TraceEvent{ScriptName: []string{"shop", "cart"}[n%2], ScriptVersion: schema.ScriptVersion{ID: fmt.Sprint("v", n%3)},
					EventTimestampMs: time.Now().UnixMilli(), EventType: "fetch", Outcome: "ok", WallTimeMs: new(int64(n))}
				p.Emit(account, e.AppendJSON(nil))
				n++
			}
		}
	}()
	return l
}

// stop returns how many events there are.
func (l *load) stop() int {
	close(l.halt)
	return <-l.done
}

// once requires each number below want exactly once.
func once(name string, got []int, want int) error {
	seen := make([]bool, want)
	for _, n := range got {
		if n >= want || seen[n] {
			return fmt.Errorf("%s has event %d twice", name, n)
		}
		seen[n] = true
	}
	if len(got) != want {
		return fmt.Errorf("%s has %d of %d events", name, len(got), want)
	}
	return nil
}

// numbers reads the events of a text of lines.
func numbers(text string) (list []int, err error) {
	for line := range strings.Lines(text) {
		var e struct{ WallTimeMs int }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		list = append(list, e.WallTimeMs)
	}
	return list, nil
}

// folder reads all objects below a folder.
func folder(dir string) (list []int, err error) {
	err = filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".log.gz") {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		got, err := unzipped(body)
		list = append(list, got...)
		return err
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return list, err
}
