package main

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/internal/deploy"
)

// none takes a limit, the ramp or a list away.
const none = "none"

// policyFlag is a member of a policy as text. A flag that may be given several times
// has all of its texts in one call of set.
type policyFlag struct {
	name, usage string
	many        bool
	set         func(p *deploy.RollbackPolicy, texts []string) error
	show        func(p deploy.RollbackPolicy) string // what set reads; empty for what is not there
}

func (f policyFlag) apply(p *deploy.RollbackPolicy, texts []string) error {
	if !f.many {
		texts = texts[len(texts)-1:]
	}
	return f.set(p, texts)
}

// oneText is set of a flag with one text.
func oneText(set func(p *deploy.RollbackPolicy, text string) error) func(*deploy.RollbackPolicy, []string) error {
	return func(p *deploy.RollbackPolicy, texts []string) error { return set(p, texts[0]) }
}

// policyFlags are the members of a policy, in the order in which they are shown.
var policyFlags = slices.Concat([]policyFlag{
	{"enabled", "watch the script: true or false", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		p.Enabled, err = strconv.ParseBool(text)
		return err
	}), func(p deploy.RollbackPolicy) string { return strconv.FormatBool(p.Enabled) }},
}, limitFlags(), []policyFlag{
	{"min-failure-difference", "least difference of the two failure rates on which max-failure-ratio acts, such as 0.1%; none for any", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		p.MinFailureDifference, err = parseLimit(text, parseShare)
		return err
	}), func(p deploy.RollbackPolicy) string { return formatLimit(p.MinFailureDifference, formatShare) }},
	{"min-requests", "fewest requests of a version before anything is done about it", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		p.MinRequests, err = strconv.ParseInt(text, 10, 64)
		return err
	}), func(p deploy.RollbackPolicy) string { return strconv.FormatInt(p.MinRequests, 10) }},
	secondsFlag("look-back", "how often the tests begin anew beside those that run on, such as 5m", func(p *deploy.RollbackPolicy) *int64 { return &p.LookBackSeconds }),
	{"confidence", "one minus the chance that a version that keeps all limits is acted upon, such as 0.999 or 99.9%", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		p.Confidence, err = parseShare(text)
		p.Confidence = math.Round(p.Confidence*1e9) / 1e9 // 99.99% is 0.9999
		return err
	}), func(p deploy.RollbackPolicy) string { return strconv.FormatFloat(p.Confidence, 'f', -1, 64) }},
	secondsFlag("grace", "time after a version's first deployment that does not count, such as 30s", func(p *deploy.RollbackPolicy) *int64 { return &p.GraceSeconds }),
	{"count", "what counts as a failure: any, exceptions or status_5xx", false, oneText(func(p *deploy.RollbackPolicy, text string) error {
		p.Count = deploy.CountKind(text)
		return nil
	}), func(p deploy.RollbackPolicy) string { return string(p.Count) }},
	{"evidence", "what counts for itself: requests, or blocks of seconds where failures come in bursts, such as blocks:10s", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		kind, length, long := strings.Cut(text, ":")
		p.Evidence, p.BlockSeconds = deploy.EvidenceKind(kind), 0
		if long {
			p.BlockSeconds, err = parseSeconds(length)
		}
		return err
	}), func(p deploy.RollbackPolicy) string {
		if p.BlockSeconds == 0 {
			return string(p.Evidence)
		}
		return string(p.Evidence) + ":" + seconds(p.BlockSeconds)
	}},
	{"action", "what a failing version meets: rollback, pause or notify", false, oneText(func(p *deploy.RollbackPolicy, text string) error {
		p.Action = deploy.Action(text)
		return nil
	}), func(p deploy.RollbackPolicy) string { return string(p.Action) }},
	{"ramp", "steps of a new version, each with the time that it must hold and its gate (watched, proven or manual), such as 5%:5m,25%:90s:proven,100%; none for no ramp", false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		p.Ramp, err = parseRamp(text)
		return err
	}), func(p deploy.RollbackPolicy) string { return formatRamp(p.Ramp) }},
	listFlag("notify", "who is told of decisions, several times: webhook:URL, slack:URL, alertmanager:URL or email:ADDRESS,ADDRESS, and after spaces on=rollback,pause and secret-file=FILE; none for nobody",
		func(p *deploy.RollbackPolicy) *[]deploy.NotifyTarget { return &p.Notify }, parseNotify, formatNotify),
	listFlag("promote", "hours in which ramps go on by themselves, several times, such as \"mon-fri 09:00-17:00 Europe/Berlin\"; none for always",
		func(p *deploy.RollbackPolicy) *[]deploy.WeeklyWindow { return &p.Promote }, parseWindow, deploy.WeeklyWindow.String),
	listFlag("freeze", "time in which ramps do not go on by themselves, several times, such as \"2026-12-20/2027-01-02 holidays\"; none for never",
		func(p *deploy.RollbackPolicy) *[]deploy.FreezeWindow { return &p.Freeze }, parseFreeze, formatFreeze),
})

