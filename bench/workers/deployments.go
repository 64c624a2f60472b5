package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

// timeDeployments moves all traffic back and forth between two versions while
// requests come, and takes the time from before each POST to the first answer of
// the version that it names.
func timeDeployments(ctx context.Context, o options, p *platform.Platform, one string) error {
	two, err := p.UploadWorker(ctx, script, platform.JavaScript("two", source))
	if err != nil {
		return err
	}
	// Both versions are cached, and their processes run, before anything is timed.
	if _, err := p.Deploy(ctx, script, deploy.Split{VersionID: two, Percentage: deploy.Full}); err != nil {
		return err
	}
	if err := untilAnswered(ctx, p, two); err != nil {
		return err
	}
	s := startSteady(ctx, p, o.rate)
	began := time.Now()
	var took []time.Duration
	for i := range o.flips {
		id := one
		if i%2 == 1 {
			id = two
		}
		posted := time.Now()
		if _, err := p.Deploy(ctx, script, deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
			s.stop()
			return err
		}
		if err := s.untilServed(ctx, id, posted); err != nil {
			s.stop()
			return err
		}
		took = append(took, time.Since(posted))
	}
	s.stop()
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[len(took)*99/100]
	fmt.Printf("deploy   POST to the first answer of the new version: p50 %d ms, p99 %d ms, max %d ms of %d, at %.0f requests/s; p99/limit %.2f: %s\n",
		p50.Milliseconds(), p99.Milliseconds(), took[len(took)-1].Milliseconds(), len(took),
		float64(s.answered.Load())/time.Since(began).Seconds(), float64(p99)/float64(freshnessLimit), verdict(p99 < freshnessLimit))
	fmt.Printf("failed   %d of %d requests meanwhile (limit 0: %s)\n", s.failed.Load(), s.answered.Load()+s.failed.Load(), verdict(s.failed.Load() == 0))
	return s.firstFailure()
}

// steady is a constant rate of requests that keeps which version answered.
type steady struct {
	cancel           context.CancelFunc
	done             sync.WaitGroup
	answered, failed atomic.Int64

	mu      sync.Mutex
	served  map[string]time.Time // when the newest request was sent that a version answered, by its id
	failure error
}

func startSteady(ctx context.Context, p *platform.Platform, rate int) *steady {
	const clients = 16
	ctx, cancel := context.WithCancel(ctx)
	s := &steady{cancel: cancel, served: map[string]time.Time{}}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}, Timeout: 10 * time.Second}
	for range clients {
		s.done.Go(func() {
			tick := time.NewTicker(time.Second * clients / time.Duration(rate))
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
					sent := time.Now()
					status, id, err := p.Visit(context.WithoutCancel(ctx), client, script, nil)
					s.note(sent, status, id, err)
				}
			}
		})
	}
	return s
}

func (s *steady) note(sent time.Time, status int, id string, err error) {
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("status %d: %s", status, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed.Add(1)
		if s.failure == nil {
			s.failure = err
		}
		return
	}
	s.answered.Add(1)
	if sent.After(s.served[id]) {
		s.served[id] = sent
	}
}

// untilServed waits for an answer of version id to a request sent after a moment.
func (s *steady) untilServed(ctx context.Context, id string, after time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		s.mu.Lock()
		served := s.served[id].After(after)
		s.mu.Unlock()
		if served {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for an answer of version %s: %w", id, ctx.Err())
		case <-tick.C:
		}
	}
}

func (s *steady) stop() {
	s.cancel()
	s.done.Wait()
}

func (s *steady) firstFailure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// untilAnswered waits until a version answers at the script's host.
func untilAnswered(ctx context.Context, p *platform.Platform, id string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err := platform.Poll(ctx, func() (bool, error) {
		status, body, err := p.Visit(ctx, http.DefaultClient, script, nil)
		return err == nil && status == http.StatusOK && body == id, nil
	})
	if err != nil {
		return fmt.Errorf("wait for version %s: %w", id, err)
	}
	return nil
}
