// Package sinktest is the contract of logpush.Sink as tests; every sink passes it.
package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/pipeline/logpush"
)

// Subject is a sink, its destination empty, and ways to look behind it.
type Subject struct {
	Sink logpush.Sink
	// Stored returns what the destination has for an object.
	Stored func(o logpush.Object) ([]byte, bool)
	// Count returns how many objects the destination has.
	Count func() int
	// Break makes the destination fail until the end of the test, in a way that
	// may pass.
	Break func()
}

// Object returns an object of a batch with some content.
func Object(name, content string) logpush.Object {
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	if _, err := zip.Write([]byte(content)); err != nil {
		panic(err) // a buffer takes everything
	}
	if err := zip.Close(); err != nil {
		panic(err)
	}
	return logpush.Object{
		Name: name, Date: time.Date(2026, 10, 9, 23, 59, 59, 0, time.UTC), Body: body.Bytes(),
		ContentType: "application/x-ndjson", Records: 1, JobID: 7, BatchID: "7-0-" + name, Dataset: "workers_trace_events",
	}
}

// Run tests a sink; open makes a new one for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("stores an object whole", func(t *testing.T) {
		s := open(t)
		o := Object("20261009T235959Z_20261010T000029Z_0a1b2c3d.log.gz", `{"Outcome":"ok"}`+"\n")
		before := bytes.Clone(o.Body)
		put(t, s, o)
		check(t, s, o)
		if !bytes.Equal(o.Body, before) {
			t.Error("the body was changed")
		}
	})
	t.Run("stores a large object", func(t *testing.T) {
		s := open(t)
		o := Object("large.log.gz", "")
		o.Body = bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16) // beyond a multipart upload's usual part
		put(t, s, o)
		check(t, s, o)
	})
	t.Run("a repeat replaces", func(t *testing.T) {
		s := open(t)
		put(t, s, Object("a.log.gz", "first"))
		second := Object("a.log.gz", "second")
		put(t, s, second)
		check(t, s, second)
		if n := s.Count(); n != 1 {
			t.Errorf("the destination has %d objects, want 1", n)
		}
	})
	t.Run("is safe for concurrent use", func(t *testing.T) {
		s := open(t)
		var puts sync.WaitGroup
		for i := range 8 {
			puts.Go(func() {
				if err := s.Sink.Put(t.Context(), Object(fmt.Sprintf("%d.log.gz", i), fmt.Sprint(i))); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			})
		}
		puts.Wait()
		for i := range 8 {
			check(t, s, Object(fmt.Sprintf("%d.log.gz", i), fmt.Sprint(i)))
		}
	})
	t.Run("returns the error of an ended context", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Sink.Put(ctx, Object("a.log.gz", "a")); !errors.Is(err, context.Canceled) {
			t.Errorf("put returned %v, want the context's error", err)
		}
	})
	t.Run("trouble that may pass is not permanent", func(t *testing.T) {
		s := open(t)
		s.Break()
		err := s.Sink.Put(t.Context(), Object("a.log.gz", "a"))
		e, ok := errors.AsType[*logpush.UploadError](err)
		if !ok {
			t.Fatalf("put returned %v, want an *UploadError", err)
		}
		if e.Permanent || e.Error() == "" {
			t.Errorf("the error is %+v", e)
		}
	})
}

func put(t *testing.T, s Subject, o logpush.Object) {
	t.Helper()
	if err := s.Sink.Put(t.Context(), o); err != nil {
		t.Fatalf("put %s: %v", o.Name, err)
	}
}

func check(t *testing.T, s Subject, o logpush.Object) {
	t.Helper()
	got, ok := s.Stored(o)
	if !ok {
		t.Fatalf("%s is not there", o.Name)
	}
	if !bytes.Equal(got, o.Body) {
		t.Errorf("%s has %d bytes, other than the %d that were put", o.Name, len(got), len(o.Body))
	}
}
