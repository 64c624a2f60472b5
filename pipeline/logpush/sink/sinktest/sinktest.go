// Package sinktest is the contract of logpush.Sink as tests; every sink passes it.
// Records of its objects are rows of a table, too: ScriptName is the object's name,
// WallTimeMs counts, Outcome differs.
package sinktest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/pipeline/logpush"
)

// Subject is a sink, its destination empty, and ways to look behind it.
type Subject struct {
	Sink logpush.Sink
	// Stored returns what the destination has for an object: Content or, of one that takes
	// files apart, Lines. A destination that does not replace has it for a reader who
	// counts what comes under one id once, as we ask of readers.
	Stored func(o logpush.Object) ([]byte, bool)
	// Rows says that the destination takes files apart.
	Rows bool
	// Name returns under which name the destination has an object. Nil where it has none.
	Name func(o logpush.Object) string
	// Count returns how many objects the destination has, complete or not.
	Count func() int
	// Break makes the destination fail until the end of the test, in a way that
	// may pass.
	Break func()
	// Stall makes the destination hang in the middle of the next object; the channel
	// is closed once it does. Nil where a destination cannot, or keeps what it has of it.
	Stall func() <-chan struct{}
	// Revoke takes the sink's right to write away, in the middle of the next object where that can be, until
	// the returned function is called. Nil where a destination asks for none.
	Revoke func() (restore func())
}

// Object returns an object of a batch with some content.
func Object(name, content string) logpush.Object {
	return zipped(name, content, gzip.DefaultCompression)
}

func zipped(name, content string, level int) logpush.Object {
	var body bytes.Buffer
	zip, err := gzip.NewWriterLevel(&body, level)
	if err != nil {
		panic(err) // a buffer takes everything
	}
	if _, err := zip.Write([]byte(content)); err != nil {
		panic(err)
	}
	if err := zip.Close(); err != nil {
		panic(err)
	}
	return logpush.Object{
		Name: name, Date: time.Date(2026, 10, 9, 23, 59, 59, 0, time.UTC), Body: body.Bytes(),
		ContentType: "application/x-ndjson", Records: 1, JobID: 7, BatchID: "7-0-" + name, Dataset: "workers_trace_events",
	}
}

// Items returns the object of a batch for a sink whose Traits ask for records: one
// for each line of content, of two versions and outcomes by turns.
func Items(name, content string) logpush.Object {
	o := Object(name, content)
	o.Body = nil
	for line := range strings.Lines(content) {
		n := len(o.Items)
		o.Items = append(o.Items, logpush.Item{
			Text: []byte(strings.TrimSuffix(line, "\n")), Time: o.Date.Add(time.Duration(n) * time.Millisecond), Script: "shop", EventType: "fetch",
			Version: []string{"0190f5f6-0000-7000-8000-000000000001", "0190f5f6-0000-7000-8000-000000000002"}[n%2],
			Outcome: []string{"ok", "exception"}[n%2], Offset: int64(100 + n),
		})
	}
	o.Records = len(o.Items)
	return o
}

// Content is what the destination must have of an object: its body, or the texts of
// its records as lines, in the order of their times.
func Content(o logpush.Object) []byte {
	if o.Items == nil {
		return o.Body
	}
	var texts [][]byte
	for _, item := range o.Items {
		texts = append(texts, item.Text)
	}
	return bytes.Join(texts, []byte("\n"))
}

// Lines are the records of an object's content, one a line.
func Lines(o logpush.Object) []byte {
	if o.Items != nil {
		return Content(o)
	}
	zip, err := gzip.NewReader(bytes.NewReader(o.Body))
	if err != nil {
		panic(err) // Object made it
	}
	lines, err := io.ReadAll(zip)
	if err != nil {
		panic(err)
	}
	return bytes.TrimSuffix(lines, []byte("\n"))
}

// object returns an object in the form that the sink wants, of one record an outcome.
func (s Subject) object(name string, outcomes ...string) logpush.Object {
	if logpush.TraitsOf(s.Sink).Records {
		return Items(name, records(name, outcomes))
	}
	return Object(name, records(name, outcomes))
}

func records(name string, outcomes []string) string {
	var lines strings.Builder
	for i, outcome := range outcomes {
		fmt.Fprintf(&lines, "{\"ScriptName\":%q,\"WallTimeMs\":%d,\"Outcome\":%q}\n", name, i, outcome)
	}
	return lines.String()
}

// large returns an object of nearly 12 MiB, beyond a multipart upload's usual part, or as
// large as the destination takes.
func (s Subject) large(name string) logpush.Object {
	traits, size := logpush.TraitsOf(s.Sink), 12<<20
	if traits.MaxBytes > 0 {
		size = min(size, int(traits.MaxBytes))
	}
	n := size / (1024 + 80) // an outcome and what is around it
	if traits.MaxRecords > 0 {
		n = min(n, traits.MaxRecords)
	}
	outcomes := slices.Repeat([]string{strings.Repeat("0123456789abcdef", 64)}, n)
	if traits.Records || traits.MaxBytes > 0 {
		return s.object(name, outcomes...)
	}
	return zipped(name, records(name, outcomes), gzip.NoCompression)
}

