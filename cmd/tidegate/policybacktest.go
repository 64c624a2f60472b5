package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
)

// backtestCharts is how many trials are explained; --json has all of them.
const backtestCharts = 5

func policyBacktest(c *connection) *cobra.Command {
	command := &cobra.Command{
		Use: "backtest SCRIPT", Short: "Show what a policy would have done in the past", Args: arguments(1, 1),
		Long: "Past deployments of the script and the seconds of their time are judged again by the policy that the script follows, by that\n" +
			"policy with changes from flags, or by the one of --file. Nothing is changed.",
		Example: "  tidegate policy backtest shop --since 7d --max-failure-ratio 2 --confidence 0.99",
	}
	in := newPolicyInput(command)
	var when asked
	command.Flags().StringVar(&when.since, "since", "", "the beginning, such as 2026-11-01T00:00:00Z, or how long ago, such as 7d (default: as long ago as can be had)")
	command.Flags().StringVar(&when.until, "until", "", "the end, likewise (default: now)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if in.byFlags() && in.file != "" {
			return usage(cmd, fmt.Errorf("say what to try with flags or with --file, but not with both"))
		}
		r, err := when.between(cmd)
		if err != nil {
			return err
		}
		attempted := "backtest a policy of " + args[0]
		s, p, err := in.read(cmd, c, args[0], attempted)
		if err != nil {
			return err
		}
		b, result, err := s.followBacktest(cmd, args[0], client.BacktestQuery{Policy: p, Since: r.Since, Until: r.Until})
		if err != nil {
			return s.explain(attempted, err)
		}
		versions, err := s.api.DeployableVersions(cmd.Context(), s.account, args[0])
		if err != nil {
			return s.explain("list the versions of "+args[0], err)
		}
		var late *deploy.Deployment
		if len(b.Trials) == 0 {
			deployments, err := s.api.Deployments(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("list the deployments of "+args[0], err)
			}
			late = notReplayed(deployments, b.Until, r.Until)
		}
		s.answers.result = result // not the versions
		return s.show(func(out io.Writer) { s.writeBacktest(out, &b, versions, late) })
	}
	return command
}

// followBacktest shows how far a backtest is, on a terminal.
func (s *session) followBacktest(cmd *cobra.Command, script string, q client.BacktestQuery) (client.Backtest, []byte, error) {
	to := cmd.ErrOrStderr()
	shows := terminal(to)
	b, result, err := s.streams.FollowBacktest(cmd.Context(), s.account, script, q, func(p client.BacktestProgress) {
		if shows {
			fmt.Fprintf(to, "\r\x1b[K%s", backtestBar(p))
		}
	})
	if shows {
		fmt.Fprint(to, "\r\x1b[K")
	}
	return b, result, err
}

func backtestBar(p client.BacktestProgress) string {
	return bar(int64(p.At.Sub(p.Since)/time.Second), int64(p.Until.Sub(p.Since)/time.Second)) + "replayed until " + moment(p.At)
}

// notReplayed is the newest deployment of those before a time, zero for now, if the replay ended
// before it; nil if it did not. Deployments are newest first.
func notReplayed(deployments []deploy.Deployment, ended, asked time.Time) *deploy.Deployment {
	for i, d := range deployments {
		if asked.IsZero() || d.CreatedOn.Before(asked) {
			if d.CreatedOn.Before(ended) {
				return nil
			}
			return &deployments[i]
		}
	}
	return nil
}

