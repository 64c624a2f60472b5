package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"tidegate/internal/rollback/sequential"
)

// table writes one of Markdown: the first column is text, the others numbers.
type table struct{ to io.Writer }

func newTable(to io.Writer, head ...string) *table {
	t := &table{to}
	t.row(head...)
	t.row(append([]string{"---"}, strings.Split(strings.Repeat("--: ", len(head)-1), " ")[:len(head)-1]...)...)
	return t
}

func (t *table) row(cells ...string) { fmt.Fprintln(t.to, "| "+strings.Join(cells, " | ")+" |") }

// percent of rounds with its standard error, both with a digit that says something.
func percent(n, rounds int) string {
	p := float64(n) / float64(rounds)
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%.2f ± %.2f", 100*p, 100*math.Sqrt(p*(1-p)/float64(rounds)))
}

func digits(f float64) string {
	if math.IsInf(f, 0) || f >= math.MaxInt {
		return "never"
	}
	decimals := 0
	if f != math.Trunc(f) && f < 100 {
		decimals = 1
	}
	return strconv.FormatFloat(f, 'f', decimals, 64)
}

// seconds until a rollback: the median and the 90th percentile. What never came within
// the time is longer than it; what came before the version turned bad is "before".
func seconds(results []result, horizon int) string {
	at := collect(results, func(r result) int { return r.at })
	show := func(q float64) string {
		switch v := quantile(at, q); {
		case v == math.MaxInt:
			return "> " + strconv.Itoa(horizon)
		case v <= 0:
			return "before"
		default:
			return strconv.Itoa(v)
		}
	}
	return show(0.5) + " (" + show(0.9) + ")"
}

func median(results []result, f func(result) int) string {
	return strconv.Itoa(quantile(collect(results, f), 0.5))
}

func requestsOf(r result) int { return r.requests }
func failuresOf(r result) int { return r.failures }

// always makes a method that needs to know nothing of the scenario.
func always[M method](f func() M) maker { return func(*scenario) method { return f() } }

// peers are what ours is shown beside.
var peers = []maker{
	always(func() *window { return newFlagger(10) }),
	always(func() *window { return newFlagger(1) }),
	always(func() *window { return newArgo(3) }),
	always(func() *window { return newArgo(0) }),
	always(func() *zTest { return newZTest(alpha) }),
}

// levels at which good versions are watched. So many rounds as are affordable say little about
// the first: five of a scenario's 200 may be rolled back, and 14 of all 3,000, which are 2.5 and
// 0.5 percent. They say more about the second: there it may be 27 and 210, 13.5 and 7.0 percent.
var levels = []float64{alpha, 0.05}

// mistaken is the chance that a promise which is kept is said to be broken.
const mistaken = 1e-6

// promise holds good versions to a level: those of a scenario, so that no other one makes up
// for it, or of all together, of which fewer too many are noticed.
func (b *bench) promise(what string, n, rounds int, level float64) {
	if most := sequential.MostRejections(rounds, level, mistaken); n > most {
		b.broken = append(b.broken, breach{level, fmt.Sprintf("%s: %d of %d good versions rolled back at a promise of %g %%; the chance of more than %d is below %g",
			what, n, rounds, 100*level, most, mistaken)})
	}
}

// keeps reports whether no promise of a level is broken.
func (b *bench) keeps(level float64) bool {
	return !slices.ContainsFunc(b.broken, func(one breach) bool { return one.level == level })
}

