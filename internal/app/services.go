package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// stopGrace bounds a clean stop of the services with the default drain timeout. The
// contract of SIGTERM is 10 s for all of it: the rest is for the embedded broker and engine.
const stopGrace = 7 * time.Second

// stopGrace is as much longer or shorter as the drain timeout is.
func (p *process) stopGrace() time.Duration { return stopGrace - drainTimeout + p.config.DrainTimeout }

// stage groups services that need nothing of each other to stop.
type stage int

// The stages, in the order of the start; the stop goes the other way round.
const (
	stageProducer stage = iota // sends what the last requests left
	stageRuntime               // runs Workers, which tell of their last invocations as they end
	stageRouting               // holds the connections that were switched to another protocol
	stageEdge                  // listeners, readers of the topic, controllers
	stages
)

// service is one long-running part. run ends when its context does, after it has
// finished what it had in hand.
type service struct {
	name  string
	stage stage
	run   func(context.Context) error
}

// ended is what a service left behind.
type ended struct {
	index int
	err   error
}

// runServices starts the services and keeps them until ctx ends or one of them
// does. Then it stops them stage by stage, the last one first, so that each can
// still use what was started before it, and waits for all. It returns the first
// failure; a service that ends by itself is one. At the end of grace it cancels
// whatever is left and names it.
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

	running := make(map[int]bool, len(services))
	for i := range services {
		running[i] = true
	}
	var failures []error
	note := func(e ended, wanted bool) {
		delete(running, e.index)
		switch {
		case e.err != nil && !errors.Is(e.err, context.Canceled):
			failures = append(failures, fmt.Errorf("%s: %w", services[e.index].name, e.err))
		case !wanted:
			failures = append(failures, fmt.Errorf("%s ended by itself", services[e.index].name))
		}
		log.Debug("stopped", "service", services[e.index].name)
	}
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case e := <-results:
		note(e, false)
	}

	deadline := time.After(grace)
	for at := stages - 1; at >= 0; at-- {
		left := func() (names []string) {
			for i := range running {
				if services[i].stage == at {
					names = append(names, services[i].name)
				}
			}
			slices.Sort(names)
			return names
		}
		for i, s := range services {
			if s.stage == at {
				cancels[i]()
			}
		}
		for len(left()) > 0 {
			select {
			case e := <-results:
				note(e, true)
			case <-deadline:
				return errors.Join(append(failures, fmt.Errorf("%s did not stop within %s", strings.Join(left(), ", "), grace))...)
			}
		}
	}
	return errors.Join(failures...)
}
