package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestReplayOfAGap has a job that is off while requests come: a replay of that time
// brings each of their events once.
func TestReplayOfAGap(t *testing.T) {
	folder := t.TempDir()
	p := start(t, platform.Options{Args: []string{"--logpush-interval", "1s", "--logpush-file-roots", folder}})
	serve(t, p, "shop", okHandler)
	var job struct{ ID int64 }
	if err := p.API(t.Context(), http.MethodPost, "/accounts/{account}/logpush/jobs", map[string]any{
		"dataset": "workers_trace_events", "enabled": true, "destination_conf": "file://" + folder,
		"output_options": map[string]any{"field_names": []string{"Event"}},
	}, &job); err != nil {
		t.Fatal(err)
	}
	jobPath := fmt.Sprintf("/accounts/{account}/logpush/jobs/%d", job.ID)
	visit := func(part string, n int) {
		t.Helper()
		for i := range n {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.Ready.Gateway+fmt.Sprintf("/%s/%d", part, i), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = p.Host("shop")
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			if err := res.Body.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	has := func(part string) (n int) {
		for path, times := range deliveredPaths(t, folder) {
			if dir, _ := filepath.Split(path); filepath.Base(dir) == part {
				n++
				if part == "gap" && times != 1 {
					t.Errorf("%s was delivered %d times", path, times)
				}
			}
		}
		return n
	}
	visit("live", 1)
	eventually(t, time.Minute, "the job delivers", func() (bool, error) {
		visit("warm", 1)
		return has("warm") > 0, nil
	})
	if err := p.API(t.Context(), http.MethodPut, jobPath, map[string]any{"enabled": false}, nil); err != nil {
		t.Fatal(err)
	}
	unread := 0 // visits in a row that ingest has stored and the job has not read
	eventually(t, time.Minute, "the delivery no longer reads what ingest does", func() (bool, error) {
		rows, err := p.Count(t.Context(), "SELECT count() FROM trace_events")
		if err != nil {
			return false, err
		}
		before, err := eventsRead(p)
		if err != nil {
			return false, err
		}
		visit("stopping", 1)
		eventually(t, time.Minute, "ingest has it", func() (bool, error) {
			n, err := p.Count(t.Context(), "SELECT count() FROM trace_events")
			return n > rows, err
		})
		after, err := eventsRead(p)
		if unread++; before != after {
			unread = 0
		}
		return unread == 10, err
	})
	from := time.Now().Truncate(time.Millisecond)
	const visits = 40
	visit("gap", visits)
	to := time.Now().Add(time.Second)
	eventually(t, time.Minute, "the end of the gap is past", func() (bool, error) { return time.Now().After(to), nil })

	var replay struct {
		ID          int64
		State       string
		RecordsSent int64 `json:"records_sent"`
	}
	if err := p.API(t.Context(), http.MethodPost, jobPath+"/replays", map[string]any{"from": from, "to": to}, &replay); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "the replay is done", func() (bool, error) {
		err := p.API(t.Context(), http.MethodGet, fmt.Sprintf("%s/replays/%d", jobPath, replay.ID), nil, &replay)
		return replay.State == "done", err
	})
	if n := has("gap"); n != visits || replay.RecordsSent < visits {
		t.Errorf("%d of %d events of the gap are there, and %d were sent", n, visits, replay.RecordsSent)
	}
}

// eventsRead returns the lines of /metrics that say how many events jobs have read.
func eventsRead(p *platform.Platform) (string, error) {
	res, err := http.Get(p.Ready.API + "/metrics")
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	var lines bytes.Buffer
	for line := range bytes.Lines(text) {
		if bytes.HasPrefix(line, []byte("tidegate_logpush_events_in_total{")) {
			lines.Write(line)
		}
	}
	return lines.String(), err
}

// deliveredPaths counts, by the path of their requests, the events in a folder.
func deliveredPaths(t *testing.T, folder string) map[string]int {
	t.Helper()
	paths := map[string]int{}
	for _, e := range delivered[struct {
		Event struct{ Request struct{ URL string } }
	}](t, folder) {
		paths[e.Event.Request.URL]++
	}
	return paths
}

// delivered reads the events in a folder, each as an E.
func delivered[E any](t *testing.T, folder string) (list []E) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.log.gz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		zipped, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := gzip.NewReader(bytes.NewReader(zipped))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(text) {
			var e E
			if err := json.Unmarshal(line, &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e)
		}
	}
	return list
}
