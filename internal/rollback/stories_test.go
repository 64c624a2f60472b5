package rollback

import (
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// goldenStory is played by TestGoldenDecisions, into a file of its own.
type goldenStory struct {
	story  string
	policy deploy.RollbackPolicy
	play   func(w *storedWorld)
}

// goldenStories are at 100 requests/s.
var goldenStories = map[string]goldenStory{
	"failure-ratio": {
		"A tenth of the traffic gets v2, which fails ten times as often as v1.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"failure-ratio-above-one": {
		"v2 may fail three times as often as v1, and fails ten times as often, by two percentage points and more.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio, p.MinFailureDifference = new(3.0), new(0.02) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"failure-rate": {
		"2 % of the requests may fail; 10 % of those of v2 do, and none of those of v1.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"failure-rate-of-both": {
		"2 % of the requests may fail; 3 % of those of v1 do, too, and a third of those of v2, which is worse for sure.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.fails(v1, 0.03)
			w.fails(v2, 0.33)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"wall-time": {
		"1 % of the requests may take longer than half a second; 10 % of those of v2 take a whole one.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxP99WallMs = new(500.0) }),
		func(w *storedWorld) {
			w.shape = slowly(func(b *schema.RateBlock) *schema.Durations { return &b.Wall }, 40, 1000)
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"wall-time-ratio": {
		"The median of v2 may be half as long again as that of v1, and is three times as long.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxP50WallRatio = new(1.5) }),
		func(w *storedWorld) {
			w.shape = func(version string, b *schema.RateBlock) {
				times := 1.0
				if version == v2 {
					times = 3
				}
				half, rest := b.Requests/2, b.Requests-b.Requests/2
				b.Wall = schema.Durations{schema.DurationBucket(40 * times): half, schema.DurationBucket(60 * times): rest}
			}
			w.deploy(split{v1: 70, v2: 30})
			w.steps(time.Minute)
		},
	},
	"cpu-time": {
		"1 % of the requests may use more than 50 ms of CPU time; 10 % of those of v2 use 200 ms.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxP99CPUMs = new(50.0) }),
		func(w *storedWorld) {
			w.shape = slowly(func(b *schema.RateBlock) *schema.Durations { return &b.CPU }, 5, 200)
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"traffic": {
		"v2 answers half of the requests that its share promises: the others end before it can say anything.",
		watching(func(p *deploy.RollbackPolicy) { p.MinTrafficRatio = new(0.9) }),
		func(w *storedWorld) {
			w.shape = func(version string, b *schema.RateBlock) {
				if version == v2 {
					b.Requests /= 2
				}
			}
			w.deploy(split{v1: 80, v2: 20})
			w.steps(150 * time.Second)
		},
	},
	"blocks": {
		"All requests of v2 fail for two seconds of each ten. Such failures hang together, so each ten seconds count once.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Evidence = new(0.02), deploy.EvidenceBlocks
		}),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.shape = func(version string, b *schema.RateBlock) {
				if version == v2 && b.Time.Unix()%10 < 2 {
					b.Failures, b.Status5xx = b.Requests, b.Requests
				}
			}
			w.steps(90 * time.Second)
		},
	},
	"several-limits": {
		"Of three limits v2 passes two. The one with the most evidence decides.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.MaxFailureRatio, p.MaxP99WallMs = new(0.02), new(1.0), new(500.0)
		}),
		func(w *storedWorld) {
			w.shape = func(_ string, b *schema.RateBlock) { b.Wall = schema.Durations{schema.DurationBucket(40): b.Requests} }
			w.fails(v1, 0.001)
			w.fails(v2, 0.2)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"turned-bad": {
		"v2 is good for ten minutes beside v1, and then a fifth of its requests fail.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.01)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(10 * time.Minute)
			w.fails(v2, 0.2)
			w.steps(30 * time.Second)
		},
	},
	"full-share": {
		"v2 has had all traffic for six minutes when a tenth of it fails. v1 does not serve any more: what it did before is compared.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.steps(2 * time.Minute)
			w.deploy(split{v2: 100})
			w.steps(6 * time.Minute)
			w.fails(v2, 0.1)
			w.steps(30 * time.Second)
		},
	},
	"earlier-version-worse": {
		"Both versions fail more often than the policy allows, v2 no more than v1: nothing moves.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.fails(v1, 0.12)
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"earlier-version-silent": {
		"Nobody asked for v1 in its last five minutes, so nobody knows that it is better. It was good enough for all traffic once, and is put back.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.shape = func(version string, b *schema.RateBlock) {
				if version == v1 {
					b.Requests = 0
				}
			}
			w.fails(v2, 0.1)
			w.deploy(split{v2: 100})
			w.steps(time.Minute)
		},
	},
	"earlier-version-little-known": {
		"v1 had a request a minute, one of which failed in its last five minutes: little is known of it.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.shape = func(version string, b *schema.RateBlock) {
				if version == v1 {
					b.Requests = once(b.Time, time.Minute)
					b.Failures = once(b.Time, 5*time.Minute)
				}
			}
			w.fails(v2, 0.1)
			w.deploy(split{v2: 100})
			w.steps(time.Minute)
		},
	},
	"earlier-version-unknown": {
		"The deployment in which v2 had all traffic was deleted while nothing watched. v1 is older than that, and nobody knows whether v3 is worse than it: nothing goes back.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100)
		}),
		func(w *storedWorld) {
			w.deploy(split{v2: 100})
			w.steps(2 * time.Minute)
			w.deploy(split{v2: 90, v3: 10})
			w.steps(10 * time.Second)
			w.deleteBefore()
			w.steps(10 * time.Second)
			w.fails(v3, 0.5)
			w.steps(2 * time.Minute)
		},
	},
	"no-earlier-version": {
		"Two versions share the traffic from the first day on: there is none to go back to.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.deploy(split{v1: 50, v2: 50})
			w.deleteBefore()
			w.fails(v2, 0.5)
			w.steps(time.Minute)
		},
	},
	"refused": {
		"v3 has brought a class of Durable Objects, which v1 does not implement. It cannot be put back.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.upload(v3, deploy.Upload{
				Version: deploy.Version{Worker: &deploy.Worker{
					MainModule: "index.js", CompatibilityDate: "2026-11-01",
					Exports: deploy.Exports{Named: []deploy.NamedExport{{Name: "Cart", Kind: deploy.ExportDurableObject}}},
				}},
				Deploy:     true,
				Migrations: &deploy.Migrations{NewTag: "v1", Steps: []deploy.MigrationStep{{NewSQLiteClasses: []string{"Cart"}}}},
			})
			w.fails(v3, 0.1)
			w.steps(time.Minute)
		},
	},
	"notify": {
		"The policy only tells: v2 stays, and one message goes out.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate, p.Action = new(0.02), deploy.ActionNotify }),
		func(w *storedWorld) {
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"pause": {
		"The policy holds the ramp of v2 where it is.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Action, p.Ramp = new(0.02), deploy.ActionPause, ramped(10, 50, 100)
		}),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(90 * time.Second)
			w.fails(v2, 0.1)
			w.steps(2 * time.Minute)
		},
	},
	"pause-without-ramp": {
		"The policy holds ramps, and none is running.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate, p.Action = new(0.02), deploy.ActionPause }),
		func(w *storedWorld) {
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(time.Minute)
		},
	},
	"ramp": {
		"v2 fails as often as v1. It goes on once it is proven that it does not fail three times as often, and has all traffic in the end.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRatio, p.Ramp = new(3.0), ramped(10, 50, 100)
			p.Ramp[0].Gate = deploy.GateProven
		}),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.01)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(6 * time.Minute)
		},
	},
	"ramp-rolled-back": {
		"v2 turns bad at the second step of its ramp.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio, p.Ramp = new(1.0), ramped(10, 50, 100) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.01)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(90 * time.Second)
			w.fails(v2, 0.3)
			w.steps(2 * time.Minute)
		},
	},
	"ramp-held-by-person": {
		"Ann holds the ramp; when v2 fails, it is rolled back all the same.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 50, 100) }),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(30 * time.Second)
			w.control(deploy.RampPause)
			w.steps(2 * time.Minute)
			w.fails(v2, 0.5)
			w.steps(2 * time.Minute)
		},
	},
	"outage": {
		"The rates cannot be read for two minutes. That says nothing of v2, and moves nothing.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100) }),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(30 * time.Second)
			w.ratesDown = true
			w.steps(2 * time.Minute)
			w.ratesDown = false
			w.steps(30 * time.Second)
		},
	},
	"outage-pauses-ramp": {
		"The rates cannot be read for six minutes. Nobody has watched v2 meanwhile, so a person is to say when its ramp goes on.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100) }),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(30 * time.Second)
			w.ratesDown = true
			w.steps(6 * time.Minute)
			w.ratesDown = false
			w.steps(time.Minute)
		},
	},
	"silence-pauses-ramp": {
		"The rates can be read, and there are no requests any more.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100)
			p.Ramp[0].BakeSeconds = 1800
		}),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(3 * time.Minute)
			end := w.now()
			w.shape = func(_ string, b *schema.RateBlock) {
				if !b.Time.Before(end) {
					b.Requests = 0
				}
			}
			w.steps(6 * time.Minute)
		},
	},
	"freeze": {
		"The ramp of v2 waits for the end of a freeze.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100)
			p.Freeze = []deploy.FreezeWindow{{From: epoch.Add(-time.Hour), Until: epoch.Add(24 * time.Hour), Reason: "Black Friday"}}
		}),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(2 * time.Minute)
		},
	},
	"freeze-rolled-back": {
		"A rollback waits for no freeze.",
		watching(func(p *deploy.RollbackPolicy) {
			p.MaxFailureRate, p.Ramp = new(0.02), ramped(10, 100)
			p.Freeze = []deploy.FreezeWindow{{From: epoch.Add(-time.Hour), Until: epoch.Add(24 * time.Hour), Reason: "Black Friday"}}
		}),
		func(w *storedWorld) {
			w.deploy(split{v1: 90, v2: 10})
			w.steps(90 * time.Second)
			w.fails(v2, 0.3)
			w.steps(90 * time.Second)
		},
	},
	"too-few-requests": {
		"v2 fails with every request, of which it has had twelve. That is too few for any verdict.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.requestsPerSecond = 1
			w.fails(v2, 1)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(2 * time.Minute)
		},
	},
	"good": {
		"v2 is as good as v1: there is nothing to decide.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }),
		func(w *storedWorld) {
			w.fails(v1, 0.01)
			w.fails(v2, 0.01)
			w.deploy(split{v1: 90, v2: 10})
			w.steps(4 * time.Minute)
		},
	},
	"nothing-to-compare": {
		"v2 took the place of v1 at once, under a policy that only compares. Ever since nothing can be said of it.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRatio = new(1.0) }),
		func(w *storedWorld) {
			w.fails(v2, 0.5)
			w.deploy(split{v2: 100})
			w.steps(time.Minute)
		},
	},
	"person-was-faster": {
		"v2 fails; but while that is judged Ann deploys v3. What was decided of v2 is not done.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.fails(v2, 0.1)
			w.deploy(split{v1: 90, v2: 10})
			w.meanwhile = func() { w.deploy(split{v1: 90, v3: 10}) }
			w.steps(time.Minute)
		},
	},
	"put-back-without-trial": {
		"v2 has had all traffic for a minute when v3 takes its place and fails. v2 is put back, and nothing judges it.",
		watching(func(p *deploy.RollbackPolicy) { p.MaxFailureRate = new(0.02) }),
		func(w *storedWorld) {
			w.deploy(split{v2: 100})
			w.steps(time.Minute)
			w.deploy(split{v3: 100})
			w.fails(v3, 0.3)
			w.steps(time.Minute)
		},
	},
}

// watching is a policy as people make one: with what they set, and defaults.
func watching(set func(p *deploy.RollbackPolicy)) deploy.RollbackPolicy {
	p := deploy.DefaultPolicy()
	p.Enabled = true
	set(&p)
	return p
}

// ramped are steps of a minute.
func ramped(percentages ...int) []deploy.RampStep {
	var steps []deploy.RampStep
	for _, percentage := range percentages {
		steps = append(steps, deploy.RampStep{Percentage: deploy.Percentage(percentage) * 1000, BakeSeconds: 60})
	}
	return steps
}

// slowly makes what would fail slow, and the rest fast: milliseconds.
func slowly(of func(b *schema.RateBlock) *schema.Durations, fast, slow float64) func(string, *schema.RateBlock) {
	return func(_ string, b *schema.RateBlock) {
		*of(b) = schema.Durations{schema.DurationBucket(fast): b.Requests - b.Failures, schema.DurationBucket(slow): b.Failures}
		b.Failures, b.Status5xx = 0, 0
	}
}

// once is 1 in the first second of each period, and otherwise 0.
func once(at time.Time, period time.Duration) int64 {
	if at.Equal(at.Truncate(period)) {
		return 1
	}
	return 0
}
