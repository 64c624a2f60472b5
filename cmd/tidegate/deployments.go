package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func deploymentsList(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "list SCRIPT", Short: "List the deployments of a script, newest first: the first one serves",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			versions, deployments, err := s.history(cmd, args[0])
			if err != nil {
				return s.explain("list the deployments of "+args[0], err)
			}
			return s.show(func(out io.Writer) {
				rows := make([][]string, len(deployments))
				for i, d := range deployments {
					rows[i] = []string{
						moment(d.CreatedOn), d.ID, splitText(d.Versions, versions), d.AuthorEmail, d.Source,
						cut(d.Annotations.Message),
					}
				}
				s.table(out, []string{"CREATED", "ID", "VERSIONS", "AUTHOR", "SOURCE", "MESSAGE"}, rows)
			})
		},
	}
}

func deploymentsStatus(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "status SCRIPT", Short: "Show the deployment that serves",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			script := args[0]
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			versions, deployments, err := s.history(cmd, script)
			if err != nil {
				return s.explain("show the deployment of "+script, err)
			}
			if len(deployments) == 0 {
				return fmt.Errorf("script %s has never been deployed: \"tidegate versions deploy %s\" does that", script, script)
			}
			// By its id, so that --json prints this deployment and not the list.
			d, err := s.api.Deployment(cmd.Context(), s.account, script, deployments[0].ID)
			if err != nil {
				return s.explain("show the deployment of "+script, err)
			}
			return s.show(func(out io.Writer) {
				properties(out, append([][]string{
					{"Deployment", d.ID}, {"Versions", splitText(d.Versions, versions)}, {"Message", d.Annotations.Message},
					{"Created", moment(d.CreatedOn)}, {"Author", d.AuthorEmail}, {"Source", d.Source},
				}, troubles(d.VersionStatus, versions)...))
			})
		},
	}
}

// troubles has one row for each version that has failed on a router, or has endpoints
// out there. Versions that are well need no row.
func troubles(reports []deploy.VersionReport, versions []deploy.Version) [][]string {
	var rows [][]string
	for _, r := range reports {
		if r.Phase == deploy.BackendReady && r.Error == "" {
			continue
		}
		text := versionName(versions, r.VersionID) + ", " + string(r.Phase)
		if r.Error != "" {
			text += ": " + r.Error
		}
		rows = append(rows, []string{"On " + r.RouterID, text})
	}
	return rows
}

// history returns the deployments of a script, and the versions that give their
// tags.
func (s *session) history(cmd *cobra.Command, script string) ([]deploy.Version, []deploy.Deployment, error) {
	versions, err := s.api.DeployableVersions(cmd.Context(), s.account, script)
	if err != nil {
		return nil, nil, err
	}
	deployments, err := s.api.Deployments(cmd.Context(), s.account, script)
	return versions, deployments, err
}
