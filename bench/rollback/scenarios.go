package main

import "tidegate/internal/deploy"

// looks is how often a good version is looked at: after each second.
const looks = 10_000

// hour is how long a bad version has to be found.
const hour = 3600

// good versions, whose failures are independent: the promise holds.
var good = []scenario{
	{name: "1/s, 50 %, fails 20 %", rps: 1, share: constant(0.5), weather: steady(0.2, 0.2)},
	{name: "10/s, 10 %, fails 1 %", rps: 10, share: constant(0.1), weather: steady(0.01, 0.01)},
	{name: "100/s, 1 %, fails 0.1 %", rps: 100, share: constant(0.01), weather: steady(0.001, 0.001)},
	{name: "100/s, 10 %, fails 5 %", rps: 100, share: constant(0.1), weather: steady(0.05, 0.05)},
	{name: "1,000/s, 10 %, fails 0.1 %", rps: 1000, share: constant(0.1), weather: steady(0.001, 0.001)},
	{name: "1,000/s, 50 %, fails 1 %", rps: 1000, share: constant(0.5), weather: steady(0.01, 0.01)},
	{name: "10,000/s, 5 %, fails 0.01 %", rps: 10_000, share: constant(0.05), weather: steady(0.0001, 0.0001)},
	{name: "10,000/s, 25 %, fails 20 %", rps: 10_000, share: constant(0.25), weather: steady(0.2, 0.2)},
	{name: "500/s, ramp 1 → 50 %, fails 0.5 %", rps: 500, share: ramp, weather: steady(0.005, 0.005)},
	{name: "500/s, 10 %, bursts of both, 60 %", rps: 500, share: constant(0.1), weather: sharedBursts(0.002, 0.002, 0.6)},
	{name: "500/s, 10 %, up and down tenfold with the day", rps: 500, share: constant(0.1), weather: day(0.01, 0.01)},
	{name: "100/s, 10 %, both leak, 0.1 → 5 %", rps: 100, share: constant(0.1), weather: leak(0.05, 0.05, 0.001, looks)},
	{name: "100/s, 10 %, a fifth better", rps: 100, share: constant(0.1), weather: steady(0.008, 0.01)},
	{name: "10/s, 10 % of 1,000 keys, fails 1 %", rps: 10, share: constant(0.1), drawn: byKeys(0.1, 1000), weather: steady(0.01, 0.01)},
	{name: "20/s, ramp, half of the gateways a minute late, bursts of both, 60 %", rps: 20, share: ramp, drawn: halfLate(ramp, 60), weather: sharedBursts(0.002, 0.002, 0.6)},
}

// correlated are good versions, too, but the failures of one version, or of one client,
// hang together.
var correlated = []scenario{
	{name: "100/s, 10 %, bursts of 5 s at 5 %", rps: 100, share: constant(0.1), weather: ownBursts(0.002, 0.002, 0.05, 500, 5)},
	{name: "100/s, 10 %, bursts of 5 s at 20 %", rps: 100, share: constant(0.1), weather: ownBursts(0.002, 0.002, 0.2, 500, 5)},
	{name: "100/s, 10 %, bursts of 5 s at 60 %", rps: 100, share: constant(0.1), weather: ownBursts(0.002, 0.002, 0.6, 500, 5)},
	{name: "100/s, 50 %, bursts of 5 s at 60 %", rps: 100, share: constant(0.5), weather: ownBursts(0.002, 0.002, 0.6, 500, 5)},
	{name: "100/s, 10 %, bursts of 1 s at 60 %", rps: 100, share: constant(0.1), weather: ownBursts(0.002, 0.002, 0.6, 500, 1)},
	{name: "100/s, 10 %, clients who fail 3 times", rps: 100, share: constant(0.1), weather: unlucky(0.001, 0.1, 20, 3)},
	{name: "100/s, 10 %, clients who fail 30 times", rps: 100, share: constant(0.1), weather: unlucky(0.001, 0.1, 200, 30)},
}

