package runtime

import (
	"sync"
	"sync/atomic"
)

// untold are the requests that were sent to a process and whose invocations it has
// not told, by ray. They have names because a count would drift: a Worker can call
// its own exports with the request that it got, and is told of twice, and the
// runtime never sees a request whose client leaves at once. Its methods may be
// called concurrently.
//
// It also knows whether one request is alone in the process, see meter.
type untold struct {
	mu    sync.Mutex
	rays  map[string]int
	n     int
	begun uint64 // how many were added
	// left are requests whose client left before the response. They may run on, may be
	// told, or may never have been seen.
	left map[string]int
	// mixed says that code may run, as long as the process lives, of which nobody knows
	// when it begins and ends.
	mixed bool
	// sole says that one request is untold, and that nothing else was in the process
	// since it was added. Written under mu.
	sole atomic.Bool
}

const (
	// leftMax bounds what is remembered of clients that left; beyond it the process is mixed.
	leftMax = 1000
	// untoldMax bounds what is waited for: it is more than a process has in hand, so most of it
	// was told and lost on the way. Beyond it all is forgotten, and the process is mixed.
	untoldMax = 64 << 10
)

// add enters a request that is about to be sent. free says that the caller knows of
// nothing else in the process. It reports whether the request is alone there.
func (u *untold) add(ray string, free bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.n >= untoldMax {
		u.rays, u.n = nil, 0
		u.mixLocked()
	}
	sole := free && u.emptyLocked()
	if u.rays == nil {
		u.rays = map[string]int{}
	}
	u.rays[ray]++
	u.n++
	u.begun++
	u.sole.Store(sole)
	return sole
}

func (u *untold) emptyLocked() bool { return u.n == 0 && len(u.left) == 0 && !u.mixed }

// empty reports whether nothing is in the process, and how many were added up to now.
func (u *untold) empty() (begun uint64, empty bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.begun, u.emptyLocked()
}

// told takes out a request whose invocation was told, and reports whether it was
// alone from beginning to end. An invocation that nobody asked for is one that the
// Worker began itself; when it will do that again nobody knows.
func (u *untold) told(ray string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.removeLocked(ray):
		return u.sole.Swap(false)
	case u.left[ray] > 1:
		u.left[ray]--
	case u.left[ray] == 1:
		delete(u.left, ray)
	default:
		u.mixLocked()
	}
	return false
}

// remove takes out a request that was not sent. It does nothing for a ray that is not there.
func (u *untold) remove(ray string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.removeLocked(ray) {
		u.sole.Store(false)
	}
}

// leave takes out a request whose client left: it may never be told. It does nothing
// for one that was told already.
func (u *untold) leave(ray string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case !u.removeLocked(ray):
	case u.mixed:
	case len(u.left) == leftMax:
		u.mixLocked()
	default:
		if u.left == nil {
			u.left = map[string]int{}
		}
		u.left[ray]++
		u.sole.Store(false)
	}
}

func (u *untold) removeLocked(ray string) bool {
	switch u.rays[ray] {
	case 0:
		return false
	case 1:
		delete(u.rays, ray)
	default:
		u.rays[ray]--
	}
	u.n--
	return true
}

// mix says that from now on code may run that nobody tells of in time.
func (u *untold) mix() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mixLocked()
}

func (u *untold) mixLocked() {
	u.mixed, u.left = true, nil
	u.sole.Store(false)
}

func (u *untold) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}
