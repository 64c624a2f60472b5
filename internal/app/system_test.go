package app

import (
	"context"
	"testing"

	"tidegate/schema/control"
)

func TestASuccessorThatNeverServesTellsNothing(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	end()
	reporter := &routerReporter{
		serving: make(chan struct{}),
		save: func(_ context.Context, r control.RouterState) error {
			t.Errorf("it reports %+v", r)
			return nil
		},
	}
	if err := reporter.Run(ctx); err != nil {
		t.Fatal(err)
	}
}
