package logpush

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// oneTopic is a topic whose only partition is a memory.
type oneTopic struct{ *memory }

func (oneTopic) Partitions(context.Context) ([]int, error) { return []int{3}, nil }

func (o oneTopic) Bounds(ctx context.Context, _ int) (int64, int64, error) {
	return (&reader{memory: o.memory}).Bounds(ctx)
}

func (o oneTopic) OffsetAt(ctx context.Context, _ int, t time.Time) (int64, error) {
	return (&reader{memory: o.memory}).OffsetAt(ctx, t)
}

// variety fills a memory with what a job may meet.
func variety(w *world, n int) {
	w.memory.mu.Lock()
	defer w.memory.mu.Unlock()
	for i := range n {
		outcome := []string{"ok", "exception", "ok", "canceled"}[i%4]
		e := schema.TraceEvent{
			ScriptName: []string{"shop", "cart"}[i%2], EventTimestampMs: 1_790_000_000_000 + int64(i), EventType: "fetch", Outcome: outcome,
			ScriptVersion: schema.ScriptVersion{ID: fmt.Sprint("v", i%3)}, WallTimeMs: new(int64(i)),
			Logs: []schema.Log{{Level: "log", Message: []json.RawMessage{[]byte(`"${jndi:ldap};\"quoted\""`)}, TimestampMs: 5}},
		}
		if i%10 == 7 {
			e.Logs[0].Message[0] = []byte(`"` + strings.Repeat("long ", 6_000) + `"`)
		}
		value := e.AppendJSON(nil)
		owner := account
		switch i % 25 {
		case 11:
			value = []byte("no event")
		case 12:
			owner = strings.Repeat("f", 32)
		}
		w.memory.append(owner, value, time.Now())
	}
	for i := 13; i < n; i += 25 {
		w.memory.records[i].Headers = disabled
	}
}

// What a preview answers is what a delivery of the same events uploads: the same
// objects under the same names with the same bytes, and the same counts.
func TestAPreviewIsWhatADeliveryUploads(t *testing.T) {
	f := func(name string, change func(*world)) {
		t.Helper()
		bubble(t, func(t *testing.T, w *world) {
			w.job.OutputOptions = &logjob.OutputOptions{FieldNames: []string{"ScriptName", "Outcome", "WallTimeMs", "Logs"}}
			change(w)
			variety(w, 300)
			p := NewPreviews(w.sinks(), oneTopic{w.memory}, nil)
			got, err := p.Preview(t.Context(), w.job, nil, 1000)
			if err != nil {
				t.Fatal(err)
			}
			r := w.start()
			pass(time.Minute)
			r.stop()
			want := map[string]string{}
			records := 0
			for _, o := range w.bucket.objects {
				var text bytes.Buffer
				if o.Items == nil {
					text.WriteString(unzip(t, o.Body))
				}
				for _, item := range o.Items { // their suffix is a line's end
					text.Write(item.Text)
				}
				want[w.bucket.NameOf(&o)] = o.ContentType + "\n" + text.String()
				records += o.Records
			}
			previewed := map[string]string{}
			for _, o := range got.Objects {
				previewed[o.Name] = o.ContentType + "\n" + string(o.Bytes())
			}
			if diff := cmp.Diff(want, previewed); diff != "" {
				t.Errorf("%s: objects (-delivered +previewed)\n%s", name, diff)
			}
			if len(want) == 0 || len(got.Objects) != len(want) || got.Sent != int64(records) {
				t.Errorf("%s: %d objects and %d records previewed, %d and %d delivered", name, len(got.Objects), got.Sent, len(want), records)
			}
			if d := got.Dropped; d.LogpushDisabled == 0 || d.Malformed == 0 || got.LookedAt != 288 ||
				got.Sent+d.Filter+d.Sample+d.LogpushDisabled+d.Malformed != got.LookedAt {
				t.Errorf("%s: counted %+v", name, got)
			}
		})
	}
	f("ndjson", func(*world) {})
	f("filter", func(w *world) { w.job.Filter = `{"where":{"key":"Outcome","operator":"!eq","value":"ok"}}` })
	f("sample", func(w *world) { w.job.OutputOptions.SampleRate = new(0.3) })
	f("csv", func(w *world) {
		w.job.OutputOptions.OutputType = logjob.CSV
		w.job.OutputOptions.FieldDelimiter = new(";")
	})
	f("template and affixes", func(w *world) {
		w.job.OutputOptions.RecordTemplate = new(`<{{.ScriptName}}|{{.Outcome}}>`)
		w.job.OutputOptions.BatchPrefix, w.job.OutputOptions.BatchSuffix = new("[\n"), new("\n]")
		w.job.OutputOptions.RecordDelimiter = new(",")
	})
	f("CVE-2021-44228", func(w *world) { w.job.OutputOptions.CVE202144228 = new(true) })
	f("small objects", func(w *world) { w.bucket.traits.MaxRecords = 7 })
	f("small bytes", func(w *world) { w.bucket.traits.MaxBytes = 40_000 })
	f("one by one", func(w *world) { w.bucket.traits.Records = true })
	f("parts", func(w *world) {
		w.job.DestinationConf = "bucket://42/logs/{SCRIPT}/{VERSION}?secret-access-key=hunter22"
	})
}

