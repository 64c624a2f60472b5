package runtime

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"tidegate/schema"
)

// lateContext is past its deadline, as on a busy machine before its timer has run.
type lateContext struct{ context.Context }

func (lateContext) Deadline() (time.Time, bool) { return time.Now().Add(-time.Millisecond), true }

// An origin that ends a call at its deadline is not to blame, nor is its endpoint.
func TestNobodyIsToBlameAtTheDeadline(t *testing.T) {
	if err := fault(lateContext{t.Context()}, "read the response", io.ErrUnexpectedEOF); !errors.Is(err, context.DeadlineExceeded) || blame(err) != "" {
		t.Errorf("got %v, blaming %q", err, blame(err))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := fault(ctx, "read the response", io.ErrUnexpectedEOF); blame(err) != schema.ErrorKindReset {
		t.Errorf("before the deadline: %v, blaming %q", err, blame(err))
	}
}
