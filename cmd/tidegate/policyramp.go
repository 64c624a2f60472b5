package main

import (
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func rampCommands(c *connection) *cobra.Command {
	hold := rampControl(c, deploy.RampPause, "Hold a ramp at its step")
	hold.Aliases = []string{deploy.RampHold}
	return group("ramp", "See how far a ramp is, and take it over",
		rampShow(c), hold,
		rampControl(c, deploy.RampResume, "Let a held ramp go on; its step is judged from now on"),
		rampControl(c, deploy.RampSkip, "Deploy a ramp's next step now, whatever the current one's time and gate"),
		rampControl(c, deploy.RampAbort, "End a ramp where it is; traffic stays as it is"))
}

func rampShow(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "show SCRIPT", Short: "Show how far the newest ramp of a script is", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			list, err := s.api.Deployments(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("read the deployments of "+args[0], err)
			}
			r, err := s.api.Ramp(cmd.Context(), s.account, args[0]) // last: its answer is what --json prints
			if err != nil {
				return s.explain("read the ramp of "+args[0], err)
			}
			return s.show(func(out io.Writer) { writeRamp(out, r, replaced(r, list)) })
		},
	}
}

func rampControl(c *connection, action, short string) *cobra.Command {
	var deployment string
	command := &cobra.Command{
		Use: action + " SCRIPT", Short: short, Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			r, err := s.api.ControlRamp(cmd.Context(), s.account, args[0], action, deployment)
			if err != nil {
				return s.explain(action+" the ramp of "+args[0], err)
			}
			return s.show(func(out io.Writer) { writeRamp(out, r, false) })
		},
	}
	command.Flags().StringVar(&deployment, "deployment", "", "only while the ramp is at this deployment's step, which `show` names")
	return command
}

// replaced reports whether another deployment serves, of deployments that were read before the
// ramp, newest first: it may have gone on since, to one that is not among them.
func replaced(r deploy.Ramp, deployments []deploy.Deployment) bool {
	i := slices.IndexFunc(deployments, func(d deploy.Deployment) bool { return d.ID == r.DeploymentID })
	return i > 0 || i < 0 && len(deployments) > 0 && r.StepStartedAt.Before(deployments[0].CreatedOn)
}

// writeRamp says of a ramp whose deployment was replaced that it is that of a release before.
func writeRamp(out io.Writer, r deploy.Ramp, replaced bool) {
	deployment := r.DeploymentID
	if replaced {
		deployment += ", which no longer serves"
	}
	rows := [][]string{{"Version", r.VersionID}, {"Baseline", r.BaselineVersionID}, {"State", string(r.State)}, {"Reason", r.Reason}}
	if r.Step < len(r.Steps) {
		rows = append(rows, []string{"Step", fmt.Sprintf("%d of %d, %s", r.Step+1, len(r.Steps), r.Steps[r.Step].Percentage)})
	}
	rows = append(rows, []string{"Since", moment(r.StepStartedAt)}, []string{"Deployment", deployment}, []string{"Steps", formatRamp(r.Steps)})
	if change := r.LastChange; change != nil {
		text := change.Action + ", " + moment(change.At)
		if change.By != "" {
			text = change.Action + " by " + change.By + ", " + moment(change.At)
		}
		rows = append(rows, []string{"Last change", text})
	}
	properties(out, rows)
}
