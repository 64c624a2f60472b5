package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func rollback(c *connection) *cobra.Command {
	var message string
	var yes bool
	command := &cobra.Command{
		Use: "rollback SCRIPT [VERSION]", Short: "Give all traffic back to an earlier version",
		Long: "Give all traffic of a script to one version: the one named, or else the newest that had all traffic in an\n" +
			"earlier deployment.",
		Args: arguments(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			script, attempted := args[0], "roll back "+args[0]
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			versions, deployments, err := s.history(cmd, script)
			if err != nil {
				return s.explain(attempted, err)
			}
			var target string
			if len(args) == 2 {
				if target, err = resolve(versions, args[1]); err != nil {
					return fmt.Errorf("%s: %w", attempted, err)
				}
			} else if target = rollbackTarget(deployments); target == "" {
				return fmt.Errorf("%s: no earlier deployment gave all traffic to one version: name the version", attempted)
			}
			splits := []deploy.Split{{VersionID: target, Percentage: deploy.Full}}
			if person := newPrompt(); !yes && person.there() {
				if err := person.confirm(cmd.Context(), fmt.Sprintf("Roll %s back to %s?", script, splitText(splits, versions))); err != nil {
					return fmt.Errorf("%s: %w", attempted, err)
				}
			}
			return s.deploy(cmd, script, splits, versions, message)
		},
	}
	flags := command.Flags()
	flags.StringVarP(&message, "message", "m", "Rollback", "why")
	flags.BoolVarP(&yes, "yes", "y", false, "ask nothing")
	return command
}

// rollbackTarget returns the version that had all traffic in the newest
// deployment before the current one that gave all of it to one; empty if there is
// none. deployments are newest first. This is wrangler's choice, too.
func rollbackTarget(deployments []deploy.Deployment) string {
	for i, d := range deployments {
		if i == 0 {
			continue // the one that serves
		}
		for _, split := range d.Versions {
			if split.Percentage == deploy.Full {
				return split.VersionID
			}
		}
	}
	return ""
}
