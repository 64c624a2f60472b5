package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// stopGrace bounds the whole of a clean stop; the contract of SIGTERM is 10 s.
const stopGrace = 9 * time.Second

// service is one long-running part. run ends when its context does, after it has
// finished what it had in hand.
type service struct {
	name string
	run  func(context.Context) error
}

// ended is what a service left behind.
type ended struct {
	index int
	err   error
}

// runServices starts the services in order and keeps them until ctx ends or one
// of them does. Then it stops them one after the other in reverse, so that each
// can still use what was started before it, and waits for all. It returns the
// first failure; a service that ends by itself is one.
func runServices(ctx context.Context, log *slog.Logger, grace time.Duration, services []service) error {
	results := make(chan ended, len(services))
	cancels := make([]context.CancelFunc, len(services))
	for i, s := range services {
		// Not a child of ctx: the order of the stop below is ours to choose.
		sctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		cancels[i] = cancel
		go func() { results <- ended{i, s.run(sctx)} }()
	}

	stopped := make([]bool, len(services))
	var failures []error
	note := func(e ended, wanted bool) {
		stopped[e.index] = true
		switch {
		case e.err != nil && !errors.Is(e.err, context.Canceled):
			failures = append(failures, fmt.Errorf("%s: %w", services[e.index].name, e.err))
		case !wanted:
			failures = append(failures, fmt.Errorf("%s ended by itself", services[e.index].name))
		}
	}
	select {
	case <-ctx.Done():
	case e := <-results:
		note(e, false)
	}

	deadline := time.After(grace)
	for i := len(services) - 1; i >= 0; i-- {
		cancels[i]()
		for !stopped[i] {
			select {
			case e := <-results:
				note(e, true)
			case <-deadline:
				return errors.Join(append(failures, fmt.Errorf("%s did not stop within %s", services[i].name, grace))...)
			}
		}
		log.Debug("stopped", "service", services[i].name)
	}
	return errors.Join(failures...)
}
