package logpush

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// alertsBy reads how many alerts there were, by result.
func alertsBy(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == "tidegate_logpush_alerts_total" {
				for _, p := range sum.DataPoints {
					result, _ := p.Attributes.Value("result")
					counts[result.AsString()] += p.Value
				}
			}
		}
	}
	return counts
}

// Alerts that waited when a process stopped were gone, and nobody could know of them.
func TestAlertsThatWaitWhenTheProcessStops(t *testing.T) {
	metrics := readMetrics(t)
	asked, goOn, never := make(chan struct{}, 3), make(chan struct{}), make(chan struct{})
	answers := func(when chan struct{}) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			asked <- struct{}{}
			select {
			case <-when:
			case <-r.Context().Done():
			}
		}))
		t.Cleanup(server.Close)
		return server
	}
	slow, silent := answers(goOn), answers(never)
	a, err := newAlerter(hooks{account: {URL: slow.URL}, "other": {URL: silent.URL}}, &http.Client{}, time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	sending, giveUp := context.WithCancel(t.Context())
	running.Go(func() { a.Run(ctx, sending) })
	for id := range int64(2) {
		a.send(job(id), AlertFailing, "x", time.Now())
		other := job(id + 10)
		other.AccountID = "other"
		a.send(other, AlertFailing, "x", time.Now())
	}
	<-asked
	<-asked // one of each account's is on its way
	stop()
	close(goOn)
	eventually(t, func() error {
		if got := alertsBy(t, metrics); got["sent"] != 2 {
			return fmt.Errorf("the alerts are %v, want 2 sent", got)
		}
		return nil
	})
	giveUp()
	running.Wait()
	a.send(job(42), AlertLost, "too late", time.Now())
	if got := alertsBy(t, metrics); got["sent"] != 2 || got["dropped"] != 3 || len(got) != 2 {
		t.Errorf("the alerts are %v, want 2 sent and 3 dropped", got)
	}
}
