package main

import (
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/logjob"
	"tidegate/schema"
)

func jobsCreate(c *connection) *cobra.Command {
	dataset := schema.Dataset
	var enabled bool
	var start string
	command := &cobra.Command{
		Use: "create --destination URL", Short: "Make a Logpush job; its destination is tried at once",
		Example: "  tidegate jobs create --name errors --destination https://logs.example.com/in --fields Event,Outcome \\\n" +
			"    --filter '{\"where\":{\"key\":\"Outcome\",\"operator\":\"!eq\",\"value\":\"ok\"}}' --enabled",
		Args: arguments(0, 0),
	}
	settings := newJobSettings(command)
	settings.keeps()
	command.Flags().BoolVar(&enabled, "enabled", false, "begin to deliver")
	command.Flags().StringVar(&start, "start", "", "deliver from this time on, such as 2026-11-01T00:00:00Z or 36h ago as 36h (default: now)")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := required(cmd, "destination"); err != nil {
			return err
		}
		update, err := settings.update(cmd, nil)
		if err != nil {
			return err
		}
		if start != "" {
			from, err := timeFlag(cmd, "start", start)
			if err != nil {
				return err
			}
			update.Start = &from
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		update.Dataset, update.Enabled = &dataset, &enabled
		job, err := s.api.CreateJob(cmd.Context(), s.account, update)
		if err != nil {
			return s.explain("make the job to "+oneLine(logjob.MaskDestination(*update.DestinationConf)), err)
		}
		return s.show(func(out io.Writer) {
			fmt.Fprintf(out, "Made job %d to %s; %s\n", job.ID, oneLine(logjob.MaskDestination(job.DestinationConf)), stateOf(job))
		})
	}
	return command
}

func stateOf(j logjob.Job) string {
	if j.Enabled {
		return "it delivers from now on"
	}
	return "it is not enabled"
}

func jobsList(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the Logpush jobs of the account",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			jobs, err := s.api.AccountJobs(cmd.Context(), s.account)
			if err != nil {
				return s.explain("list the jobs", err)
			}
			return s.show(func(out io.Writer) {
				rows := make([][]string, len(jobs))
				for i, j := range jobs {
					rows[i] = []string{
						strconv.FormatInt(j.ID, 10), j.Name, yesNo(j.Enabled), logjob.MaskDestination(j.DestinationConf),
						known(j.LastComplete), lastError(j),
					}
				}
				s.table(out, []string{"ID", "NAME", "ENABLED", "DESTINATION", "DELIVERED UNTIL", "ERROR"}, rows)
			})
		},
	}
}

func known(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}

func lastError(j logjob.Job) string {
	if j.ErrorMessage == nil {
		return ""
	}
	return known(j.LastError) + " " + cut(*j.ErrorMessage)
}
