package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/rollback"
)

// second is what the versions answered in one second of a simulated deployment.
type second struct {
	requests, failures         int // of the candidate
	baseRequests, baseFailures int
}

func (s second) share() float64 { return float64(s.requests) / float64(s.requests+s.baseRequests) }

// moment is how the versions fare in a second: the chance of each request to fail,
// and failures that come on top, of clients who stay with one version.
type moment struct {
	candidate, baseline float64
	keyed, baseKeyed    int
	lost                float64 // part of the candidate's requests that are never answered
}

// weather makes the moments of one deployment. It may remember what was: bursts last.
type weather func(r *rand.Rand) func(at int) moment

// scenario is a kind of deployment.
type scenario struct {
	name    string
	rps     float64
	share   func(at, seconds int) float64 // of the candidate, in a deployment that is watched so long
	weather weather
	seconds int // how long it is watched
	// drawn is the share that gateways draw in a deployment, nil where they draw as they are told.
	drawn func(r *rand.Rand) func(at, seconds int) float64
	// What a request fails with when nothing special happens, for the bounds; zero where
	// there is no bound.
	candidate, baseline float64
	from                int // second in which the candidate turns bad

	deployments []deploy.Deployment // newest first, as share says; play fills them in
}

const (
	oldVersion = "11111111-1111-4111-8111-111111111111"
	newVersion = "22222222-2222-4222-8222-222222222222"
)

// start is the first second of a deployment.
var start = time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)

// deploymentsOf are those that give the versions their shares: the old version alone, then a
// person's, then the steps of a ramp.
func deploymentsOf(s *scenario) []deploy.Deployment {
	list := []deploy.Deployment{{CreatedOn: start.Add(-time.Hour), Versions: []deploy.Split{{VersionID: oldVersion, Percentage: deploy.Full}}}}
	now := 0.0
	for at := range s.seconds {
		if s.share(at, s.seconds) == now {
			continue
		}
		now = s.share(at, s.seconds)
		part := deploy.Percentage(math.Round(now * float64(deploy.Full)))
		d := deploy.Deployment{CreatedOn: start.Add(time.Duration(at) * time.Second), Versions: []deploy.Split{
			{VersionID: oldVersion, Percentage: deploy.Full - part}, {VersionID: newVersion, Percentage: part},
		}}
		if at > 0 {
			d.AuthorEmail = rollback.Author
		}
		list = slices.Insert(list, 0, d)
	}
	return list
}

// deployment plays one round of a scenario, second by second. The round's number is
// the seed: the same round is the same traffic for every method.
func (s *scenario) deployment(seed, round int) func() second {
	r := rand.New(rand.NewPCG(uint64(seed), uint64(round)))
	now := s.weather(r)
	drawn := s.share
	if s.drawn != nil {
		drawn = s.drawn(r)
	}
	at := 0
	return func() second {
		m := now(at)
		total := arrivals(r, s.rps)
		var x second
		x.requests = binomial(r, total, drawn(at, s.seconds))
		x.baseRequests = total - x.requests
		x.requests -= binomial(r, x.requests, m.lost)
		x.failures = min(x.requests, binomial(r, x.requests, m.candidate)+m.keyed)
		x.baseFailures = min(x.baseRequests, binomial(r, x.baseRequests, m.baseline)+m.baseKeyed)
		at++
		return x
	}
}

func constant(share float64) func(int, int) float64 { return func(int, int) float64 { return share } }

// ramp is 1, 5, 25 and 50 % for a quarter of the time each.
func ramp(at, seconds int) float64 {
	steps := []float64{0.01, 0.05, 0.25, 0.5}
	return steps[min(at*len(steps)/seconds, len(steps)-1)]
}

// byKeys draws each of so many clients once, by its affinity key. All send as much.
func byKeys(share float64, keys int) func(*rand.Rand) func(int, int) float64 {
	return func(r *rand.Rand) func(int, int) float64 {
		return constant(float64(binomial(r, keys, share)) / float64(keys))
	}
}

