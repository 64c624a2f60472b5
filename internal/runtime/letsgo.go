package runtime

import "slices"

// LetsGo is a promise to the gateway: when the body of a response is closed, or
// RoundTrip has failed, nothing is kept of a request that had no body, so that its memory can
// be used for the next one.
func (t *http1) LetsGo() bool { return true }

// LetsGo is true if all endpoints promise it: an attempt that failed has let go, too.
func (u *upstream) LetsGo() bool { return u.letsGo }

// TakesLists says that a request may come with its header in the lines.Exchange of its
// context.
func (t *http1) TakesLists() bool { return !t.worker }

// TakesLists is true if all endpoints do.
func (u *upstream) TakesLists() bool { return u.letsGo }

func allLetGo(transports []transport) bool {
	return !slices.ContainsFunc(transports, func(t transport) bool {
		_, ok := t.(*http1)
		return !ok // http.Transport's goroutines may have a request for a while longer
	})
}
