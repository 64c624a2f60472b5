package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/test/proc"
)

// sample is a look at the platform: what /metrics says of the main process, and /proc of its children.
type sample struct {
	at          time.Time
	incarnation int // how many kills of the whole platform were before
	values      map[string]float64
}

const sampleEvery = time.Second

// metrics that are sampled, and what the report calls them.
var sampled = map[string]string{
	"go_goroutines": "goroutines", "process_open_fds": "descriptors", "process_resident_memory_bytes": "resident bytes",
	"go_memstats_next_gc_bytes": heapGoal, "go_gc_gogc_percent": heapPercent,
}

// Of the heap it is what the last collection left that must not grow. What is in use is up to five times of that, as
// the collector lets garbage pile up (GOGC=400), and where a sample falls between two collections is chance. The
// collector aims at so many percent more than it left (https://go.dev/doc/gc-guide), so its aim tells.
const (
	heapGoal    = "bytes at which the heap is collected"
	heapPercent = "percent by which they are more than is alive"
	heapAlive   = "heap bytes alive"
)

// Counters of lost and repeated events, summed over their labels.
const (
	dropped          = "dropped"
	repeatsPossible  = "repeats possible"
	childResident    = "resident bytes of the engine"
	childDescriptors = "descriptors of the engine"
	runtimes         = "processes of the Workers runtime"
)

var counted = map[string]string{
	"tidegate_stream_events_dropped_total": dropped, "tidegate_gateway_events_dropped_total": dropped,
	"tidegate_stream_events_repeat_possible_total": repeatsPossible,
}

func (w *world) sample(ctx context.Context) {
	client := &http.Client{Timeout: 5 * time.Second}
	for pause(ctx, sampleEvery) {
		s, err := w.look(ctx, client)
		if err != nil {
			continue // killed, or stopped: there is no sample of it
		}
		w.mu.Lock()
		w.samples = append(w.samples, s)
		w.mu.Unlock()
	}
}

func (w *world) look(ctx context.Context, client *http.Client) (sample, error) {
	w.mu.Lock()
	s := sample{at: time.Now(), incarnation: len(w.kills), values: map[string]float64{}}
	pid := w.p.Process().Pid()
	w.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.ops+"/metrics", nil)
	if err != nil {
		return s, err
	}
	res, err := client.Do(req)
	if err != nil {
		return s, err
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		series, text, ok := strings.Cut(lines.Text(), " ")
		if i := strings.LastIndex(lines.Text(), " "); i > 0 { // values of labels have spaces
			series, text = lines.Text()[:i], lines.Text()[i+1:]
		}
		name, _, _ := strings.Cut(series, "{")
		value, err := strconv.ParseFloat(text, 64)
		if !ok || err != nil {
			continue
		}
		if as := sampled[name]; as != "" {
			s.values[as] = value
		}
		if as := counted[name]; as != "" {
			s.values[as] += value
		}
	}
	for _, child := range proc.Tree(pid)[1:] {
		switch command := proc.CommandLine(child); {
		case strings.Contains(command, "engine-child"):
			s.values[childResident] += float64(proc.Resident(child))
			open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", child))
			if err == nil {
				s.values[childDescriptors] += float64(len(open))
			}
		case strings.Contains(command, "workerd"):
			s.values[runtimes]++
		}
	}
	if goal, ok := s.values[heapGoal]; ok {
		s.values[heapAlive] = goal / (1 + s.values[heapPercent]/100)
	}
	return s, lines.Err()
}

// profiles keeps what the heap had near the ends of the phases that are compared, for whoever asks what grew.
func (w *world) profiles(ctx context.Context, ph phases) {
	const early = 5 * time.Second // the process must still be there, and undisturbed
	for _, of := range []struct {
		name string
		at   time.Time
	}{{"heap-second.pb.gz", ph.faults}, {"heap-last.pb.gz", ph.end}} {
		if !pause(ctx, time.Until(of.at.Add(-early))) {
			return
		}
		if err := w.profile(ctx, of.name); err != nil {
			fmt.Println("no profile of the heap:", err)
		}
	}
}

func (w *world) profile(ctx context.Context, name string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.ops+"/debug/pprof/heap", nil)
	if err != nil {
		return err
	}
	res, err := w.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	content, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answered %s", req.URL, res.Status)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.o.out, name), content, 0o600)
}

// grown compares a number between the two phases without faults.
type grown struct {
	What      string  `json:"what"`
	Before    float64 `json:"median_of_second_fifth"`
	After     float64 `json:"median_of_last_fifth"`
	Tolerance float64 `json:"may_become"`
	Grew      bool    `json:"grew"`
}

// tolerances are how much more the last fifth may have than the second: a share of it, a fixed part, and a part for
// each process of the Workers runtime that is there beyond those of the second. Memory has the larger ones, because
// caches fill (the engine's of marks and dictionaries, Go's heap up to its next collection) and stay; goroutines and
// descriptors are those of connections, deliveries and runtimes. A version runs on for ten minutes after it left its
// deployment, so runtimes may become as many as --workers-max lets them.
var tolerances = []struct {
	what                     string
	share, fixed, forRuntime float64
}{
	{"goroutines", 0.10, 40, 12},
	{"descriptors", 0.10, 32, 10},
	{childDescriptors, 0.25, 64, 0},
	{heapAlive, 0.25, 32 << 20, 0}, // ingest keeps the memory of its largest blocks (slots.keep)
	{"resident bytes", 0.25, 64 << 20, 0},
	{childResident, 0.25, 256 << 20, 0},
	{runtimes, 0, 1, 1},
}

// runtimesMax is the platform's --workers-max.
const runtimesMax = 12

func growth(samples []sample, ph phases) (list []grown) {
	more := min(median(samples, runtimes, ph.last, ph.end), runtimesMax) - median(samples, runtimes, ph.calm, ph.faults)
	for _, t := range tolerances {
		before, after := median(samples, t.what, ph.calm, ph.faults), median(samples, t.what, ph.last, ph.end)
		if math.IsNaN(before) || math.IsNaN(after) {
			continue // unknown; finish says so
		}
		most := before*(1+t.share) + t.fixed + t.forRuntime*max(0, more)
		list = append(list, grown{t.what, before, after, most, after > most})
	}
	return list
}

// median is NaN where there is no sample.
func median(samples []sample, what string, from, to time.Time) float64 {
	var values []float64
	for _, s := range samples {
		if v, ok := s.values[what]; ok && !s.at.Before(from) && s.at.Before(to) {
			values = append(values, v)
		}
	}
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// total is the sum of a counter over all incarnations of the process, each as it was last seen.
func total(samples []sample, what string) (sum float64) {
	last := map[int]float64{}
	for _, s := range samples {
		if v, ok := s.values[what]; ok {
			last[s.incarnation] = v
		}
	}
	for _, v := range last {
		sum += v
	}
	return sum
}