// limitFlags are those of the limits, by the names of their members.
func limitFlags() []policyFlag {
	about := map[deploy.Metric]string{
		deploy.MetricFailureRate:  "most failures of a version as a share of its requests, such as 2%",
		deploy.MetricFailureRatio: "most failures of a version as a multiple of the baseline's rate, such as 3",
		deploy.MetricTraffic:      "least share of the requests that its percentage promises which a version must answer, such as 80%",
	}
	var list []policyFlag
	for _, m := range deploy.Metrics() {
		parse, format, what := parseShare, formatShare, about[m]
		switch {
		case m.IsRatio():
			parse, format = parseNumber, formatNumber
		case m.IsMillis():
			parse, format = parseMillis, formatMillis
		}
		if what == "" {
			quantile, of := "p99", "wall time"
			if parts := strings.Split(string(m), "_"); len(parts) > 2 {
				quantile, of = parts[1], strings.ToLower(parts[2])+" time"
			}
			what = fmt.Sprintf("most %s %s of a version, such as 300ms", quantile, of)
			if m.IsRatio() {
				what = fmt.Sprintf("most %s %s of a version as a multiple of the baseline's, such as 1.5", quantile, of)
			}
		}
		list = append(list, policyFlag{strings.ReplaceAll(string(m), "_", "-"), what + "; none for no limit", false, oneText(func(p *deploy.RollbackPolicy, text string) error {
			limit, err := parseLimit(text, parse)
			if err == nil {
				p.SetLimit(m, limit)
			}
			return err
		}), func(p deploy.RollbackPolicy) string {
			for _, l := range p.Limits() {
				if l.Metric == m {
					return format(l.Value)
				}
			}
			return ""
		}})
	}
	return list
}

func secondsFlag(name, usage string, of func(*deploy.RollbackPolicy) *int64) policyFlag {
	return policyFlag{name, usage, false, oneText(func(p *deploy.RollbackPolicy, text string) (err error) {
		*of(p), err = parseSeconds(text)
		return err
	}), func(p deploy.RollbackPolicy) string { return seconds(*of(&p)) }}
}

// listFlag replaces a whole list.
func listFlag[T any](name, usage string, of func(*deploy.RollbackPolicy) *[]T, parse func(string) (T, error), format func(T) string) policyFlag {
	return policyFlag{name, usage, true, func(p *deploy.RollbackPolicy, texts []string) error {
		var list []T
		for _, text := range texts {
			if text == none && len(texts) == 1 {
				break
			}
			one, err := parse(text)
			if err != nil {
				return err
			}
			list = append(list, one)
		}
		*of(p) = list
		return nil
	}, func(p deploy.RollbackPolicy) string {
		var texts []string
		for _, one := range *of(&p) {
			texts = append(texts, format(one))
		}
		return strings.Join(texts, "; ")
	}}
}

// policyRows are the members of a policy by the names of their flags.
func policyRows(p deploy.RollbackPolicy) [][]string {
	rows := make([][]string, len(policyFlags))
	for i, f := range policyFlags {
		rows[i] = []string{f.name, f.show(p)}
	}
	return rows
}

