package main

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func rollback(c *connection) *cobra.Command {
	var message string
	var yes bool
	command := &cobra.Command{
		Use: "rollback SCRIPT [VERSION]", Short: "Give all traffic back to an earlier version",
		Long: "Give all traffic of a script to one version: the one named, or else the one that had all of it before.",
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
				return fmt.Errorf("%s: no earlier deployment gave all traffic to another version: name the version", attempted)
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

// rollbackTarget returns the version to go back to; empty if there is none.
// deployments are newest first. Like a browser's back button it walks the versions
// that had all traffic: while a split serves, to the last of them, as wrangler
// does; else to the one before. A version that was left by going back is
// forgotten, so that a second rollback goes further back and not forth again.
func rollbackTarget(deployments []deploy.Deployment) string {
	var visited []string
	for _, d := range slices.Backward(deployments) {
		full, ok := fullVersion(d)
		if !ok {
			continue
		}
		if at := slices.Index(visited, full); at >= 0 {
			visited = visited[:at]
		}
		visited = append(visited, full)
	}
	if len(deployments) == 0 || len(visited) == 0 {
		return ""
	}
	if _, ok := fullVersion(deployments[0]); !ok {
		return visited[len(visited)-1]
	}
	if len(visited) == 1 {
		return ""
	}
	return visited[len(visited)-2]
}

func fullVersion(d deploy.Deployment) (id string, ok bool) {
	for _, split := range d.Versions {
		if split.Percentage == deploy.Full {
			return split.VersionID, true
		}
	}
	return "", false
}
