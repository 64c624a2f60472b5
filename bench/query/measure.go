package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/clickhouse"
	"tidegate/schema/control"
	"tidegate/test/proc"
)

// The limits: docs/benchmarks.md.
const (
	dashboardLimit  = 50 * time.Millisecond
	rayLimit        = 100 * time.Millisecond
	exceptionsLimit = 300 * time.Millisecond
)

// call is a question to the API. Without a path it is about another ray each time: the
// engine remembers where it found what it was asked for before.
type call struct {
	name, path string
	limit      time.Duration
	page       bool // a dashboard's script page asks it
}

func (h *history) calls() []call {
	at := func(before time.Duration) string { return "since=" + h.End.Add(-before).Format(time.RFC3339) }
	// An hour that begins and ends within a minute is made of three pieces.
	ragged := "since=" + h.End.Add(-90*time.Minute-17*time.Second).Format(time.RFC3339) + "&until=" + h.End.Add(-30*time.Minute-13*time.Second).Format(time.RFC3339)
	script := h.Scripts[0]
	path := "/workers/scripts/" + script.Name
	return []call{
		{"metrics of an hour", path + "/metrics?" + at(time.Hour), dashboardLimit, true},
		{"metrics of a ragged hour", path + "/metrics?" + ragged, dashboardLimit, true},
		{"metrics of a day", path + "/metrics?" + at(24*time.Hour), dashboardLimit, false},
		{"metrics of 30 days", path + "/metrics?" + at(30*24*time.Hour), dashboardLimit, false},
		{"comparison of an hour", path + "/metrics/compare?baseline=" + script.Versions[0] + "&candidate=" + script.Versions[1] + "&" + at(time.Hour), dashboardLimit, true},
		{"overview of an hour", "/workers/metrics?" + at(time.Hour), dashboardLimit, true},
		{"overview of a day", "/workers/metrics?" + at(24*time.Hour), dashboardLimit, false},
		{"newest 50 events", path + "/events?" + at(time.Hour), dashboardLimit, true},
		{"newest 50 failures", path + "/events?failed=true&" + at(time.Hour), dashboardLimit, true},
		{"event by ray", "", rayLimit, false},
		{"top exceptions of an hour", path + "/exceptions?" + at(time.Hour), exceptionsLimit, true},
	}
}

// measure makes each call one after the other, as often as asked for, and then those
// of a page from several callers at once, none of whom waits between two.
func (h *history) measure(ctx context.Context, db *clickhouse.DB, engine int) error {
	server, err := api.New(api.Config{Now: func() time.Time { return h.End }}, api.Deps{
		Accounts: h.store, Tokens: h.store, Scripts: h.store, Metrics: db, Events: db})
	if err != nil {
		return err
	}
	rays, err := h.rays(ctx)
	if err != nil {
		return err
	}
	var page []call
	for _, c := range h.calls() {
		if c.page {
			page = append(page, c)
		}
		used, err := proc.CPU(engine)
		if err != nil {
			return err
		}
		took := make([]time.Duration, h.each)
		for i := range took {
			path := c.path
			if path == "" {
				path = "/workers/events/" + rays[i%len(rays)]
			}
			if took[i], err = h.ask(ctx, server.Handler(), path); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		now, err := proc.CPU(engine)
		if err != nil {
			return err
		}
		c.print("", took, fmt.Sprintf(", %6.1f ms of the engine's CPU", milliseconds((now-used)/time.Duration(h.each))))
	}
	return h.together(ctx, server.Handler(), page)
}

// rays are those of some events all over the history.
func (h *history) rays(ctx context.Context) ([]string, error) {
	offsets := make([]string, h.each)
	for i := range offsets {
		offsets[i] = strconv.FormatInt(h.Raw*int64(2*i+1)/int64(2*h.each), 10)
	}
	text, err := h.query(ctx, "SELECT ray_id FROM trace_events WHERE kafka_offset IN ("+strings.Join(offsets, ", ")+")")
	if err != nil {
		return nil, fmt.Errorf("read some rays: %w", err)
	}
	return strings.Fields(text), nil
}

func (c call) print(how string, took []time.Duration, more string) {
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	fmt.Printf("%-40s p50 %6.1f ms, p99 %6.1f ms%s; p99/limit %.2f\n", c.name+how, milliseconds(took[len(took)/2]), milliseconds(p99), more, float64(p99)/float64(c.limit))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// together measures the calls of a page while each viewer makes all of them, again and
// again, each beginning with another one.
func (h *history) together(ctx context.Context, handler http.Handler, page []call) error {
	took := make([][][]time.Duration, h.viewers)
	failures := make([]error, h.viewers)
	var all sync.WaitGroup
	for v := range h.viewers {
		took[v] = make([][]time.Duration, len(page))
		all.Go(func() {
			for i := range h.each * len(page) / h.viewers {
				which := (i + v) % len(page)
				once, err := h.ask(ctx, handler, page[which].path)
				if err != nil {
					failures[v] = fmt.Errorf("%s: %w", page[which].name, err)
					return
				}
				took[v][which] = append(took[v][which], once)
			}
		})
	}
	all.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	for i, c := range page {
		var list []time.Duration
		for v := range took {
			list = append(list, took[v][i]...)
		}
		c.print(fmt.Sprintf(", %d at once", h.viewers), list, "")
	}
	return nil
}

func (h *history) ask(ctx context.Context, handler http.Handler, path string) (time.Duration, error) {
	req := httptest.NewRequestWithContext(ctx, http.MethodGet, "/client/v4/accounts/"+control.FirstAccountID+path, nil)
	req.Header.Set("Authorization", "Bearer "+h.Token)
	res := httptest.NewRecorder()
	began := time.Now()
	handler.ServeHTTP(res, req)
	took := time.Since(began)
	if res.Code != http.StatusOK {
		return 0, fmt.Errorf("answered %d: %.300s", res.Code, res.Body)
	}
	return took, nil
}
