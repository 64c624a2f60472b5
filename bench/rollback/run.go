package main

import (
	"math"
	"runtime"
	"slices"
	"sync"
)

// result is how one deployment ended for one method.
type result struct {
	at       int // seconds until it rolled back, math.MaxInt if never
	requests int // of the candidate until then
	failures int // of the candidate until then
}

// play plays rounds of a scenario and returns the results of each method. What comes
// out does not depend on how many processors there are.
func play(s *scenario, seed, rounds int, methods []maker) [][]result {
	s.deployments = deploymentsOf(s)
	out := make([][]result, len(methods))
	for i := range out {
		out[i] = make([]result, rounds)
	}
	parallel(rounds, func(round int) {
		for i, r := range playOne(s, seed, round, methods) {
			out[i][round] = r
		}
	})
	return out
}

// playStricter plays again the rounds that a method has rolled back, with one that rolls back
// nothing that the other does not, by as much evidence as it takes. The rest need not be played.
func playStricter(s *scenario, seed int, lax []result, stricter maker) []result {
	out := make([]result, len(lax))
	parallel(len(lax), func(round int) {
		if out[round] = lax[round]; lax[round].at < math.MaxInt {
			out[round] = playOne(s, seed, round, []maker{stricter})[0]
		}
	})
	return out
}

// playOne shows one deployment to all methods, until each has rolled back or time is up.
// What happens before the candidate turns bad is not counted as suffered.
func playOne(s *scenario, seed, round int, methods []maker) []result {
	watching := make([]method, len(methods))
	results := make([]result, len(methods))
	for i, m := range methods {
		watching[i] = m(s)
		results[i].at = math.MaxInt
	}
	next, left := s.deployment(seed, round), len(methods)
	var seen result
	for at := 1; at <= s.seconds && left > 0; at++ {
		x := next()
		if at > s.from {
			seen.requests += x.requests
			seen.failures += x.failures
		}
		for i, m := range watching {
			if m == nil {
				continue
			}
			if m.observe(x) {
				results[i] = result{at - s.from, seen.requests, seen.failures}
				watching[i] = nil
				left--
			}
		}
	}
	for i := range results {
		if results[i].at == math.MaxInt {
			results[i].requests, results[i].failures = seen.requests, seen.failures
		}
	}
	return results
}

// parallel calls f with 0 to n-1 on as many goroutines as there are processors.
func parallel(n int, f func(int)) {
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n; i += workers {
				f(i)
			}
		})
	}
	wait.Wait()
}

// quantile of numbers, the higher neighbour where it falls between two.
func quantile[T int | float64](numbers []T, q float64) T {
	sorted := slices.Sorted(slices.Values(numbers))
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func rolledBack(results []result) (n int) {
	for _, r := range results {
		if r.at < math.MaxInt {
			n++
		}
	}
	return n
}

func collect(results []result, f func(result) int) []int {
	out := make([]int, len(results))
	for i, r := range results {
		out[i] = f(r)
	}
	return out
}