// halfLate is that half of the gateways hear of each split so many seconds later.
func halfLate(share func(int, int) float64, late int) func(*rand.Rand) func(int, int) float64 {
	return func(*rand.Rand) func(int, int) float64 {
		return func(at, seconds int) float64 { return (share(at, seconds) + share(max(at-late, 0), seconds)) / 2 }
	}
}

// steady is failures that know nothing of each other.
func steady(candidate, baseline float64) weather {
	return func(*rand.Rand) func(int) moment {
		return func(int) moment { return moment{candidate: candidate, baseline: baseline} }
	}
}

// losing answers only a part of what the candidate gets, as when it dies in between.
func losing(part float64) weather {
	return func(*rand.Rand) func(int) moment {
		return func(int) moment { return moment{lost: part} }
	}
}

// day lets the failures of both versions go up and down tenfold, in an hour instead of
// a day so that many of them are seen.
func day(candidate, baseline float64) weather {
	return func(r *rand.Rand) func(int) moment {
		phase := 2 * math.Pi * r.Float64()
		return func(at int) moment {
			f := math.Pow(10, 0.5*math.Sin(phase+2*math.Pi*float64(at)/3600))
			return moment{candidate: candidate * f, baseline: baseline * f}
		}
	}
}

// leak lets failures grow from one rate to another over some seconds.
func leak(candidateTo, baselineTo, start float64, over int) weather {
	return func(*rand.Rand) func(int) moment {
		return func(at int) moment {
			part := min(1, float64(at)/float64(over))
			return moment{candidate: start + part*(candidateTo-start), baseline: start + part*(baselineTo-start)}
		}
	}
}

// turning is good until a second, then bad.
func turning(candidate, baseline float64, from int) weather {
	return func(*rand.Rand) func(int) moment {
		return func(at int) moment {
			if at < from {
				return moment{candidate: baseline, baseline: baseline}
			}
			return moment{candidate: candidate, baseline: baseline}
		}
	}
}

// sharedBursts hit both versions at once, as when a database is away: a burst begins
// in one second of a hundred and lasts five.
func sharedBursts(candidate, baseline, strength float64) weather {
	return func(r *rand.Rand) func(int) moment {
		b := burst{every: 100, length: 5}
		return func(int) moment {
			if b.on(r) {
				return moment{candidate: strength, baseline: strength}
			}
			return moment{candidate: candidate, baseline: baseline}
		}
	}
}

// ownBursts hit one version at a time, as when a process of it restarts: each has them
// by itself, a burst in every so many seconds.
func ownBursts(candidate, baseline, strength float64, every, length int) weather {
	return func(r *rand.Rand) func(int) moment {
		c, b := burst{every: every, length: length}, burst{every: every, length: length}
		return func(int) moment {
			m := moment{candidate: candidate, baseline: baseline}
			if c.on(r) {
				m.candidate = strength
			}
			if b.on(r) {
				m.baseline = strength
			}
			return m
		}
	}
}

type burst struct{ every, length, left int }

func (b *burst) on(r *rand.Rand) bool {
	if b.left > 0 {
		b.left--
	} else if r.IntN(b.every) == 0 {
		b.left = b.length
	}
	return b.left > 0
}

// unlucky clients fail whichever version they are on, and stay on the one that their
// affinity key drew: one comes every so many seconds and fails once a second for a while.
func unlucky(p, share float64, every, length int) weather {
	return func(r *rand.Rand) func(int) moment {
		type client struct {
			candidate bool
			left      int
		}
		var clients []client
		return func(int) moment {
			if r.IntN(every) == 0 {
				clients = append(clients, client{r.Float64() < share, length})
			}
			m := moment{candidate: p, baseline: p}
			kept := clients[:0]
			for _, c := range clients {
				if c.candidate {
					m.keyed++
				} else {
					m.baseKeyed++
				}
				if c.left--; c.left > 0 {
					kept = append(kept, c)
				}
			}
			clients = kept
			return m
		}
	}
}
