package e2e

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// servedBy counts what one version has answered.
type servedBy struct {
	number           int
	requests, failed atomic.Int64
}

// ServeHTTP fails one request in 200, and does not know one in 20.
func (s *servedBy) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	switch n := s.requests.Add(1); {
	case n%200 == 100:
		s.failed.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	case n%20 == 10:
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = io.WriteString(w, strconv.Itoa(s.number))
}

// requestsOf sends n requests to script from several clients, and goes on to the end
// when some are refused.
func requestsOf(p *platform.Platform, script string, n int) {
	const clients = 8
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				_, _, _ = p.Visit(context.Background(), client, script, nil) // what reached a version has counted it
			}
		})
	}
	all.Wait()
}

// requestsVariable is how many requests TestRatesOfASampledScriptAreExact sends if it is
// set: the default is for every day.
const requestsVariable = "TIDEGATE_TEST_REQUESTS"

// Many requests to a sampled script, with another rate, another
// deployment and a stop in the middle of them: what ClickHouse counts by version is
// what the versions have answered, to the request, while it holds few of the events.
// A policy that looks at failures is not misled by having all of them.
func TestRatesOfASampledScriptAreExact(t *testing.T) {
	t.Parallel()
	const script = "busy"
	total := 20_000
	if text := os.Getenv(requestsVariable); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	versions := []*servedBy{{number: 1}, {number: 2}}
	ids := make([]string, len(versions))
	p := start(t, platform.Options{})
	for i, v := range versions {
		origin := httptest.NewServer(v)
		t.Cleanup(origin.Close)
		var err error
		if ids[i], err = p.UploadOrigin(t.Context(), script, origin.URL, fmt.Sprint("v", v.number), ""); err != nil {
			t.Fatal(err)
		}
	}
	put := func(path string, body any) {
		t.Helper()
		if err := p.API(t.Context(), http.MethodPut, "/accounts/{account}/workers/scripts/"+script+path, body, nil); err != nil {
			t.Fatal(err)
		}
	}
	sample := func(rate float64) { t.Helper(); put("/sampling", deploy.Sampling{HeadSamplingRate: rate}) }
	sample(0.01)
	put("/rollback-policy", map[string]any{"enabled": true, "max_failure_rate": 0.02, "min_requests": 100, "action": "rollback"})
	if _, err := p.Deploy(t.Context(), script, deploy.Split{VersionID: ids[0], Percentage: deploy.Full}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the script answers", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, script, nil)
		return status == http.StatusOK, err
	})

	// during runs f when a part of the requests has been answered.
	during := func(requests int, f func()) {
		t.Helper()
		before := versions[0].requests.Load() + versions[1].requests.Load()
		var sending sync.WaitGroup
		sending.Go(func() { requestsOf(p, script, requests) })
		eventually(t, 3*time.Minute, "some are answered", func() (bool, error) {
			return versions[0].requests.Load()+versions[1].requests.Load() > before+int64(requests/3), nil
		})
		f()
		sending.Wait()
	}
	during(total*3/10, func() {
		if _, err := p.Deploy(t.Context(), script, deploy.Split{VersionID: ids[0], Percentage: 60_000}, deploy.Split{VersionID: ids[1], Percentage: 40_000}); err != nil {
			t.Error(err)
		}
	})
	during(total*3/10, func() { sample(0.03) })
	stopped := false
	during(total/10, func() {
		sample(0.01)
		if err := p.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
		stopped = true
	})
	if !stopped {
		t.Fatal("the platform did not stop")
	}
	p = start(t, platform.Options{DataDir: p.DataDir})
	eventually(t, 20*time.Second, "the script answers again", func() (bool, error) {
		status, _, err := p.Visit(t.Context(), http.DefaultClient, script, nil)
		return status == http.StatusOK, err
	})
	sentBefore := versions[0].requests.Load() + versions[1].requests.Load()
	requestsOf(p, script, max(0, total-int(sentBefore)))

	requests, failed := int64(0), int64(0)
	for i, v := range versions {
		requests, failed = requests+v.requests.Load(), failed+v.failed.Load()
		eventually(t, time.Minute, fmt.Sprintf("the counts of version %d are what it answered", v.number), func() (bool, error) {
			got, err := p.Query(t.Context(), "SELECT concat(toString(sum(requests)), ' ', toString(sum(failures)), ' ', toString(sum(assigned)), ' ', toString(sum(assigned_failures))) "+
				"FROM version_rates_1s WHERE version_id = '"+ids[i]+"'")
			want := fmt.Sprintf("%[1]d %[2]d %[1]d %[2]d", v.requests.Load(), v.failed.Load())
			if err == nil && got != want {
				err = fmt.Errorf("%s are counted, %s were answered", got, want)
			}
			return err == nil, err
		})
	}
	if requests < int64(total) || versions[1].requests.Load() == 0 {
		t.Errorf("%d requests were sent, %d of them to the second version", requests, versions[1].requests.Load())
	}
	for table, count := range map[string]string{"version_rates_1m": "sum(requests)", "version_rates_1h": "sum(requests)", "trace_events": "sum(1 + sampled_out)"} {
		eventually(t, time.Minute, table+" counts as much", func() (bool, error) { // a block is in one table before the next
			n, err := p.Count(t.Context(), "SELECT "+count+" FROM "+table+" WHERE script_name = '"+script+"'")
			if err == nil && n != requests {
				err = fmt.Errorf("%d are counted of %d", n, requests)
			}
			return err == nil, err
		})
	}

	// All failures, and between 1 and 3 % of the others; and at most four held events
	// (two statuses in two seconds) for each failure and each second.
	rows, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE script_name = '"+script+"'")
	if err != nil {
		t.Fatal(err)
	}
	rowsFailed, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE status = 503 AND sampled_out = 0 AND script_name = '"+script+"'")
	if err != nil {
		t.Fatal(err)
	}
	others := float64(requests - failed)
	least := float64(failed) + 0.01*others - 5*math.Sqrt(0.01*others)
	seconds, err := p.Count(t.Context(), "SELECT uniqExact(time) FROM version_rates_1s WHERE script_name = '"+script+"'")
	if err != nil {
		t.Fatal(err)
	}
	most := float64(failed) + 0.03*others + 5*math.Sqrt(0.03*others) + 4*float64(failed+2*2*seconds)
	if rowsFailed != failed || float64(rows) < least || float64(rows) > most {
		t.Errorf("%d events are stored, %d of %d failures among them; want between %.0f and %.0f", rows, rowsFailed, failed, least, most)
	}
	t.Logf("%d requests, of which %d failed, are counted exactly from %d events (%.2f %%)", requests, failed, rows, 100*float64(rows)/float64(requests))

	deployments, err := p.Deployments(t.Context(), script)
	if err != nil {
		t.Fatal(err)
	}
	if len(deployments) != 2 {
		t.Errorf("there are %d deployments, want the two that were made here: %+v", len(deployments), deployments[0])
	}
}