// falseRollbacks shows good versions.
func (b *bench) falseRollbacks() {
	fmt.Fprintf(b.to, "Printed by `go run ./bench/rollback -rounds %d -seed %d`.\n\n### Good versions that are rolled back\n\n", b.rounds, b.seed)
	fmt.Fprintf(b.to, "Percent of %d deployments each, ± one standard error, of versions that are as good as the baseline (or better). "+
		"Each is looked at %d times, once a second. Ours promises 0.1 %% in the first column, and 5 %% in the second.\n\n", b.rounds, b.looks)
	methods := append([]maker{b.ours(levels[1])}, peers...)
	t := newTable(b.to, "Requests, split, failures", "Ours", "Ours at 5 %", "Flagger, 10 checks", "Flagger, 1 check", "Argo, limit 3", "Argo, limit 0", "z-test at 0.1 %")
	sums := make([]int, len(levels))
	for i := range good {
		s := good[i]
		s.seconds = b.looks
		results := play(&s, b.seed+i, b.rounds, methods)
		// Of the same evidence: what is rolled back at 0.1 % was rolled back at 5 % before.
		results = slices.Insert(results, 0, playStricter(&s, b.seed+i, results[0], b.ours(levels[0])))
		cells := []string{s.name}
		for j, r := range results {
			n := rolledBack(r)
			if j < len(levels) {
				sums[j] += n
				b.promise(s.name, n, b.rounds, levels[j])
			}
			cells = append(cells, percent(n, b.rounds))
		}
		t.row(cells...)
	}
	all := b.rounds * len(good)
	for j, level := range levels {
		b.promise("all scenarios", sums[j], all, level)
	}
	t.row("**all "+strconv.Itoa(all)+"**", percent(sums[0], all), percent(sums[1], all), "", "", "", "", "")
	for j, level := range levels {
		b.target(fmt.Sprintf("no more false rollbacks of independent failures seen than %g %%: %s %% of %d. The 95 %% interval ends at %.2f %%: fewer than that are not shown",
			100*level, percent(sums[j], all), all, 100*upperOfPoisson(sums[j])/float64(all)), float64(sums[j])/float64(all) <= level)
		b.target(fmt.Sprintf("at %g %% no more than %d of %d in any of these scenarios, and %d of %d in all: a kept promise exceeds either in one of %.0f cases at most",
			100*level, sequential.MostRejections(b.rounds, level, mistaken), b.rounds, sequential.MostRejections(all, level, mistaken), all, 1/mistaken), b.keeps(level))
	}
}

// upperOfPoisson is the largest mean with which so few events are still seen in one of
// forty cases (Wilson and Hilferty's approximation of the chi-squared quantile).
func upperOfPoisson(n int) float64 {
	k := float64(n + 1)
	return k * math.Pow(1-1/(9*k)+1.96/(3*math.Sqrt(k)), 3)
}

// correlatedFailures shows good versions whose failures hang together.
func (b *bench) correlatedFailures() {
	fmt.Fprintf(b.to, "\n### Good versions with failures that hang together\n\n")
	fmt.Fprintf(b.to, "As above, %d deployments each. Bursts hit one version alone, each version every 500 s. *Labels*, which does not ship, takes the share of a block's failures that are the "+
		"new version's for the evidence, where blocks take rates.\n\n", b.rounds)
	methods := []maker{
		b.ours(alpha),
		always(func() *byLabels { return &byLabels{test: sequential.New(alpha)} }),
		byBlocks(10),
		byBlocks(60),
		peers[0], peers[2], peers[4],
	}
	t := newTable(b.to, "Requests, split, failures", "Ours, requests", "Labels, 10 s", "Ours, blocks of 10 s", "Ours, blocks of 60 s", "Flagger, 10 checks", "Argo, limit 3", "z-test at 0.1 %")
	for i := range correlated {
		s := correlated[i]
		s.seconds = b.looks
		cells := []string{s.name}
		for _, r := range play(&s, b.seed+100+i, b.rounds, methods) {
			cells = append(cells, percent(rolledBack(r), b.rounds))
		}
		t.row(cells...)
	}
}

