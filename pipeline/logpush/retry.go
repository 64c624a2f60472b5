package logpush

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Pauses between tries of one upload. Where the destination or the moment is to
// blame there is no last try: a batch waits until the destination takes it, or the
// job is disabled, and its records stay in Kafka for as long as the topic keeps them.
const (
	retryMin      = time.Second
	retryMax      = time.Minute
	retryAfterMax = 10 * time.Minute // the longest that a destination can ask for
)

// refusalOf returns the error of an upload that was refused because of its content,
// and nil where the moment or the settings are to blame, so that the same upload may
// pass later. docs/delivery.md has the table.
func refusalOf(err error, traits Traits) *UploadError {
	e, ok := errors.AsType[*UploadError](err)
	switch {
	case !ok:
		return nil
	case e.Status == http.StatusRequestEntityTooLarge:
		return e
	case !e.Permanent:
		return nil
	case len(e.Records) > 0:
		return e
	case traits.Overwrites: // a bucket doesn't read what it stores: its 400 is about a region, a name or a key
		return nil
	case e.Status == http.StatusBadRequest, e.Status == http.StatusUnprocessableEntity:
		return e
	}
	return nil
}

// pauseAfter returns how long to wait after a failed try, the first being 0: the
// pause doubles up to a limit, and half of it is random, so that the jobs of one
// destination don't come back together. A destination's own wish counts if it is
// longer.
func pauseAfter(attempt int, asked time.Duration, dice float64) time.Duration {
	pause := retryMax
	if attempt < 6 { // 2^6 s is beyond the limit
		pause = retryMin << attempt
	}
	pause = pause/2 + time.Duration(dice*float64(pause/2))
	return max(pause, min(asked, retryAfterMax))
}

// RetryAfter reads how long an answer asks to be left alone, in seconds or as a date; 0
// when it does not, or asks for a time that is past.
func RetryAfter(header http.Header, now time.Time) time.Duration {
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil || errors.Is(err, strconv.ErrRange) {
		const most = 1 << 30 // seconds; more would overflow, and nobody waits that long
		return time.Duration(min(max(seconds, 0), most)) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(at.Sub(now), 0)
}

func dice() float64 { return rand.Float64() }

// logInterval between two log lines about the same trouble.
const logInterval = 10 * time.Second

// throttle lets one event pass in a while. It is safe for concurrent use.
type throttle struct {
	every time.Duration

	mu   sync.Mutex
	next time.Time
}

func (t *throttle) allow(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.next) {
		return false
	}
	t.next = now.Add(t.every)
	return true
}