// policyText is the members of a policy in one line.
func policyText(p deploy.RollbackPolicy) string {
	var parts []string
	for _, row := range policyRows(p) {
		if row[1] != "" && row[1] != none {
			parts = append(parts, row[0]+" "+row[1])
		}
	}
	return strings.Join(parts, ", ")
}

func orNone(text string) string {
	if text == "" {
		return none
	}
	return text
}

func parseLimit(text string, parse func(string) (float64, error)) (*float64, error) {
	if text == none {
		return nil, nil
	}
	limit, err := parse(text)
	return &limit, err
}

func formatLimit(limit *float64, format func(float64) string) string {
	if limit == nil {
		return ""
	}
	return format(*limit)
}

func parseNumber(text string) (float64, error) { return strconv.ParseFloat(text, 64) }

func formatNumber(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// parseMillis reads "300ms", "1.5s" and, as the API has it, "300".
func parseMillis(text string) (float64, error) {
	if ms, err := strconv.ParseFloat(text, 64); err == nil {
		return ms, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("it must be a time such as 300ms or 1.5s")
	}
	return float64(d) / float64(time.Millisecond), nil
}

func formatMillis(ms float64) string { return formatNumber(ms) + "ms" }

func formatShare(share float64) string { return formatNumber(math.Round(share*1e8)/1e6) + "%" }

// parseShare reads "2%" and "0.02" alike.
func parseShare(text string) (float64, error) {
	number, isPercent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if isPercent {
		share /= 100
	}
	return share, err
}

// parseSeconds reads a duration of whole seconds.
func parseSeconds(text string) (int64, error) {
	d, err := parseLength(text)
	if err != nil {
		return 0, errors.New("it must be a time such as 90s or 5m")
	}
	if d%time.Second != 0 {
		return 0, errors.New("it must be a whole number of seconds")
	}
	return int64(d / time.Second), nil
}

// gates of a ramp's steps.
var gates = []deploy.Gate{deploy.GateWatched, deploy.GateProven, deploy.GateManual}

// parseRamp reads "5%:5m,25%:90s:proven,100%": each step is a percentage, how long it
// must hold before the next, and its gate; no time is no wait.
func parseRamp(text string) ([]deploy.RampStep, error) {
	if text == none {
		return nil, nil
	}
	var steps []deploy.RampStep
	for part := range strings.SplitSeq(text, ",") {
		percentage, rest, more := strings.Cut(strings.TrimSpace(part), ":")
		var step deploy.RampStep
		var err error
		if step.Percentage, err = parsePercentage(percentage); err != nil {
			return nil, err
		}
		if more {
			if step.BakeSeconds, step.Gate, err = parseHold(rest); err != nil {
				return nil, fmt.Errorf("%q after %q: %w", rest, percentage, err)
			}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// parseHold reads what follows a step's percentage: "90s", "90s:proven" or "proven".
func parseHold(text string) (bake int64, gate deploy.Gate, err error) {
	if slices.Contains(gates, deploy.Gate(text)) {
		return 0, deploy.Gate(text), nil
	}
	first, last, gated := strings.Cut(text, ":")
	if gated && !slices.Contains(gates, deploy.Gate(last)) {
		return 0, "", fmt.Errorf("the gate must be one of %q", gates)
	}
	bake, err = parseSeconds(first)
	return bake, deploy.Gate(last), err
}

// formatRamp writes what parseRamp reads.
func formatRamp(steps []deploy.RampStep) string {
	if len(steps) == 0 {
		return none
	}
	parts := make([]string, len(steps))
	for i, step := range steps {
		parts[i] = step.Percentage.String()
		if step.BakeSeconds > 0 {
			parts[i] += ":" + seconds(step.BakeSeconds)
		}
		if step.Gate != "" {
			parts[i] += ":" + string(step.Gate)
		}
	}
	return strings.Join(parts, ",")
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

// plain leaves out the Go function that could not read a number.
func plain(err error) error {
	if _, ok := errors.AsType[*strconv.NumError](err); !ok {
		return err
	}
	return errors.New("it is not of the form that --help shows")
}