// detection shows bad versions.
func (b *bench) detection() {
	rounds := max(b.rounds/2, 1)
	methods := append([]maker{b.ours(alpha), byBlocks(10)}, peers...)
	names := []string{"Ours", "Ours, blocks of 10 s", "Flagger, 10 checks", "Flagger, 1 check", "Argo, limit 3", "Argo, limit 0", "z-test at 0.1 %"}
	all := make([][][]result, len(bad))
	for i := range bad {
		all[i] = play(&bad[i], b.seed+200+i, rounds, methods)
	}
	fmt.Fprintf(b.to, "\n### Bad versions: seconds until they are rolled back\n\n")
	fmt.Fprintf(b.to, "Median (90th percentile) of %d deployments. It takes about a second more until a response is counted and the next look is due. *Before* is a rollback while the version was still good.\n\n", rounds)
	t := newTable(b.to, append([]string{"Requests, split, failures"}, names...)...)
	for i := range bad {
		cells := []string{bad[i].name}
		for _, r := range all[i] {
			cells = append(cells, seconds(r, bad[i].seconds-bad[i].from))
		}
		t.row(cells...)
	}
	fmt.Fprintf(b.to, "\n### Bad versions: failed requests until they are rolled back\n\nMedian of the new version's, those of the hour where it never was.\n\n")
	t = newTable(b.to, append([]string{"Requests, split, failures"}, names...)...)
	for i := range bad {
		cells := []string{bad[i].name}
		for _, r := range all[i] {
			cells = append(cells, median(r, failuresOf))
		}
		t.row(cells...)
	}
	b.shippedEfficiency()
}

// shippedEfficiency compares what ships with the lower bounds, in the scenarios that have one.
func (b *bench) shippedEfficiency() {
	rounds := 10 * b.rounds
	fmt.Fprintf(b.to, "\n### Bad versions: requests until they are rolled back, over the least that any test needs\n\n"+
		"The new version's, median ± one standard error of %d deployments, over the least mean of any test: with both rates known, and with the baseline's unknown. "+
		"*A look* is how many of its requests come between two looks: nothing that looks once a second needs fewer.\n\n", rounds)
	t := newTable(b.to, "Requests, split, failures", "A look", "Requests", "Least, known", "Times", "Least, unknown", "Times")
	for i := range bad {
		s := &bad[i]
		if s.candidate == 0 {
			continue
		}
		r := play(s, b.seed+200+i, rounds, []maker{b.ours(alpha)})[0]
		m, deviation := medianAndError(collect(r, requestsOf))
		known, unknown, look := knownBound(s.candidate, s.baseline), unknownBound(s.candidate, s.baseline, s.share(0, hour)), s.rps*s.share(0, hour)
		times := func(bound float64) string { return fmt.Sprintf("%.2f ± %.2f", m/bound, deviation/bound) }
		t.row(s.name, digits(look), digits(m), digits(math.Ceil(known)), times(known), digits(math.Ceil(unknown)), times(unknown))
		goal, most := "tenfold", 1.5
		switch math.Round(s.candidate / s.baseline) {
		case 2:
			goal, most = "twofold", 2
		case 10:
		default:
			continue
		}
		// A test that is done between two looks is heard of at the next one. There is one a second.
		first := int(math.Ceil(most * known / look))
		at := quantile(collect(r, func(r result) int { return r.at }), 0.5)
		b.target(fmt.Sprintf("as it ships, %s, requests over the bound with both rates known, at most %g, or the first look after that, at %s: %s; in look %d, and %d is in time",
			goal, most, s.name, times(known), at, first), m/known <= most || at <= first)
	}
}

// medianAndError is the median and half of the distance of the two numbers that are one standard
// deviation of a binomial distribution around it in order, which is a standard error whatever the numbers are.
func medianAndError(numbers []int) (m, deviation float64) {
	half := 0.5 / math.Sqrt(float64(len(numbers)))
	return float64(quantile(numbers, 0.5)), float64(quantile(numbers, 0.5+half)-quantile(numbers, max(0, 0.5-half))) / 2
}

