package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder makes services that note the order in which they stop.
type recorder struct {
	mu    sync.Mutex
	order []string
}

func (r *recorder) service(name string, at stage) service {
	return service{name, at, func(ctx context.Context) error {
		<-ctx.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.order = append(r.order, name)
		return nil
	}}
}

func TestServicesStopStageByStage(t *testing.T) {
	var r recorder
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := runServices(ctx, slog.New(slog.DiscardHandler), time.Minute, []service{r.service("listener", stageEdge), r.service("producer", stageProducer), r.service("routing", stageRouting)})
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"listener", "routing", "producer"}; !slices.Equal(r.order, want) {
		t.Errorf("stopped in the order %v, want %v", r.order, want)
	}
}

func TestFirstFailureStopsAll(t *testing.T) {
	var r recorder
	broken := errors.New("the disk is gone")
	services := []service{{"producer", stageProducer, func(context.Context) error { return broken }}, r.service("routing", stageRouting), r.service("listener", stageEdge)}
	err := runServices(t.Context(), slog.New(slog.DiscardHandler), time.Minute, services)
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "producer: ") {
		t.Errorf("got %v, want the producer's failure", err)
	}
	if want := []string{"listener", "routing"}; !slices.Equal(r.order, want) {
		t.Errorf("stopped %v, want %v", r.order, want)
	}
}

func TestServiceThatEndsByItselfIsAFailure(t *testing.T) {
	err := runServices(t.Context(), slog.New(slog.DiscardHandler), time.Minute, []service{{"gateway", stageEdge, func(context.Context) error { return nil }}})
	if err == nil || !strings.Contains(err.Error(), "gateway ended by itself") {
		t.Errorf("got %v", err)
	}
}

// Readers and listeners have nothing to do with each other: one that takes its
// time must not use up the time of the others.
func TestOneStageStopsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(stopGrace - time.Second)
			return nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		services := []service{{"ingest", stageEdge, slow}, {"logpush", stageEdge, slow}, {"gateway", stageEdge, slow}}
		if err := runServices(ctx, slog.New(slog.DiscardHandler), stopGrace, services); err != nil {
			t.Error(err)
		}
	})
}

func TestServiceThatDoesNotStopIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		stuck := service{"consumer", stageEdge, func(context.Context) error { <-release; return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := runServices(ctx, slog.New(slog.DiscardHandler), stopGrace, []service{stuck})
		if err == nil || !strings.Contains(err.Error(), "consumer did not stop") {
			t.Errorf("got %v", err)
		}
		close(release)
	})
}
