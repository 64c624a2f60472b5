package stream

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoffMin and backoffMax bound the pause between two attempts.
const (
	backoffMin = 50 * time.Millisecond
	backoffMax = 5 * time.Second
)

// Backoff returns the pause before attempt n (0 is the first repeat): doubling
// from 50 ms to 5 s, of which a random half to keep clients apart.
func Backoff(n int) time.Duration {
	d := backoffMax
	if n < 7 { // 50 ms << 7 exceeds backoffMax
		d = min(backoffMin<<n, backoffMax)
	}
	return d/2 + rand.N(d/2+1)
}

// Sleep waits for d, or returns ctx's error when ctx has ended or ends first.
func Sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
