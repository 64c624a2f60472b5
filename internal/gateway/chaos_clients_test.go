package gateway_test

import (
	"context"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/twmb/franz-go/pkg/kgo"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// emitter hands events to Kafka's producer, as a gateway's process does.
type emitter struct{ *stream.Producer }

func (e emitter) Emit(account string, value []byte, _ bool) { e.Producer.Emit(account, value) }

func testLogger(*testing.T) *slog.Logger { return slog.New(slog.DiscardHandler) }

func discardLog() *log.Logger { return slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) }

// ask sends one request of some kind, and may leave before it has ended.
func (l *ledger) ask(ctx context.Context, client *http.Client) {
	method, path, size := http.MethodGet, "/", 0
	switch rand.N(6) {
	case 0, 1:
		method, size = http.MethodPost, rand.N(20_000)
	case 2:
		method, size = http.MethodPut, rand.N(2_000_000)
	case 3:
		path = "/stream"
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 1+time.Duration(rand.N(int64(150*time.Millisecond))))
	defer cancel()
	body := io.Reader(strings.NewReader(strings.Repeat("x", size)))
	if rand.N(2) == 0 {
		body = io.MultiReader(body) // of unknown length
	}
	req, err := http.NewRequestWithContext(ctx, method, shop+path, body)
	if err != nil {
		panic(err) // the test's own mistake
	}
	if size == 0 {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	resp, err := client.Do(req)
	if err != nil {
		return // some must fail
	}
	l.note(l.told, resp.Header.Get("Cf-Ray"))
	_, _ = io.Copy(io.Discard, resp.Body) // as above
	_ = resp.Body.Close()
}

// talk opens a WebSocket, says a few words and leaves, with or without a farewell.
func (l *ledger) talk(ctx context.Context, client *http.Client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 500*time.Millisecond)
	defer cancel()
	c, resp, err := websocket.Dial(ctx, "ws://shop.dev.localhost/socket", &websocket.DialOptions{HTTPClient: client}) //nolint:bodyclose // it has none
	if resp != nil {
		l.note(l.told, resp.Header.Get("Cf-Ray"))
	}
	for range rand.N(20) {
		if err == nil {
			err = c.Write(ctx, websocket.MessageText, []byte("word"))
		}
		if err == nil {
			_, _, err = c.Read(ctx)
		}
	}
	if c == nil {
		return
	}
	if rand.N(2) == 0 {
		_ = c.Close(websocket.StatusNormalClosure, "") // the other side may have gone
		return
	}
	_ = c.CloseNow() // as above
}

// breakOff sends half a request and leaves.
func (l *ledger) breakOff(ctx context.Context, addr string) {
	c, err := (&net.Dialer{}).DialContext(context.WithoutCancel(ctx), "tcp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	request := "POST / HTTP/1.1\r\nHost: shop.dev.localhost\r\nContent-Length: 100\r\n\r\n" + strings.Repeat("x", 100)
	_, _ = io.WriteString(c, request[:rand.N(len(request))]) // the other side may have seen enough
	select {
	case <-time.After(time.Duration(rand.N(20)) * time.Millisecond):
	case <-ctx.Done():
	}
}

func waitForLong(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// consume reads all that Kafka holds, at least n records: how many events there are of
// each ray, how many are repeats, and how many have each outcome.
func consume(t *testing.T, addr string, n uint64) (events map[string]int, repeats int, outcomes map[string]int) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(schema.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, outcomes = map[string]int{}, map[string]int{}
	var read, quiet uint64
	for quiet < 3 { // there may be more than n, if a batch was repeated
		poll, stop := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := client.PollFetches(poll)
		stop()
		if ctx.Err() != nil {
			t.Fatalf("read %d of %d events", read, n)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			var ev schema.TraceEvent
			if err := schema.DecodeEvent(r.Value, &ev); err != nil {
				t.Fatal(err)
			}
			read++
			if events[ev.Gateway.RayID]++; events[ev.Gateway.RayID] > 1 {
				repeats++
			} else {
				outcomes[ev.Outcome]++
			}
		})
		switch {
		case fetches.NumRecords() > 0:
			quiet = 0
		case read >= n:
			quiet++
		}
	}
	return events, repeats, outcomes
}

// sumOf adds up what a metric says of all labels.
func sumOf(t *testing.T, reader *sdkmetric.ManualReader, name string) (sum int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					sum += p.Value
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					sum += int64(p.Value)
				}
			}
		}
	}
	return sum
}

func inFlight(t *testing.T, reader *sdkmetric.ManualReader) int64 {
	return sumOf(t, reader, "tidegate_gateway_requests_in_flight")
}

func requestsTotal(t *testing.T, reader *sdkmetric.ManualReader) int64 {
	return sumOf(t, reader, "tidegate_gateway_requests_total")
}
