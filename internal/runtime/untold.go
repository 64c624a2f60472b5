package runtime

import "sync"

// untold are the requests that were sent to a process and whose invocations it has
// not told, by ray. They have names because a count would drift: a Worker can call
// its own exports with the request that it got, and is told of twice, and the
// runtime never sees a request whose client leaves at once. Its methods may be
// called concurrently.
type untold struct {
	mu   sync.Mutex
	rays map[string]int
	n    int
}

func (u *untold) add(ray string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.rays == nil {
		u.rays = map[string]int{}
	}
	u.rays[ray]++
	u.n++
}

// remove does nothing for a ray that is not there.
func (u *untold) remove(ray string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch u.rays[ray] {
	case 0:
		return
	case 1:
		delete(u.rays, ray)
	default:
		u.rays[ray]--
	}
	u.n--
}

func (u *untold) len() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.n
}
