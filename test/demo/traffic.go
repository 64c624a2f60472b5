package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
	"tidegate/test/platform"
)

// shopWorker is a version of shop. It asks stock, answers its name, and fails
// every failEvery-th request, unless that is zero.
func shopWorker(name, message string, failEvery int) platform.Worker {
	w := platform.JavaScript(name, fmt.Sprintf(`let requests = 0;
export default {
  async fetch(request, env) {
    const left = await (await env.STOCK.fetch("http://stock/")).text();
    const failEvery = %d;
    if (failEvery > 0 && ++requests %% failEvery === 0) {
      console.error("no price, and", left, "left");
      return new Response(%[2]q, { status: 500 });
    }
    return new Response(%[2]q, { headers: { "x-left": left, "x-version": env.VERSION.id } });
  },
};
`, failEvery, name))
	w.Bindings = append(w.Bindings, map[string]any{"name": "STOCK", "type": deploy.BindingService, "service": stock})
	w.Message = message
	return w
}

// origin is the service behind stock. Each request makes one event.
type origin struct {
	server *httptest.Server
	hits   atomic.Int64
}

func startOrigin() *origin {
	o := &origin{}
	o.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strconv.FormatInt(1_000_000-o.hits.Add(1), 10))
	}))
	return o
}

func (o *origin) url() string { return o.server.URL }
func (o *origin) close()      { o.server.Close() }

// receiver is a Logpush destination that keeps one count a version.
type receiver struct {
	server *httptest.Server
	mu     sync.Mutex
	counts map[string]int64 // by version id
	broken error
}

func startReceiver() *receiver {
	r := &receiver{counts: map[string]int64{}}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.take(req); err != nil {
			r.mu.Lock()
			r.broken = err
			r.mu.Unlock()
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	}))
	return r
}

func (r *receiver) take(req *http.Request) error {
	if req.Header.Get("X-Collector") != "demo" {
		return errors.New("the header of destination_conf is missing")
	}
	unzipped, err := gzip.NewReader(req.Body)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(unzipped)
	if err != nil {
		return err
	}
	if strings.HasPrefix(string(body), `{"content":`) {
		return nil // the test upload at creation
	}
	counts := map[string]int64{}
	for line := range bytes.Lines(body) {
		var record struct {
			Event            struct{ Response struct{ Status int } }
			EventTimestampMs int64
			Outcome          string
			ScriptName       string
			ScriptVersion    schema.ScriptVersion
			Logs             []schema.Log
		}
		decoder := json.NewDecoder(bytes.NewReader(line))
		if err := decoder.Decode(&record); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		if record.ScriptName != script || record.Event.Response.Status == 0 || record.EventTimestampMs == 0 || record.ScriptVersion.ID == "" {
			return fmt.Errorf("line %q lacks a field", line)
		}
		if record.Event.Response.Status == http.StatusInternalServerError && len(record.Logs) == 0 {
			return fmt.Errorf("line %q lacks what the Worker logged", line)
		}
		counts[record.ScriptVersion.ID]++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for version, n := range counts {
		r.counts[version] += n
	}
	return nil
}

func (r *receiver) url() string { return r.server.URL }
func (r *receiver) close()      { r.server.Close() }

func (r *receiver) err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.broken
}

func (r *receiver) events() int64 {
	var n int64
	for _, c := range r.byVersion() {
		n += c
	}
	return n
}

func (r *receiver) byVersion() map[string]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := make(map[string]int64, len(r.counts))
	for k, v := range r.counts {
		counts[k] = v
	}
	return counts
}

// traffic sends requests from several clients until it is stopped or has sent
// as many as it should, and keeps who answered what.
type traffic struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu       sync.Mutex
	answers  map[string]int64 // by version name
	failures map[string]int64
	last     string
	inARow   int64
	err      error
}

// pause between two requests of one client while traffic runs without a count:
// about 300 requests a second with four clients, which leaves the machine air.
const pause = 10 * time.Millisecond

