package logpush

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/logjob"
)

// letterbox keeps letters in memory.
type letterbox struct {
	mu      sync.Mutex
	letters []logjob.DeadLetter
	refuse  error
}

func (b *letterbox) AddDeadLetter(_ context.Context, l logjob.DeadLetter, _ logjob.LetterLimits) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.refuse != nil {
		return b.refuse
	}
	for _, known := range b.letters {
		if known.BatchID == l.BatchID && known.Partition == l.Partition {
			return nil
		}
	}
	b.letters = append(b.letters, l)
	return nil
}

func (b *letterbox) fill(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse = err
}

// text is the content of all letters.
func (b *letterbox) text(t testing.TB) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var text strings.Builder
	for _, l := range b.letters {
		content, err := l.Content()
		if err != nil {
			t.Fatal(err)
		}
		text.Write(content)
	}
	return text.String()
}

// batched is a world without Kafka: batches come from the test.
type batched struct {
	*world
	settings *settings
	letters  letterbox
	health   *health
}

func newBatched(t testing.TB, sink Sink) *batched {
	t.Helper()
	b := &batched{world: newWorld(t)}
	var err error
	if b.settings, err = settingsOf(b.job, b.sinks()); err != nil {
		t.Fatal(err)
	}
	if sink != nil {
		b.settings.sink, b.settings.traits = sink, TraitsOf(sink)
	}
	b.health = newHealth(b.job.ID, b.reports.add, quiet)
	b.health.letters = &b.letters
	return b
}

func settingsOf(j logjob.Job, sinks Sinks) (*settings, error) {
	return newSettings(j, sinks, Config{DefaultInterval: 30 * time.Second, Parallel: 1})
}

func (b *batched) uploader(ctx context.Context) *uploader {
	b.t.Helper()
	m, err := newMetrics()
	if err != nil {
		b.t.Fatal(err)
	}
	return &uploader{settings: b.settings, partition: 3, stopping: ctx, health: b.health, metrics: m.of(b.job.ID), log: quiet}
}

// seal makes a batch of records; every other offset is one.
func (b *batched) seal(records ...string) *sealed {
	b.t.Helper()
	f := b.settings.format
	s := &sealed{begin: 100, until: time.Unix(1_700_000_060, 0).UTC(), oldest: time.Unix(1_700_000_000, 0).UTC(),
		Object: Object{Name: "whole.log.gz", Date: time.Unix(1_700_000_000, 0).UTC(), ContentType: f.ContentType, Records: len(records),
			JobID: b.job.ID, BatchID: b.settings.batchID(3, &plan{Begin: 100}), Dataset: "workers_trace_events"}}
	at := len(f.BatchPrefix)
	for i, r := range records {
		if i > 0 {
			at += len(f.Delimiter)
		}
		at += len(r)
		s.index = append(s.index, place{end: uint32(at), offset: uint32(2 * i)})
	}
	s.size = int64(at + len(f.BatchSuffix))
	if TraitsOf(b.settings.sink).Records {
		for _, r := range records {
			s.Items = append(s.Items, Item{Text: []byte(r), Time: s.oldest, Script: "shop"})
		}
		return s
	}
	var err error
	if s.Body, err = zip(f, func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(records, string(f.Delimiter)))
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return s
}

func numbered(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("{\"n\":%d}\n", i))
	}
	return list
}

// receiver is an HTTP server that keeps what it took, by batch id.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	taken    map[string]string
	requests int
}

func newReceiver(t testing.TB, answer func(text string) int) *receiver {
	t.Helper()
	r := &receiver{taken: map[string]string{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := gzip.NewReader(req.Body)
		if err != nil {
			t.Errorf("a request is not gzip: %v", err)
			return
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Errorf("a request is not whole: %v", err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests++
		status := answer(string(text))
		if status < 300 {
			r.taken[req.Header.Get("Batch")] = string(text)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(r.Close)
	return r
}

// Put makes a receiver a sink.
func (r *receiver) Put(ctx context.Context, o Object) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(o.Body))
	if err != nil {
		return err
	}
	req.Header.Set("Batch", o.BatchID)
	res, err := r.Client().Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 300 {
		return nil
	}
	return &UploadError{Status: res.StatusCode, Text: "no", Permanent: res.StatusCode < 500 && res.StatusCode != http.StatusTooManyRequests}
}

// lines are the records that were taken.
func (r *receiver) lines() (list []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, text := range r.taken {
		list = append(list, strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	for i := range list {
		list[i] = strings.TrimSuffix(list[i], "\n") + "\n"
	}
	slices.Sort(list)
	return list
}

func without(records []string, bad ...int) (list []string) {
	for i, r := range records {
		if !slices.Contains(bad, i) {
			list = append(list, r)
		}
	}
	slices.Sort(list)
	return list
}

func sinksOf(s Sink) func(*url.URL) (Sink, error) {
	return func(*url.URL) (Sink, error) { return s, nil }
}
