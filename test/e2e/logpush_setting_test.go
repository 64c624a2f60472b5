package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestScriptOptsOutOfLogpush has one job and two scripts, of which one opted out:
// the destination gets the events of the other one, and after the script opted in
// again what it serves from then on. The counts have all events all the time.
func TestScriptOptsOutOfLogpush(t *testing.T) {
	p := start(t, platform.Options{Args: []string{"--logpush-interval", "1s"}})
	setLogpush := func(method, path, body string) {
		t.Helper()
		if err := p.API(t.Context(), method, "/accounts/{account}/workers"+path, json.RawMessage(body), nil); err != nil {
			t.Fatal(err)
		}
	}
	// It opts out before its first version serves, so none of its events is without the mark.
	setLogpush(http.MethodPost, "/workers", `{"name": "quiet", "logpush": false}`)
	serve(t, p, "quiet", okHandler)
	serve(t, p, "heard", okHandler)
	eventually(t, 30*time.Second, "the first events are stored", func() (bool, error) {
		counts, err := p.Counts(t.Context())
		return counts.Rows >= 2 && counts.Agree(), err
	})
	destination := startCollector(t)
	job := createJob(t, p, destination)

	const visits = 25
	for range visits {
		for _, script := range []string{"quiet", "heard"} {
			if status, body, err := p.Visit(t.Context(), http.DefaultClient, script, nil); err != nil || status != http.StatusOK {
				t.Fatalf("%s answers %d %s, %v", script, status, body, err)
			}
		}
	}
	eventually(t, time.Minute, "the job has delivered the one script and passed over the other", func() (bool, error) {
		heldBack, err := droppedEvents(t, p, job, "logpush_disabled")
		return heldBack == visits && len(destination.of(t, "heard")) == visits, err
	})
	if got := destination.of(t, "quiet"); len(got) != 0 {
		t.Errorf("the destination has %d events of the script that opted out", len(got))
	}
	eventually(t, time.Minute, "every event is counted", func() (bool, error) {
		counts, err := p.Counts(t.Context())
		if err != nil {
			return false, err
		}
		rows, err := p.Count(t.Context(), "SELECT count() FROM trace_events WHERE script_name = 'quiet'")
		return counts.Agree() && rows > visits, err // serve's own requests are among them
	})

	optedIn := time.Now().UnixMilli()
	setLogpush(http.MethodPatch, "/scripts/quiet/script-settings", `{"logpush": true}`)
	eventually(t, time.Minute, "events of the script that opted in again arrive", func() (bool, error) {
		_, _, err := p.Visit(t.Context(), http.DefaultClient, "quiet", nil)
		return len(destination.of(t, "quiet")) > 0, err
	})
	for _, at := range destination.of(t, "quiet") {
		if at < optedIn {
			t.Errorf("an event came that is %d ms older than the change", optedIn-at)
		}
	}
}

// of returns when the events of a script began that the destination has, in Unix
// milliseconds.
func (c *collector) of(t *testing.T, script string) (times []int64) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range c.rays {
		var e struct {
			ScriptName       string
			EventTimestampMs int64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Errorf("the destination got %q: %v", line, err)
		}
		if e.ScriptName == script {
			times = append(times, e.EventTimestampMs)
		}
	}
	return times
}

// droppedEvents reads from /metrics how many events a job did not send for a reason.
func droppedEvents(t *testing.T, p *platform.Platform, job int64, reason string) (int64, error) {
	t.Helper()
	res, err := http.Get(p.Ready.API + "/metrics")
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "tidegate_logpush_events_dropped_total{") ||
			!strings.Contains(line, fmt.Sprintf(`job="%d"`, job)) || !strings.Contains(line, fmt.Sprintf(`reason="%s"`, reason)) {
			continue
		}
		fields := strings.Fields(line)
		n, err := strconv.ParseFloat(fields[len(fields)-1], 64)
		return int64(n), err
	}
	return 0, nil
}
