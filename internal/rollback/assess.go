package rollback

import (
	"fmt"
	"strconv"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// Limit names the member of a policy that a version passed.
type Limit string

const (
	LimitFailureRate  Limit = "max_failure_rate"
	LimitFailureRatio Limit = "max_failure_ratio"
)

// ratioFailuresMin is how many failures a version must have before a ratio counts
// against it: below five, the expected count that the classical tests of
// frequencies ask for, one unlucky request is a large ratio.
const ratioFailuresMin = 5

// Assessment is what the numbers of one window say about a version.
type Assessment struct {
	Verdict deploy.Verdict
	Numbers deploy.Numbers
	Limit   Limit // which limit was passed; empty unless Verdict is fail
	// Sentence gives the evidence without naming the version or what was done:
	// "412 of 5 120 requests failed (8.05 % > 2 %)".
	Sentence string
}

// Assess compares a version with the limits of a policy. It is pure. Nil rows are
// versions without an event in the window; both rows must cover the same window,
// because a ratio between two times would blame a version for the weather.
//
// Only assigned requests count: overrides and preview hosts are not a random
// sample. Below policy.MinRequests (at least one) of the candidate the verdict is
// inconclusive. After that:
//
//   - max_failure_rate is passed when failures/requests is above it, and fails the
//     candidate whatever the baseline does;
//   - max_failure_ratio is passed when the candidate's rate is above ratio times the
//     baseline's. A baseline without failures counts as having one, the least it
//     could have shown, so that 0 -> 1 failures is no jump and nothing is divided by
//     zero. A baseline below MinRequests, and a ratio made of fewer than
//     ratioFailuresMin failures, is inconclusive.
//
// Rates that could not be had are not its business: the controller gives the
// verdict error itself.
func Assess(policy deploy.RollbackPolicy, candidate, baseline *schema.VersionRate) Assessment {
	a := Assessment{Numbers: numbersOf(candidate, baseline)}
	least := requestsMin(policy)
	if requests := assigned(candidate); requests < least {
		a.Verdict = deploy.VerdictInconclusive
		a.Sentence = fmt.Sprintf("%s of the %s requests that are needed", grouped(requests), grouped(least))
		return a
	}
	rate := float64(candidate.AssignedFailures) / float64(candidate.Assigned)
	a.Sentence = rateSentence(candidate, rate, policy.MaxFailureRate)
	if limit := policy.MaxFailureRate; limit != nil && rate > *limit {
		return a.fail(LimitFailureRate, *limit)
	}
	if policy.MaxFailureRatio == nil {
		a.Verdict = deploy.VerdictPass
		return a
	}
	if requests := assigned(baseline); requests < least {
		a.Verdict = deploy.VerdictInconclusive
		a.Sentence += fmt.Sprintf(", but the baseline had %s of the %s requests that a ratio needs", grouped(requests), grouped(least))
		return a
	}
	limit := *policy.MaxFailureRatio
	// Products before the one division: 0.07/0.01 is above 7 in floating point.
	ratio := float64(candidate.AssignedFailures) * float64(baseline.Assigned) /
		(float64(max(baseline.AssignedFailures, 1)) * float64(candidate.Assigned))
	a.Sentence += ratioSentence(baseline, ratio, limit)
	switch {
	case ratio <= limit:
		a.Verdict = deploy.VerdictPass
	case candidate.AssignedFailures < ratioFailuresMin:
		a.Verdict = deploy.VerdictInconclusive
		a.Sentence += fmt.Sprintf(", but fewer than %d failures make no ratio", ratioFailuresMin)
	default:
		return a.fail(LimitFailureRatio, limit)
	}
	return a
}

func (a Assessment) fail(limit Limit, value float64) Assessment {
	a.Verdict, a.Limit, a.Numbers.Limit = deploy.VerdictFail, limit, &value
	return a
}

// requestsMin is how many requests of a version it takes to say anything about it.
func requestsMin(policy deploy.RollbackPolicy) int64 { return max(policy.MinRequests, 1) }

func numbersOf(candidate, baseline *schema.VersionRate) deploy.Numbers {
	var n deploy.Numbers
	n.Requests, n.Failures, n.FailureRate = counts(candidate)
	n.BaselineRequests, n.BaselineFailures, n.BaselineRate = counts(baseline)
	return n
}

// counts leaves unknown what a row does not tell: a rate needs a request.
func counts(row *schema.VersionRate) (requests, failures *int64, rate *float64) {
	if row == nil {
		return nil, nil, nil
	}
	if row.Assigned > 0 {
		rate = new(float64(row.AssignedFailures) / float64(row.Assigned))
	}
	return new(row.Assigned), new(row.AssignedFailures), rate
}

func assigned(row *schema.VersionRate) int64 {
	if row == nil {
		return 0
	}
	return row.Assigned
}

func rateSentence(row *schema.VersionRate, rate float64, limit *float64) string {
	if limit == nil {
		return failed(row) + " (" + decimal(100*rate, 2) + " %)"
	}
	left, sign, right := compared(100*rate, 100**limit)
	return failed(row) + " (" + left + " % " + sign + " " + right + " %)"
}

func ratioSentence(baseline *schema.VersionRate, ratio, limit float64) string {
	left, sign, right := compared(ratio, limit)
	note := ""
	if baseline.AssignedFailures == 0 {
		note = ", counted as 1"
	}
	return fmt.Sprintf(", %s %s %s times the rate of %s (%s of %s%s)", left, sign, right,
		short(baseline.VersionID), grouped(baseline.AssignedFailures), grouped(baseline.Assigned), note)
}

func failed(row *schema.VersionRate) string {
	return grouped(row.AssignedFailures) + " of " + grouped(row.Assigned) + " requests failed"
}

// compared writes two numbers with as many decimals, two at least, as it takes to
// show which is greater: nobody believes "2 % > 2 %".
func compared(a, b float64) (left, sign, right string) {
	sign = "≤"
	if a > b {
		sign = ">"
	}
	for decimals := 2; decimals <= 12; decimals++ {
		left, right = decimal(a, decimals), decimal(b, decimals)
		if left != right || a == b {
			break
		}
	}
	return left, sign, right
}

func decimal(f float64, decimals int) string {
	s := strconv.FormatFloat(f, 'f', decimals, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// grouped writes 5120 as "5 120".
func grouped(n int64) string {
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(d)
	}
	return b.String()
}

// short is how a sentence names a version: deployments carry no tags.
func short(versionID string) string {
	return versionID[:min(len(versionID), 8)]
}