func startTraffic(ctx context.Context, p *platform.Platform, script string, clients, requests int) *traffic {
	ctx, cancel := context.WithCancel(ctx)
	t := &traffic{cancel: cancel, answers: map[string]int64{}, failures: map[string]int64{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var tickets atomic.Int64
	for range clients {
		t.done.Go(func() {
			for ctx.Err() == nil && (requests == 0 || tickets.Add(1) <= int64(requests)) {
				// A request that has begun is finished, so that every event has its answer.
				status, body, err := p.Visit(context.WithoutCancel(ctx), client, script, nil)
				t.note(status, body, err)
				if requests == 0 {
					select {
					case <-ctx.Done():
					case <-time.After(pause):
					}
				}
			}
		})
	}
	return t
}

func (t *traffic) note(status int, version string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		t.err = err
		return
	case status != http.StatusOK && status != http.StatusInternalServerError:
		t.err = fmt.Errorf("the gateway answered %d: %s", status, version)
	case status == http.StatusInternalServerError:
		t.failures[version]++
	}
	t.answers[version]++
	if version != t.last {
		t.last, t.inARow = version, 0
	}
	t.inARow++
}

func (t *traffic) stop() { t.cancel() }

func (t *traffic) wait() error {
	t.done.Wait()
	return t.firstError()
}

func (t *traffic) firstError() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

func (t *traffic) served(version string) int64 { return t.read(t.answers, version) }
func (t *traffic) failed(version string) int64 { return t.read(t.failures, version) }

func (t *traffic) read(m map[string]int64, version string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return m[version]
}

func (t *traffic) total() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	var n int64
	for _, c := range t.answers {
		n += c
	}
	return n
}

// streak returns how many of the latest answers in a row came from version.
func (t *traffic) streak(version string) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last != version {
		return 0
	}
	return t.inARow
}

// events is how many there must be: one for each request to shop, and one for each
// that stock got.
func (s *story) events() int64 { return s.answeredSeen + s.stock.hits.Load() }

func (s *story) addTraffic(t *traffic) {
	s.answeredSeen += t.total()
	s.servedByTwo += t.served("v2")
}

// visit sends one request and returns the name of the version that answered.
func (s *story) visit(ctx context.Context, header http.Header) (string, error) {
	_, version, err := s.platform.Visit(ctx, &s.client, script, header)
	if err != nil {
		return "", err
	}
	s.answeredSeen++
	if version == "v2" {
		s.servedByTwo++
	}
	return version, nil
}

// until polls for at most two minutes and names what it waited for.
func (s *story) until(ctx context.Context, what string, f func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := platform.Poll(ctx, f); err != nil {
		return fmt.Errorf("waiting until %s: %w", what, err)
	}
	return nil
}

// untilCounted waits until the hour rollup holds at least n requests: it is the
// last place that an event reaches.
func (s *story) untilCounted(ctx context.Context, n int64) error {
	return s.until(ctx, fmt.Sprintf("ClickHouse counts %d requests", n), func() (bool, error) {
		have, err := s.platform.Count(ctx, "SELECT sum(requests) FROM version_rates_1h")
		return have >= n, err
	})
}

// deployAndWait deploys splits and waits until the gateway serves them: until an
// override for the last of them, which counts as traffic, reaches it.
func (s *story) deployAndWait(ctx context.Context, splits ...deploy.Split) error {
	if _, err := s.platform.Deploy(ctx, script, splits...); err != nil {
		return err
	}
	newest := splits[len(splits)-1].VersionID
	header := http.Header{"Cloudflare-Workers-Version-Overrides": {fmt.Sprintf("%s=%q", script, newest)}}
	return s.until(ctx, "the gateway serves the new deployment", func() (bool, error) {
		version, err := s.visit(ctx, header)
		return version == s.name(newest), err
	})
}

// countLines adds up the lines of every gzip file below dir.
func countLines(dir string) (lines int64, files int, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log.gz") {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		compressed, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		unzipped, err := gzip.NewReader(bytes.NewReader(compressed))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		text, err := io.ReadAll(unzipped)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		lines += int64(bytes.Count(text, []byte("\n")))
		files++
		return nil
	})
	return lines, files, err
}