// Events that come with the request are looked at as they are, and nothing is read.
func TestAPreviewOfGivenEvents(t *testing.T) {
	w := newWorld(t)
	p := NewPreviews(w.sinks(), nil, nil)
	got, err := p.Preview(t.Context(), w.job, [][]byte{event("ok", 5), []byte(`[1]`), event("ok", 6)}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got.Source != "request" || got.LookedAt != 3 || got.Sent != 2 || got.Dropped.Malformed != 1 || len(got.Objects) != 1 || got.Objects[0].Output != lines(5, 7) {
		t.Errorf("answered %+v", got)
	}
	if got, err = p.Preview(t.Context(), w.job, [][]byte{}, 1); err != nil || got.LookedAt != 0 || got.Objects == nil {
		t.Errorf("of no events it answered %+v, %v", got, err)
	}
	if _, err := p.Preview(t.Context(), w.job, nil, 1); errs.KindOf(err) != errs.Unavailable {
		t.Errorf("without Kafka it answered %v", err)
	}
	// Bytes that are not UTF-8 survive.
	w.job.OutputOptions.BatchPrefix = new("\xff")
	if got, err = p.Preview(t.Context(), w.job, [][]byte{event("ok", 5)}, 1); err != nil || got.Objects[0].Output != "" || string(got.Objects[0].OutputBase64) != "\xff"+lines(5, 6) {
		t.Errorf("of other bytes it answered %+v, %v", got, err)
	}
	w.job.OutputOptions = &logjob.OutputOptions{RecordTemplate: new(strings.Repeat("{{.Logs}}", 400))}
	big := schema.TraceEvent{Logs: []schema.Log{{Message: []json.RawMessage{[]byte(`"` + strings.Repeat("x", 10_000) + `"`)}}}}
	if _, err = p.Preview(t.Context(), w.job, slices.Repeat([][]byte{big.AppendJSON(nil)}, 10), 1); errs.KindOf(err) != errs.TooLarge {
		t.Errorf("of a template without measure it answered %v", err)
	}
}

// The newest events of the account are found behind those of others, without a look
// at everything, and in the order of their offsets.
func TestAPreviewTakesTheNewestEvents(t *testing.T) {
	w := newWorld(t)
	w.memory.add(fill(10)...)
	for range previewReach - 5 {
		w.memory.append(strings.Repeat("f", 32), event("ok", 0), time.Now())
	}
	p := NewPreviews(w.sinks(), oneTopic{w.memory}, nil)
	see := func(limit int, want string) {
		t.Helper()
		got, err := p.Preview(t.Context(), w.job, nil, limit)
		text := ""
		for _, o := range got.Objects {
			text += o.Output
		}
		if err != nil || got.Source != "kafka" || text != want {
			t.Errorf("the newest %d are\n%s(%v), want\n%s", limit, text, err, want)
		}
	}
	see(3, lines(7, 10))
	see(100, lines(5, 10)) // it goes no further back
	w.memory.forget(8)
	see(100, lines(8, 10))
	w.memory.forget(w.memory.next)
	see(100, "")
}

// hesitantTopic sends nothing when it is asked first, as many times.
type hesitantTopic struct {
	oneTopic
	times *int
}

func (h hesitantTopic) FetchBatches(ctx context.Context, partition int, offset int64, wait bool) ([]stream.Batches, error) {
	if *h.times--; *h.times >= 0 {
		return nil, nil
	}
	return h.oneTopic.FetchBatches(ctx, partition, offset, wait)
}

// A new leader may send nothing for a moment of what the partition has. Three such answers were taken for its
// end, and the preview was of no events.
func TestAPreviewWaitsForALeaderThatSendsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(5)...)
		got, err := NewPreviews(w.sinks(), hesitantTopic{oneTopic{w.memory}, new(10)}, nil).Preview(t.Context(), w.job, nil, 100)
		if err != nil || got.Sent != 5 {
			t.Errorf("%+v, error %v, want 5 events", got, err)
		}
	})
	// And what a broker lost is not waited for until the preview is given up.
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(5)...)
		began := time.Now()
		w.memory.fetching = func(int64) {
			w.memory.mu.Lock()
			defer w.memory.mu.Unlock()
			w.memory.next = 0
		}
		got, err := NewPreviews(w.sinks(), hesitantTopic{oneTopic{w.memory}, new(1)}, nil).Preview(t.Context(), w.job, nil, 100)
		if err != nil || got.Sent != 0 || time.Since(began) > previewTry {
			t.Errorf("after %s: %+v, error %v", time.Since(began), got, err)
		}
	})
}