// Run tests a sink; open makes a new one for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	t.Run("stores an object whole", func(t *testing.T) {
		s := open(t)
		o := s.object("20261009T235959Z_20261010T000029Z_0a1b2c3d.log.gz", "ok", `exception: ["ü",1,null]`, "canceled")
		before := bytes.Clone(Content(o))
		put(t, s, o)
		check(t, s, o)
		if !bytes.Equal(Content(o), before) {
			t.Error("the object was changed")
		}
	})
	t.Run("says where it stores an object", func(t *testing.T) {
		s := open(t)
		namer, ok := s.Sink.(logpush.Namer)
		if named := s.Name != nil; ok != named || named != logpush.TraitsOf(s.Sink).Overwrites {
			t.Fatalf("the sink names objects: %t, and the destination does: %t", ok, named)
		}
		if !ok {
			return
		}
		o := s.object("a.log.gz", "a")
		if got, want := namer.NameOf(&o), s.Name(o); got != want {
			t.Errorf("it says %s, and writes to %s", got, want)
		}
	})
	t.Run("stores a large object", func(t *testing.T) {
		s := open(t)
		o := s.large("large.log.gz")
		put(t, s, o)
		check(t, s, o)
	})
	t.Run("a repeat leaves one object", func(t *testing.T) {
		s := open(t)
		first, second := s.object("a.log.gz", "ok", "exception"), s.object("a.log.gz", "ok", "exception")
		if logpush.TraitsOf(s.Sink).Overwrites {
			first = s.object("a.log.gz", "first") // or nobody sees that it is gone
		}
		put(t, s, first)
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
				if err := s.Sink.Put(t.Context(), s.object(fmt.Sprintf("%d.log.gz", i), fmt.Sprint(i))); err != nil {
					t.Errorf("put %d: %v", i, err)
				}
			})
		}
		puts.Wait()
		for i := range 8 {
			check(t, s, s.object(fmt.Sprintf("%d.log.gz", i), fmt.Sprint(i)))
		}
	})
	t.Run("returns the error of an ended context", func(t *testing.T) {
		s := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Sink.Put(ctx, s.object("a.log.gz", "a")); !errors.Is(err, context.Canceled) {
			t.Errorf("put returned %v, want the context's error", err)
		}
	})
	t.Run("a put that is given up leaves nothing", func(t *testing.T) {
		s := open(t)
		if s.Stall == nil {
			return // see Subject.Stall
		}
		hangs := s.Stall()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Sink.Put(ctx, s.large("a.log.gz")) }()
		<-hangs
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("put returned %v, want the context's error", err)
		}
		if n := s.Count(); n != 0 {
			t.Errorf("the destination has %d objects, want none", n)
		}
	})
	t.Run("one key at once leaves one object", func(t *testing.T) {
		s := open(t)
		if !logpush.TraitsOf(s.Sink).Overwrites {
			return
		}
		var puts sync.WaitGroup
		for range 4 {
			puts.Go(func() {
				if err := s.Sink.Put(t.Context(), s.large("a.log.gz")); err != nil {
					t.Errorf("put: %v", err)
				}
			})
		}
		puts.Wait()
		check(t, s, s.large("a.log.gz"))
		if n := s.Count(); n != 1 {
			t.Errorf("the destination has %d objects, want 1", n)
		}
	})
	t.Run("takes any name", func(t *testing.T) {
		s := open(t)
		if !logpush.TraitsOf(s.Sink).Overwrites {
			return // other names are for us, not for the destination
		}
		for _, name := range []string{"größe +&=~'(1)@,;$!*.log.gz", "日本.log.gz"} {
			o := s.object(name, name)
			put(t, s, o)
			check(t, s, o)
		}
	})
	t.Run("a right that is revoked half-way blames no record", func(t *testing.T) {
		s := open(t)
		if s.Revoke == nil {
			return
		}
		first, second := s.object("a.log.gz", "ok", "exception"), s.large("b.log.gz")
		put(t, s, first)
		restore := s.Revoke()
		for range 2 {
			err := s.Sink.Put(t.Context(), second)
			e, ok := errors.AsType[*logpush.UploadError](err)
			if !ok || e.Text == "" || e.Records != nil || e.Status != http.StatusForbidden && e.Status != 0 { // 0: it speaks no HTTP
				t.Errorf("put returned %+v, want a refusal that is not about records", err)
			}
		}
		restore()
		put(t, s, second)
		check(t, s, first)
		check(t, s, second)
		if n := s.Count(); n != 2 {
			t.Errorf("the destination has %d objects, want 2", n)
		}
	})
	t.Run("trouble that may pass is not permanent", func(t *testing.T) {
		s := open(t)
		s.Break()
		err := s.Sink.Put(t.Context(), s.object("a.log.gz", "a"))
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
	want := Content(o)
	if s.Rows {
		want = Lines(o)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, other than the %d that were put", o.Name, len(got), len(want))
	}
}

// Open makes the sink of a destination_conf.
func Open(t testing.TB, open func(*url.URL) (logpush.Sink, error), conf string) logpush.Sink {
	t.Helper()
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(u)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Refused wants the error of a destination_conf to hold a text.
func Refused(t testing.TB, open func(*url.URL) (logpush.Sink, error), conf, want string) {
	t.Helper()
	u, err := url.Parse(conf)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(u); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s gave %v, want an error with %q", conf, err, want)
	}
}
