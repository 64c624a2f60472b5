// Package detection plays bad releases on a running platform, and takes the time until
// the policy has taken them out of traffic.
package detection

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// Scenario is a release under traffic.
type Scenario struct {
	Name     string
	Rate     int               // requests a second
	Share    deploy.Percentage // of the new version
	Baseline float64           // share of the old version's requests that fail
	New      float64           // share of the new version's
	Policy   map[string]any    // as the API takes it
	Patience time.Duration     // how long the new version may stay, at most
}

// Result is what came of it.
type Result struct {
	RolledBack bool
	// After is how long the new version served on, from its first failed response to
	// the last request that it got.
	After    time.Duration
	Requests int // that the new version answered
	Failures int // of them
	Decision deploy.RollbackDecision
}

const (
	warmUp  = 2 * time.Second // with the old version alone
	clients = 64              // more than are busy at once
)

// Run plays a scenario on a script of its own.
func Run(ctx context.Context, p *platform.Platform, script string, s Scenario) (r Result, err error) {
	old, fresh := &origin{rate: s.Baseline}, &origin{rate: s.New}
	var ids [2]string
	for i, o := range []*origin{old, fresh} {
		url, stop, err := o.listen(ctx)
		if err != nil {
			return r, err
		}
		defer stop()
		if ids[i], err = p.UploadOrigin(ctx, script, url, fmt.Sprintf("v%d", i+1), ""); err != nil {
			return r, err
		}
	}
	if _, err := p.Deploy(ctx, script, deploy.Split{VersionID: ids[0], Percentage: deploy.Full}); err != nil {
		return r, err
	}
	if err := p.API(ctx, http.MethodPut, path(script, "rollback-policy"), s.Policy, nil); err != nil {
		return r, err
	}
	visiting, stop := context.WithCancel(ctx)
	var traffic sync.WaitGroup
	traffic.Go(func() { visit(visiting, p, script, s.Rate) })
	defer traffic.Wait()
	defer stop()

	if err := sleep(ctx, warmUp); err != nil {
		return r, err
	}
	if _, err := p.Deploy(ctx, script, deploy.Split{VersionID: ids[0], Percentage: deploy.Full - s.Share}, deploy.Split{VersionID: ids[1], Percentage: s.Share}); err != nil {
		return r, err
	}
	waiting, cancel := context.WithTimeout(ctx, s.Patience)
	defer cancel()
	err = platform.Poll(waiting, func() (bool, error) {
		deployments, err := p.Deployments(waiting, script)
		if err != nil {
			return false, err
		}
		r.RolledBack = deployments[0].Versions[0].VersionID == ids[0] && len(deployments[0].Versions) == 1
		return r.RolledBack, nil
	})
	if err != nil && (waiting.Err() == nil || ctx.Err() != nil) {
		return r, err
	}
	if err := sleep(ctx, time.Second); err != nil { // until the gateway has it too
		return r, err
	}
	r.After, r.Requests, r.Failures = fresh.served()
	if !r.RolledBack {
		return r, nil
	}
	var decisions []deploy.RollbackDecision
	if err := p.API(ctx, http.MethodGet, path(script, "rollback-decisions"), nil, &decisions); err != nil {
		return r, err
	}
	if len(decisions) == 0 {
		return r, errors.New("there was a rollback, but no decision tells of it")
	}
	r.Decision = decisions[0]
	return r, nil
}

func path(script, what string) string {
	return "/accounts/{account}/workers/scripts/" + script + "/" + what
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// visit sends requests at a rate until ctx ends. What comes back is the origins' matter.
func visit(ctx context.Context, p *platform.Platform, script string, rate int) {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	free := make(chan struct{}, clients)
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		select {
		case <-ctx.Done():
			return
		case free <- struct{}{}:
		}
		under.Go(func() {
			defer func() { <-free }()
			_, _, _ = p.Visit(ctx, client, script, nil)
		})
	}
}

// origin answers, fails a share of its requests, and keeps when.
type origin struct {
	rate float64

	mu                 sync.Mutex
	requests, failures int
	firstFailed, last  time.Time
}

func (o *origin) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	fails := rand.Float64() < o.rate
	o.mu.Lock()
	o.requests++
	o.last = time.Now()
	if fails {
		if o.failures == 0 {
			o.firstFailed = o.last
		}
		o.failures++
	}
	o.mu.Unlock()
	if fails {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (o *origin) served() (after time.Duration, requests, failures int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.failures > 0 {
		after = o.last.Sub(o.firstFailed)
	}
	return after, o.requests, o.failures
}

func (o *origin) listen(ctx context.Context) (url string, stop func(), err error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: o, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until it is closed
	return "http://" + listener.Addr().String(), func() { _ = server.Close(); serving.Wait() }, nil
}
