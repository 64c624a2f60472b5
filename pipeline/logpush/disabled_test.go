package logpush

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

var disabled = []stream.Header{{Name: schema.HeaderLogpush, Value: schema.LogpushDisabled}}

// mark gives the records from up to, not including, to the headers.
func (m *memory) mark(headers []stream.Header, from, to int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := from; i < to; i++ {
		m.records[i].Headers = headers
	}
}

// readMetrics has instruments that are made from now on read, until the test ends.
func readMetrics(t *testing.T) sdkmetric.Reader {
	t.Helper()
	reader, before := sdkmetric.NewManualReader(), otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	return reader
}

// dropped reads how many events of a job were left out, by reason.
func dropped(t *testing.T, reader sdkmetric.Reader, job int64) map[string]int64 {
	t.Helper()
	return counted(t, reader, job, "tidegate_logpush_events_dropped_total")
}

// counted reads a counter of a job, by reason.
func counted(t *testing.T, reader sdkmetric.Reader, job int64, name string) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != name {
				continue
			}
			for _, p := range sum.DataPoints {
				reason, _ := p.Attributes.Value("reason")
				if of, _ := p.Attributes.Value("job"); of.AsString() == strconv.FormatInt(job, 10) {
					counts[reason.AsString()] += p.Value
				}
			}
		}
	}
	return counts
}

// What a script has kept from Logpush is neither sent, nor looked at any further,
// and is counted under a reason of its own. A header that says anything else, or
// that is missing as on older records, changes nothing.
func TestEventsOfScriptsThatOptedOutAreLeftOut(t *testing.T) {
	metrics := readMetrics(t)
	bubble(t, func(t *testing.T, w *world) {
		w.job.Filter = `{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`
		now := time.Now()
		for i := range 10 {
			w.memory.append(account, event("ok", i), now)
		}
		w.memory.append(account, event("exception", 10), now)
		w.memory.append(account, event("exception", 11), now)
		w.memory.append(account, []byte("not json"), now)
		w.memory.mark(disabled, 3, 6)
		w.memory.mark(disabled, 11, 13) // the filter and the decoder have no word in it
		w.memory.mark([]stream.Header{{Name: schema.HeaderLogpush, Value: "true"}, {Name: "other", Value: "false"}}, 8, 9)
		r := w.start()
		pass(time.Second)
		r.stop()
		w.expect(t, lines(0, 3)+lines(6, 10), 1)
		if w.memory.offset() != 13 {
			t.Errorf("committed %d, want 13", w.memory.offset())
		}
	})
	if got := dropped(t, metrics, 42); got[droppedLogpush] != 5 || got[droppedFilter] != 1 || got[droppedMalformed] != 0 {
		t.Errorf("left out, by reason: %v", got)
	}
}

// A script that is alone on a partition and opted out must not hold the position.
func TestAPartitionOfOptedOutEventsIsCommitted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		now := time.Now()
		for i := range 5 {
			w.memory.append(account, event("ok", i), now)
		}
		w.memory.mark(disabled, 0, 5)
		defer w.start().kill()
		pass(idleCommit + time.Second)
		w.expect(t, "", 0)
		if w.memory.offset() != 5 {
			t.Errorf("committed %d, want 5", w.memory.offset())
		}
	})
}

// The mark is in the record, so a batch that is built again is the same batch.
func TestARebuiltBatchLeavesOutTheSame(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.after = func(Object) error { return errors.New("the answer was lost") }
		now := time.Now()
		for i := range 5 {
			w.memory.append(account, event("ok", i), now)
		}
		w.memory.mark(disabled, 1, 3)
		first := w.start()
		pass(31 * time.Second)
		first.kill()
		w.bucket.after = nil
		second := w.start()
		pass(time.Second)
		second.stop()
		w.expect(t, lines(0, 1)+lines(3, 5), 1)
		if puts := slices.Compact(slices.Clone(w.bucket.puts)); len(w.bucket.puts) < 2 || len(puts) != 1 {
			t.Errorf("the uploads were %v, want one name several times", w.bucket.puts)
		}
	})
}

// The same through the broker, and beside events that have no header.
func TestMarkedEventsTravelThroughKafka(t *testing.T) {
	p := newPlatform(t)
	_, b := p.addJob(1)
	p.manage()
	p.produce(50)
	for range 50 {
		p.producer.EmitHeaders(account, disabled, event("ok", p.produced))
		p.produced++
	}
	p.produce(50)
	want := append(sequence(0, 50), sequence(100, 150)...)
	eventually(t, func() error {
		got := numbers(t, b)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return errors.New("the bucket does not have the events that are for it, once each")
		}
		return nil
	})
}