// bad versions.
var bad = []scenario{
	worse("1/s, 50 %, 1 → 20 %", 1, 0.5, 0.2, 0.01),
	worse("10/s, 10 %, 1 → 10 %", 10, 0.1, 0.1, 0.01),
	worse("100/s, 10 %, 0.1 → 1 %", 100, 0.1, 0.01, 0.001),
	worse("100/s, 10 %, 1 → 2 %", 100, 0.1, 0.02, 0.01),
	worse("500/s, 10 %, 0.5 → 5 %", 500, 0.1, 0.05, 0.005),
	worse("500/s, 10 %, 0.5 → 50 %", 500, 0.1, 0.5, 0.005),
	worse("1,000/s, 1 %, 0.1 → 1 %", 1000, 0.01, 0.01, 0.001),
	worse("1,000/s, 10 %, 0.1 → 0.2 %", 1000, 0.1, 0.002, 0.001),
	worse("10,000/s, 1 %, 0.01 → 0.1 %", 10_000, 0.01, 0.001, 0.0001),
	worse("10,000/s, 10 %, 0.01 → 0.02 %", 10_000, 0.1, 0.0002, 0.0001),
	worse("10,000/s, 50 %, 20 → 40 %", 10_000, 0.5, 0.4, 0.2),
	{name: "500/s, ramp 1 → 50 % in an hour, 0.5 → 1.5 %", rps: 500, share: ramp, weather: steady(0.015, 0.005), seconds: hour},
	{name: "500/s, 10 %, bursts of both, 0.2 → 2 %", rps: 500, share: constant(0.1), weather: sharedBursts(0.02, 0.002, 0.6), seconds: hour},
	{name: "100/s, 10 %, bursts of its own, 0.2 → 2 %", rps: 100, share: constant(0.1), weather: ownBursts(0.02, 0.002, 0.2, 500, 5), seconds: hour},
	{name: "500/s, 10 %, with the day, 1 → 5 %", rps: 500, share: constant(0.1), weather: day(0.05, 0.01), seconds: hour},
	{name: "100/s, 10 %, leaks 0.5 → 20 % in an hour", rps: 100, share: constant(0.1), weather: leak(0.2, 0.005, 0.005, hour), seconds: hour},
	{name: "100/s, 10 %, good for an hour, then 1 → 10 %", rps: 100, share: constant(0.1), weather: turning(0.1, 0.01, hour), seconds: 2 * hour, from: hour},
}

func worse(name string, rps, share, candidate, baseline float64) scenario {
	return scenario{
		name: name, rps: rps, share: constant(share), weather: steady(candidate, baseline), seconds: hour,
		candidate: candidate, baseline: baseline,
	}
}

// limited is a scenario of another limit than the ratio of failures.
type limited struct {
	scenario
	method maker
	keeps  bool // the limit, at its very border
}

// limitMs is the limit of a quantile: what is slower takes twice as long.
const limitMs = 512

func maxRate(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }
func maxP99(p *deploy.RollbackPolicy)  { p.MaxP99WallMs = new(float64(limitMs)) }

var limits = []limited{
	limit("max_failure_rate 2 %, fails 2 %", 0.02, 0.02, maxRate),
	limit("max_failure_rate 2 %, fails 4 %", 0.04, 0.02, maxRate),
	limit("max_failure_rate 2 %, fails 20 %", 0.2, 0.02, maxRate),
	limit("max_p99_wall_ms, 1 % are slower", 0.01, 0.01, maxP99),
	limit("max_p99_wall_ms, 2 % are slower", 0.02, 0.01, maxP99),
	limit("max_p99_wall_ms, 5 % are slower", 0.05, 0.01, maxP99),
	traffic("min_traffic_ratio 0.9, a tenth is missing", 0.9),
	traffic("min_traffic_ratio 0.9, a third is missing", 0.67),
	traffic("min_traffic_ratio 0.9, all is missing", 0),
}

// The other limits are shown at 100 requests a second and 10 %.
const limitedRate, limitedShare = 100, 0.1

// limit is of a share q of the candidate's own requests: of failures, or of slow ones.
func limit(name string, share, q float64, set func(p *deploy.RollbackPolicy)) limited {
	l := limited{keeps: share <= q, method: shipped(set)}
	l.scenario = scenario{name: name, rps: limitedRate, share: constant(limitedShare), weather: steady(share, 0), seconds: hour}
	if !l.keeps {
		l.candidate, l.baseline = share, q
	}
	return l
}

func traffic(name string, answered float64) limited {
	const least = 0.9
	l := limited{keeps: answered >= least, method: shipped(func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(least) })}
	l.scenario = scenario{name: name, rps: limitedRate, share: constant(limitedShare), weather: losing(1 - answered), seconds: hour}
	return l
}
