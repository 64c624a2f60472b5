package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/clickhouse"
	"tidegate/schema/control"
)

// The limits: docs/benchmarks.md.
const (
	dashboardLimit  = 50 * time.Millisecond
	rayLimit        = 100 * time.Millisecond
	exceptionsLimit = 300 * time.Millisecond
)

// measure makes each call one after the other, as often as asked for.
func (h *history) measure(ctx context.Context, db *clickhouse.DB) error {
	server, err := api.New(api.Config{Now: func() time.Time { return h.End }}, api.Deps{
		Accounts: h.store, Tokens: h.store, Scripts: h.store, Metrics: db, Events: db})
	if err != nil {
		return err
	}
	script := h.Scripts[0]
	at := func(before time.Duration) string { return "since=" + h.End.Add(-before).Format(time.RFC3339) }
	// An hour that begins and ends within a minute is made of three pieces.
	ragged := "since=" + h.End.Add(-90*time.Minute-17*time.Second).Format(time.RFC3339) + "&until=" + h.End.Add(-30*time.Minute-13*time.Second).Format(time.RFC3339)
	path := "/workers/scripts/" + script.Name
	for _, call := range []struct {
		name, path string
		limit      time.Duration
	}{
		{"metrics of an hour", path + "/metrics?" + at(time.Hour), dashboardLimit},
		{"metrics of a ragged hour", path + "/metrics?" + ragged, dashboardLimit},
		{"metrics of a day", path + "/metrics?" + at(24*time.Hour), dashboardLimit},
		{"metrics of 30 days", path + "/metrics?" + at(30*24*time.Hour), dashboardLimit},
		{"comparison of an hour", path + "/metrics/compare?baseline=" + script.Versions[0] + "&candidate=" + script.Versions[1] + "&" + at(time.Hour), dashboardLimit},
		{"overview of an hour", "/workers/metrics?" + at(time.Hour), dashboardLimit},
		{"overview of a day", "/workers/metrics?" + at(24*time.Hour), dashboardLimit},
		{"newest 50 events", path + "/events?" + at(time.Hour), dashboardLimit},
		{"newest 50 failures", path + "/events?failed=true&" + at(time.Hour), dashboardLimit},
		{"event by ray", "/workers/events/" + h.RayID, rayLimit},
		{"top exceptions of an hour", path + "/exceptions?" + at(time.Hour), exceptionsLimit},
	} {
		took := make([]time.Duration, h.calls)
		for i := range took {
			if took[i], err = h.call(ctx, server.Handler(), call.path); err != nil {
				return fmt.Errorf("%s: %w", call.name, err)
			}
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		fmt.Printf("%-26s p50 %6.1f ms, p99 %6.1f ms; p99/limit %.2f\n", call.name,
			float64(took[len(took)/2].Microseconds())/1000, float64(p99.Microseconds())/1000, float64(p99)/float64(call.limit))
	}
	return nil
}

func (h *history) call(ctx context.Context, handler http.Handler, path string) (time.Duration, error) {
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
