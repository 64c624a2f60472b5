package notify

import (
	"errors"
	"math/rand/v2"
	"time"

	"tidegate/internal/deploy"
)

// When a message is tried again, and when it is given up: docs/rollback.md has the
// same numbers.
const (
	pauseFirst = 5 * time.Second
	pauseMax   = 30 * time.Minute // also of what a target asks for
	triesMax   = 60
	triedFor   = 24 * time.Hour
)

// settled is n after a try that ended with err at time now, and the result to count.
func settled(n deploy.Notification, err error, now time.Time) (deploy.Notification, string) {
	if err == nil {
		n.State, n.LastError = deploy.NotificationSent, ""
		return n, "sent"
	}
	n.LastError = reasonOf(err)
	f, ok := errors.AsType[*failure](err)
	if !ok { // a message that cannot be made now never can
		f = &failure{permanent: true}
	}
	n.NextTry = now.Add(max(pauseAfter(n.Attempts), min(f.after, pauseMax)))
	if f.permanent || n.Attempts >= triesMax || n.NextTry.Sub(n.CreatedOn) > triedFor {
		n.State = deploy.NotificationFailed
		return n, "failed"
	}
	return n, "retried"
}

// pauseAfter doubles from try to try. A tenth more or less keeps messages that failed
// together from coming back together.
func pauseAfter(attempts int) time.Duration {
	pause := pauseMax
	if doublings := attempts - 1; doublings < 9 { // 5 s doubled nine times is more than 30 minutes
		pause = pauseFirst << max(doublings, 0)
	}
	return time.Duration(float64(pause) * (0.9 + 0.2*rand.Float64())) //nolint:gosec // G404: spreads load, keeps no secret
}