// writeBacktest takes the deployment that no replay reaches yet, if there is one.
func (s *session) writeBacktest(out io.Writer, b *client.Backtest, versions []deploy.Version, late *deploy.Deployment) {
	s.period(out, b.Since, b.Until)
	fmt.Fprintf(out, "Policy: %s\n\n", oneLine(policyText(b.Policy)))
	if len(b.Trials) == 0 {
		fmt.Fprintln(out, "No version was on trial in this time.")
		if late != nil {
			fmt.Fprintf(out, "The newest deployment, of %s, cannot be replayed yet: the newest two minutes are left out, because events of theirs\nmay still come. Run the backtest again when the deployment is older than that.\n", moment(late.CreatedOn))
		}
		return
	}
	rows := make([][]string, len(b.Trials))
	acted := 0
	for i, t := range b.Trials {
		at, saved := "never", ""
		if t.FailedAt != nil {
			acted++
			at, saved = moment(*t.FailedAt), savedText(t.FailuresSaved)
		}
		if t.FalseAlarm {
			at += " (false alarm)"
		}
		rows[i] = []string{versionName(versions, t.VersionID), versionName(versions, t.BaselineVersionID), moment(t.Since), moment(t.Until),
			countOf(t.Numbers.Requests), rate(t.Numbers.FailureRate), rate(t.Numbers.BaselineRate), at, saved}
	}
	s.table(out, []string{"VERSION", "BASELINE", "SINCE", "UNTIL", "REQUESTS", "RATE", "BASELINE RATE", "ACTED UPON", "SAVED"}, rows)
	fmt.Fprintf(out, "\n%d of %d trials would have been acted upon%s; false alarms: %d\n", acted, len(b.Trials), savesText(&b.BacktestResult, acted), b.FalseAlarms)
	explained := 0
	for _, t := range b.Trials {
		if t.FailedAt == nil || explained == backtestCharts {
			continue
		}
		explained++
		fmt.Fprintf(out, "\n%s: would have %s %s\n", versionName(versions, t.VersionID), actionDone(b.Policy.Action), oneLine(t.Sentence))
		s.writeEvidence(out, t.Evidence, chartMoment{*t.FailedAt, "acted upon"})
	}
	if more := acted - explained; more > 0 {
		fmt.Fprintf(out, "\n%d more are explained by --json.\n", more)
	}
}

// actionDone says in a word what a policy does with a version that fails.
func actionDone(a deploy.Action) string {
	switch a {
	case deploy.ActionPause:
		return "paused"
	case deploy.ActionNotify:
		return "told"
	}
	return "rolled back"
}

// savesText says what acting on so many trials saves.
func savesText(r *deploy.BacktestResult, acted int) string {
	switch {
	case r.FailuresSaved == nil:
		return ", and how many failed requests that saves is not known"
	case r.FailuresSavedUnknown > 0:
		return fmt.Sprintf(", which saves %s failed requests in %d of them; how many in the rest is not known", savedText(r.FailuresSaved), acted-r.FailuresSavedUnknown)
	}
	return fmt.Sprintf(", which saves %s failed requests", savedText(r.FailuresSaved))
}

func savedText(failures *float64) string {
	if failures == nil {
		return "unknown"
	}
	return strconv.FormatFloat(*failures, 'f', 0, 64)
}

func policyEvidence(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "evidence SCRIPT", Short: "Show what the tests of a policy say now of the version on trial", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			live, err := s.api.Evidence(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("read the evidence of "+args[0], err)
			}
			return s.show(func(out io.Writer) { s.writeLive(out, &live, s.versions(cmd, args[0])) })
		},
	}
}

func (s *session) writeLive(out io.Writer, live *deploy.LiveEvidence, versions []deploy.Version) {
	properties(out, [][]string{{"At", moment(live.At)}, {"Policy", fmt.Sprintf("%s, revision %d", whosePolicy(live.PolicySource), live.PolicyRevision)}, {"Enabled", yesNo(live.Enabled)}})
	writeJudged(out, live, versions, func(t *deploy.LiveTrial) { s.writeEvidence(out, t.Evidence) })
}

// writeJudged tells what is judged, or why nothing is; more follows each trial.
func writeJudged(out io.Writer, live *deploy.LiveEvidence, versions []deploy.Version, more func(t *deploy.LiveTrial)) {
	if live.Reason != "" {
		fmt.Fprintf(out, "\nNothing that serves can be judged: %s.\n", oneLine(live.Reason))
	} else if len(live.Trials) == 0 {
		fmt.Fprintln(out, "\nNo version is on trial: there is nothing to judge.")
	}
	for i := range live.Trials {
		t := &live.Trials[i]
		fmt.Fprintf(out, "\n%s against %s since %s: %s: %s\n", versionName(versions, t.VersionID), versionName(versions, t.BaselineVersionID), moment(t.Since), t.Verdict, oneLine(t.Sentence))
		more(t)
	}
}
