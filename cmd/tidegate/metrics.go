package main

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// asked are the flags of a time that is asked about.
type asked struct {
	since, until string
	step         time.Duration
}

func (a *asked) flags(cmd *cobra.Command, steps bool) {
	cmd.Flags().StringVar(&a.since, "since", "", "the beginning, such as 2026-11-01T00:00:00Z, or how long ago, such as 15m (default: an hour before the end)")
	cmd.Flags().StringVar(&a.until, "until", "", "the end, likewise (default: now)")
	if steps {
		lengthVar(cmd.Flags(), &a.step, "step", "the length of a step of the series in --json, such as 5m (default: one that fits)")
	}
}

func (a *asked) between(cmd *cobra.Command) (r client.Range, err error) {
	if cmd.Flags().Lookup("step") != nil {
		if err := aboveZero(cmd, "step"); err != nil {
			return r, err
		}
		if a.step%time.Second != 0 {
			return r, usage(cmd, fmt.Errorf("--step is %s: it must be whole seconds", a.step))
		}
	}
	r.Step = a.step
	for name, into := range map[string]*time.Time{"since": &r.Since, "until": &r.Until} {
		if text := cmd.Flags().Lookup(name).Value.String(); text != "" {
			if *into, err = timeFlag(cmd, name, text); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

func metricsShow(c *connection) *cobra.Command {
	var when asked
	command := &cobra.Command{
		Use: "show SCRIPT", Short: "Show requests, failures and times of a script's versions",
		Example: "  tidegate metrics show shop --since 24h", Args: arguments(1, 1),
	}
	when.flags(command, true)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		r, err := when.between(cmd)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		m, err := s.api.Metrics(cmd.Context(), s.account, args[0], r.Since, r.Until, r.Step)
		if err != nil {
			return s.explain("ask for the metrics of "+args[0], err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(m.Versions))
			for i, v := range m.Versions {
				rows[i] = append([]string{named(v.Tag, v.VersionID), count(v.Requests), count(v.Failures), rate(v.FailureRate), count(v.Exceptions), count(v.Status["5xx"])}, times(v.WallMs)...)
			}
			s.period(out, m.Since, m.Until)
			s.table(out, []string{"VERSION", "REQUESTS", "FAILURES", "RATE", "EXCEPTIONS", "5XX", "P50 MS", "P90 MS", "P99 MS"}, rows)
		})
	}
	return command
}

func metricsCompare(c *connection) *cobra.Command {
	var when asked
	q := client.ComparisonQuery{}
	command := &cobra.Command{
		Use: "compare SCRIPT BASELINE CANDIDATE", Short: "Hold the failure rates of two versions against each other",
		Long: "Hold the failure rates of two versions against each other, with confidence intervals. They are for one look at a time that\n" +
			"was chosen beforehand: who looks again and again until a version seems bad will find one. A rollback policy may look always.",
		Example: "  tidegate metrics compare shop v1 v2 --since 30m", Args: arguments(3, 3),
	}
	when.flags(command, false)
	command.Flags().StringVar(&q.Count, "count", "assigned", "which requests: assigned, those whose version was drawn, or all")
	command.Flags().Float64Var(&q.Confidence, "confidence", 0.95, "of the intervals, from 0.5 to 0.9999")
	command.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if q.Range, err = when.between(cmd); err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		ids, err := s.versionIDs(cmd, args[0], args[1:])
		if err != nil {
			return err
		}
		q.Baseline, q.Candidate = ids[0], ids[1]
		compared, err := s.api.Compare(cmd.Context(), s.account, args[0], q)
		if err != nil {
			return s.explain("compare versions of "+args[0], err)
		}
		return s.show(func(out io.Writer) { s.writeComparison(out, &compared) })
	}
	return command
}