func TestTheNewestOfSeveralPartitions(t *testing.T) {
	at := func(second int64, size int) stream.Record {
		return stream.Record{Offset: second, Time: time.Unix(second, 0), Value: make([]byte, size)}
	}
	pieces := func() []piece {
		return []piece{{0, []stream.Record{at(1, 1), at(5, 1)}}, {1, nil}, {2, []stream.Record{at(2, 1), at(3, 1), at(4, previewBytesMax)}}}
	}
	f := func(limit int, want string) {
		t.Helper()
		got := ""
		for _, of := range newestOf(pieces(), limit) {
			for _, r := range of.records {
				got += fmt.Sprintf("%d/%d ", of.partition, r.Offset)
			}
		}
		if got != want {
			t.Errorf("the newest %d are %s, want %s", limit, got, want)
		}
	}
	f(1, "0/5 ")
	f(4, "0/5 ") // the next one is too large
	big := pieces()[2:]
	if got := newestOf(big, 9); len(got) != 1 || len(got[0].records) != 1 {
		t.Errorf("one is always taken, got %v", len(got))
	}
}

// Kafka may have an event from before a time while it has a record that is at most as
// much younger as schema.EventTime takes an event for late.
func TestHowFarBackKafkaMayGo(t *testing.T) {
	w := newWorld(t)
	written := time.Now().Truncate(time.Millisecond)
	latest := written.Add(-schema.EventBehindMax)
	p := NewPreviews(w.sinks(), oneTopic{w.memory}, nil)
	f := func(before time.Time, want bool) {
		t.Helper()
		if got, err := p.MayHold(t.Context(), before); got != want || err != nil {
			t.Errorf("events from before %s: %t, error %v, want %t", before, got, err, want)
		}
	}
	f(written, false) // it is empty
	w.memory.append(account, event("ok", 0), written)
	w.memory.append(account, event("ok", 1), written.Add(time.Hour))
	f(latest, false)
	f(latest.Add(time.Millisecond), true)
	w.memory.forget(1)
	f(latest.Add(time.Hour), false)
	f(latest.Add(time.Hour+time.Millisecond), true)
	if _, err := NewPreviews(w.sinks(), nil, nil).MayHold(t.Context(), written); err == nil {
		t.Error("without Kafka it is known what Kafka has")
	}
}

// silent is a topic whose broker is away.
type silent struct{ oneTopic }

func (silent) FetchBatches(ctx context.Context, _ int, _ int64, _ bool) ([]stream.Batches, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestAPreviewDoesNotWaitForKafkaForEver(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add("ok")
		p := NewPreviews(w.sinks(), silent{oneTopic{w.memory}}, nil)
		if _, err := p.Preview(t.Context(), w.job, nil, 1); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("answered %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Preview(ctx, w.job, nil, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("to a caller that had left it answered %v", err)
		}
	})
}
