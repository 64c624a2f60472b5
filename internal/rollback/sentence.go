package rollback

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// sentence is what was seen of a limit that was passed, and how likely that is if the
// limit is kept: the chance of all limits of the policy together, at any time. Where requests
// count by blocks it says how long these are, because so many requests would say more one by one.
func (m *measure) sentence(w sums, blocks time.Duration, since, now time.Time, chance float64) string {
	c, b := w.of[candidate], w.of[baseline]
	after := "after " + grouped(c.requests) + " requests"
	if m.kind == traffic { // what is missing of younger seconds may still come
		after = "after " + grouped(w.trials) + " settled requests of both versions"
	}
	if blocks > 0 {
		after += fmt.Sprintf(" in blocks of %d s", blocks/time.Second)
	}
	if !since.IsZero() {
		after += " since " + timeOfDay(since, now)
	}
	return fmt.Sprintf("%s: %s; chance of this %s: %s", after, m.seen(w, c, b), m.ifKept(), below(chance))
}

// timeOfDay is a time as a sentence of now gives it: with the date if that is another one.
func timeOfDay(at, now time.Time) string {
	at, now = at.UTC(), now.UTC()
	if at.Format(time.DateOnly) != now.Format(time.DateOnly) {
		return at.Format("2006-01-02 15:04:05 MST")
	}
	return at.Format("15:04:05 MST")
}

func (m *measure) seen(w sums, c, b tally) string {
	hits := m.hits(c, candidate) + " (" + percent(rate(c)) + ")"
	switch {
	case m.kind == traffic:
		return fmt.Sprintf("answered %s of about %s that its share promises (%s)",
			grouped(c.requests), grouped(w.promised), percent(c.requests/max(w.promised, 1)))
	case m.kind == relative && m.quantile == 0:
		return hits + " against " + percent(rate(b)) + " on the baseline"
	case m.kind == relative:
		return hits + " against " + percent(rate(b)) + " above " + m.edge(baseline) + " on the baseline"
	case m.quantile == 0:
		return hits + ", above the limit of " + percent(m.limit.Value)
	default:
		return hits + ", where a " + m.percentile() + " of " + milliseconds(m.limit.Value) + " allows " + percent(m.quantile)
	}
}

// hits says how many of a version's requests were what the limit is about.
func (m *measure) hits(t tally, version int) string {
	n := grouped(t.hits)
	switch {
	case m.quantile == 0 && n == "1":
		return "1 failure"
	case m.quantile == 0:
		return n + " failures"
	case m.cpu:
		return n + " used more than " + m.edge(version) + " of CPU time"
	default:
		return n + " took more than " + m.edge(version)
	}
}

// ifKept is the hypothesis that was tested.
func (m *measure) ifKept() string {
	times := strconv.FormatFloat(m.limit.Value, 'g', 4, 64)
	switch {
	case m.kind == traffic:
		return "if it answered at least " + percent(m.limit.Value) + " of them"
	case m.kind == relative && m.limit.Value == 1 && m.quantile == 0:
		return "if equally good"
	case m.kind == relative && m.limit.Value == 1:
		return "if equally fast"
	case m.kind == relative && m.quantile == 0:
		return "if it failed at most " + times + " times as often"
	case m.kind == relative:
		return "if its " + m.percentile() + " were at most " + times + " times the baseline's"
	default:
		return "if the limit were kept"
	}
}

func (m *measure) percentile() string { return "p" + strconv.Itoa(int(math.Round(100-100*m.quantile))) }

// edge is above what a version's requests are slow.
func (m *measure) edge(version int) string {
	return milliseconds(significant(schema.DurationEdge(m.above[version]), 3))
}

func milliseconds(ms float64) string { return strconv.FormatFloat(ms, 'f', -1, 64) + " ms" }

// counted is a sentence about versions that nothing speaks against.
func counted(of pair) string {
	c, b := of[candidate], of[baseline]
	text := fmt.Sprintf("%s in %s requests (%s)", plural(c.hits, "failure"), grouped(c.requests), percent(rate(c)))
	if b.requests > 0 {
		text += " against " + percent(rate(b)) + " on the baseline"
	}
	return text
}

func tooFew(requests float64, least int64) string {
	return fmt.Sprintf("%s of the %s requests that are needed", grouped(requests), grouped(float64(least)))
}

func tooFewBeside(requests float64, least int64) string {
	return fmt.Sprintf("the baseline had %s of the %s requests that comparing needs", grouped(requests), grouped(float64(least)))
}

// nothingBeside is about a baseline that gets no requests; others says that the policy has limits
// which do without.
func nothingBeside(others bool) string {
	why := "the baseline gets no requests in this deployment: a limit that compares cannot act"
	if !others {
		why += "; give both versions a share, or set max_failure_rate"
	}
	return why
}

// below rounds a chance up to one that is easily read: "below 1 in 1,000".
func below(chance float64) string {
	const most = 1e9
	if !(chance < 1) {
		return "1"
	}
	odds := most
	if chance > 1/most {
		odds = 1 / chance * (1 + 1e-9) // 1/0.001 is 999.9999999999999
	}
	digit := math.Pow(10, math.Floor(math.Log10(odds)))
	return "below 1 in " + grouped(math.Floor(odds/digit)*digit)
}

// percent writes a share with one decimal, a small one with two digits.
func percent(share float64) string {
	p := 100 * share
	if p >= 1 {
		p = math.Round(p*10) / 10
	} else {
		p = significant(p, 2)
	}
	return strconv.FormatFloat(p, 'f', -1, 64) + " %"
}

func significant(f float64, digits int) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'g', digits, 64), 64)
	return rounded
}

func plural(n float64, noun string) string {
	text := grouped(n) + " " + noun
	if math.Round(n) != 1 {
		text += "s"
	}
	return text
}

// grouped writes 5120 as "5,120".
func grouped(n float64) string {
	digits := strconv.FormatFloat(math.Round(finite(n)), 'f', 0, 64)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// short is how a sentence names a version: deployments carry no tags.
func short(versionID string) string {
	return versionID[:min(len(versionID), 8)]
}

// passedIts names a limit in the reason of a ramp.
func passedIts(version string, limit deploy.Metric) string {
	return fmt.Sprintf("%s passed its %s", short(version), limit)
}
