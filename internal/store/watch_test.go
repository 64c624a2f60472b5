package store

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/internal/errs"
)

// A control plane that was cut off from its database answered from memory that there was
// nothing new, every 30 s, while the other one had deployed and rolled back. Its routers
// served what they had, and took it for the newest.
func TestWaitersLearnThatTheDatabaseIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const revision = 7
		var away atomic.Bool
		w := startWatch(revision, func(ctx context.Context) (int64, error) {
			if away.Load() { // a network that loses packets refuses nothing
				<-ctx.Done()
				return 0, ctx.Err()
			}
			return revision, nil
		}, slog.New(slog.DiscardHandler))
		defer w.stop()
		s := &Store{watch: w, wait: time.Hour}

		time.Sleep(time.Minute) // of the bubble
		away.Store(true)
		began := time.Now()
		if snap, err := s.SnapshotAll(t.Context(), revision); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("without a database the answer is %+v, %v", snap, err)
		}
		if waited := time.Since(began); waited > 2*pollTimeout {
			t.Errorf("that took %s", waited)
		}
		if _, err := s.SnapshotAll(t.Context(), revision); errs.KindOf(err) != errs.Unavailable {
			t.Errorf("whoever comes later gets %v", err)
		}
		away.Store(false)
		time.Sleep(pollTimeout + pollInterval)
		if _, err := w.sight(); err != nil {
			t.Errorf("after the database is back: %v", err)
		}
	})
}

// One look that fails says nothing: it is repeated before anybody is told.
func TestOneFailedLookIsNoOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		w := startWatch(1, func(context.Context) (int64, error) {
			if looks.Add(1)%3 == 0 {
				return 0, errs.New(errs.Internal, 0, "refused")
			}
			return 1, nil
		}, slog.New(slog.DiscardHandler))
		defer w.stop()
		blinded, err := w.sight()
		select {
		case <-blinded:
			t.Error("waiters were told")
		case <-time.After(time.Minute):
		}
		if err != nil || looks.Load() < 100 {
			t.Errorf("there were %d looks in a minute; in the beginning: %v", looks.Load(), err)
		}
	})
}