// writeComparison leaves out what is not known.
func (s *session) writeComparison(out io.Writer, c *client.Comparison) {
	s.period(out, c.Since, c.Until)
	var rows [][]string
	for _, v := range []client.ComparedRates{c.Baseline, c.Candidate} {
		rows = append(rows, append([]string{named(v.Tag, v.VersionID), count(v.Requests), count(v.Failures), interval(v.Interval, percent)}, times(v.WallMs)...))
	}
	s.table(out, []string{"VERSION", "REQUESTS", "FAILURES", "RATE", "P50 MS", "P90 MS", "P99 MS"}, rows)
	fmt.Fprintln(out)
	properties(out, [][]string{
		{"Difference", interval(c.Difference, percent)}, {"Ratio", interval(c.Ratio, func(x float64) string { return strconv.FormatFloat(x, 'f', 2, 64) })},
		{"Confidence", percent(c.Confidence)}, {"Counted", map[string]string{"all": "all requests"}[c.Count]},
	})
	switch {
	case c.Difference == nil:
		fmt.Fprintln(out, "Nothing can be compared: one of the two has no requests.")
	case *c.Difference.Low > 0:
		fmt.Fprintln(out, "The candidate fails more often.")
	case *c.Difference.High < 0:
		fmt.Fprintln(out, "The candidate fails less often.")
	default:
		fmt.Fprintln(out, "The intervals leave open which one fails more often.")
	}
}

func metricsOverview(c *connection) *cobra.Command {
	var when asked
	var limit int
	command := &cobra.Command{Use: "overview", Short: "Show what all scripts of the account did, the busiest first", Args: arguments(0, 0)}
	when.flags(command, true)
	command.Flags().IntVar(&limit, "limit", 0, "show so many scripts at most (default: 100)")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := aboveZero(cmd, "limit"); err != nil {
			return err
		}
		r, err := when.between(cmd)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		o, err := s.api.Overview(cmd.Context(), s.account, r, limit)
		if err != nil {
			return s.explain("ask for the metrics of all scripts", err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(o.Scripts))
			for i, one := range o.Scripts {
				rows[i] = []string{one.Script, count(one.Requests), count(one.Failures), rate(one.FailureRate)}
			}
			s.period(out, o.Since, o.Until)
			s.table(out, []string{"SCRIPT", "REQUESTS", "FAILURES", "RATE"}, rows)
			if more := o.TotalScripts - len(o.Scripts); more > 0 {
				fmt.Fprintf(out, "%d more scripts had requests: --limit shows them.\n", more)
			}
		})
	}
	return command
}

// period says what time an answer is about.
func (s *session) period(out io.Writer, since, until time.Time) {
	fmt.Fprintf(out, "From %s to %s\n", moment(since), moment(until))
}

// versionIDs finds versions of a script by what a person calls them.
func (s *session) versionIDs(cmd *cobra.Command, script string, refs []string) ([]string, error) {
	if len(refs) == 0 {
		return nil, nil
	}
	versions, err := s.api.DeployableVersions(cmd.Context(), s.account, script)
	if err != nil {
		return nil, s.explain("look up the versions of "+script, err)
	}
	ids := make([]string, len(refs))
	for i, ref := range refs {
		if ids[i], err = resolve(versions, ref); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// named reads "v1 (1a2b3c4d)", or only the id where there is no tag.
func named(tag, id string) string {
	if tag == "" {
		return cmp.Or(short(id), "-")
	}
	return fmt.Sprintf("%s (%s)", tag, short(id))
}

func count(n int64) string { return strconv.FormatInt(n, 10) }

// rate is empty for what is not known, as are those below.
func rate(share *float64) string {
	if share == nil {
		return ""
	}
	return percent(*share)
}

func percent(share float64) string {
	return strconv.FormatFloat(math.Round(share*1e5)/1e3, 'f', -1, 64) + "%"
}

func times(q *schema.Quantiles) []string {
	if q == nil {
		return []string{"", "", ""}
	}
	list := []string{}
	for _, ms := range []float64{q.P50, q.P90, q.P99} {
		list = append(list, strconv.FormatFloat(ms, 'f', 1, 64))
	}
	return list
}

// interval reads "2% (1.2% to 3.1%)".
func interval(i *client.Interval, form func(float64) string) string {
	if i == nil {
		return ""
	}
	bound := func(b *float64) string {
		if b == nil {
			return "any"
		}
		return form(*b)
	}
	return fmt.Sprintf("%s (%s to %s)", form(i.Estimate), bound(i.Low), bound(i.High))
}