// efficiency compares request by request with the lower bounds.
func (b *bench) efficiency() {
	rounds := 20 * b.rounds
	fmt.Fprintf(b.to, "\n### The test alone: requests until a bad version is found, over the least that any test needs\n\n")
	fmt.Fprintf(b.to, "The test by itself, without units and seconds: the new version's requests, with a look after each: median (90th percentile) of %d trials, over the two lower bounds of the mean. "+
		"*Known*: Wald's sequential probability ratio test with both failure rates known. *Unknown*: any test that keeps its promise whatever the baseline's rate is. "+
		"The target is 1.5 times for tenfold, 2 times for twofold.\n\n", rounds)
	t := newTable(b.to, "Split, failures", "Median (90th)", "Least, known", "Times", "Least, unknown", "Times")
	met, of, worst := map[string]int{}, map[string]int{}, 0.0
	for _, c := range []struct{ baseline, factor float64 }{
		{0.0001, 10}, {0.001, 10}, {0.02, 10}, {0.0001, 2}, {0.001, 2}, {0.05, 2}, {0.2, 2},
	} {
		for i, share := range []float64{0.01, 0.05, 0.1, 0.25, 0.5} {
			candidate := c.baseline * c.factor
			until := make([]float64, rounds)
			parallel(rounds, func(round int) {
				r := rand.New(rand.NewPCG(uint64(b.seed+300+i), uint64(round)))
				until[round] = requestsUntil(r, candidate, c.baseline, share)
			})
			m := quantile(until, 0.5)
			known, unknown := knownBound(candidate, c.baseline), unknownBound(candidate, c.baseline, share)
			name := fmt.Sprintf("%g %%, %g → %g %%", 100*share, 100*c.baseline, 100*candidate)
			t.row(name, fmt.Sprintf("%.0f (%.0f)", m, quantile(until, 0.9)),
				fmt.Sprintf("%.0f", known), fmt.Sprintf("%.2f", m/known), fmt.Sprintf("%.0f", unknown), fmt.Sprintf("%.2f", m/unknown))
			goal := "tenfold"
			most := 1.5
			if c.factor == 2 {
				goal, most = "twofold", 2
			}
			goal = "the test alone, " + goal + fmt.Sprintf(", requests over the bound with both rates known, at most %g", most)
			of[goal]++
			switch {
			case m/known <= most:
				met[goal]++
			case unknown/known > most:
				b.target(fmt.Sprintf("%s, at %s: %.2f. No test can that does not know the baseline's rate, for which the bound is %.2f; ours is %.2f times that one",
					goal, name, m/known, unknown/known, m/unknown), false)
			default:
				b.target(fmt.Sprintf("%s, at %s: %.2f; the bound with the baseline unknown is %.2f", goal, name, m/known, unknown/known), false)
			}
			worst = max(worst, m/unknown)
		}
	}
	for _, goal := range slices.Sorted(maps.Keys(of)) {
		b.target(fmt.Sprintf("%s: in %d of %d cases", goal, met[goal], of[goal]), met[goal] == of[goal])
	}
	b.targets = append(b.targets, fmt.Sprintf("- the most over the bound with the baseline unknown: %.2f", worst))
}

// otherLimits shows the other tests, alone and at the same level.
func (b *bench) otherLimits() {
	rounds := max(b.rounds/2, 1)
	fmt.Fprintf(b.to, "\n### Other limits\n\n%d deployments each at %d requests/s and a split of %g %%, an hour.\n\n", rounds, limitedRate, 100*limitedShare)
	t := newTable(b.to, "Limit, and what is true", "Rolled back, %", "Seconds until then", "Requests", "Least, known")
	for i := range limits {
		l := &limits[i]
		r := play(&l.scenario, b.seed+400+i, rounds, []maker{l.method})[0]
		cells := []string{l.name, percent(rolledBack(r), rounds), "", "", ""}
		if l.keeps {
			b.promise(l.name, rolledBack(r), rounds, alpha)
		} else {
			cells[2], cells[3] = seconds(r, l.seconds), median(r, requestsOf)
		}
		if l.candidate > 0 {
			cells[4] = digits(math.Ceil(knownBound(l.candidate, l.baseline)))
		}
		t.row(cells...)
	}
}
