package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
)

// secretFileMax is well above what a secret may have, which the API knows.
const secretFileMax = 1 << 16

func jobsHealth(c *connection) *cobra.Command {
	var since string
	command := &cobra.Command{
		Use: "health JOB", Short: "Show how a job does: lag, uploads, losses, last errors",
		Example: "  tidegate jobs health 3 --since 1h", Args: arguments(1, 1),
	}
	command.Flags().StringVar(&since, "since", "24h", "the time from which uploads are summed, such as 2026-11-01T00:00:00Z, or how long ago, such as 1h")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, _ []string) error {
		from, err := timeFlag(cmd, "since", since)
		if err != nil {
			return err
		}
		h, err := s.api.JobHealth(cmd.Context(), s.account, job, from)
		if err != nil {
			return s.explain("look at the job's health", err)
		}
		return s.show(func(out io.Writer) { s.writeHealth(out, &h) })
	})
	return command
}

// writeHealth writes what is known, and nothing of what is not.
func (s *session) writeHealth(out io.Writer, h *client.JobHealth) {
	lag := "unknown"
	if h.LagEvents != nil {
		lag = strconv.FormatInt(*h.LagEvents, 10) + " events"
		if h.LagSeconds != nil && *h.LagSeconds > 0 {
			lag += ", " + span(*h.LagSeconds)
		}
	}
	rows := [][]string{{"State", strings.ReplaceAll(h.State, "_", ", ")}, {"Lag", lag},
		{"Failing since", known(h.FailingSince)}, {"Disabled on", known(h.DisabledOn)}, {"Resumed from", known(h.ResumedFrom)}}
	for _, reason := range slices.Sorted(maps.Keys(h.Dropped)) {
		rows = append(rows, []string{"Dropped, " + reason, strconv.FormatInt(h.Dropped[reason], 10)})
	}
	if h.DeadLetters > 0 {
		rows = append(rows, []string{"Dead letters", strconv.FormatInt(h.DeadLetters, 10)})
	}
	properties(out, append(rows, []string{"Summed since", moment(h.Since)}))
	if len(h.Uploads) > 0 {
		rows = rows[:0]
		for _, u := range h.Uploads {
			status := "no answer"
			if u.Status > 0 {
				status = strconv.Itoa(u.Status)
			}
			compressed := "unknown"
			if u.BytesCompressed > 0 {
				compressed = strconv.FormatInt(u.BytesCompressed, 10)
			}
			rows = append(rows, []string{status, yesNo(u.Final), strconv.FormatInt(u.Uploads.Uploads, 10), strconv.FormatInt(u.Records, 10),
				strconv.FormatInt(u.Bytes, 10), compressed,
				strconv.FormatInt(u.DurationMS/max(u.Uploads.Uploads, 1), 10), strconv.FormatInt(u.DurationMaxMS, 10)})
		}
		fmt.Fprintln(out)
		s.table(out, []string{"STATUS", "FINAL", "UPLOADS", "RECORDS", "BYTES", "COMPRESSED", "MS ON AVERAGE", "MS AT MOST"}, rows)
	}
	if len(h.Failures) > 0 {
		rows = rows[:0]
		for _, f := range h.Failures {
			partition := "all"
			if f.Partition != nil {
				partition = strconv.Itoa(*f.Partition)
			}
			rows = append(rows, []string{moment(f.LastOn), strconv.FormatInt(f.Times, 10), partition, f.Message})
		}
		fmt.Fprintln(out)
		s.table(out, []string{"LAST", "TIMES", "PARTITION", "ERROR"}, rows)
	}
}

// span is a time in seconds as people say it.
func span(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Second).String()
}

func alertsGet(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "get", Short: "Show where the account is told of its jobs' failures", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			h, err := s.api.AlertHook(cmd.Context(), s.account)
			if err != nil {
				return s.explain("read the alerts", err)
			}
			return s.show(func(out io.Writer) {
				if h == nil {
					fmt.Fprintln(out, "Nobody is told of failing jobs: name a webhook with \"tidegate alerts set\".")
					return
				}
				writeAlerts(out, *h)
			})
		},
	}
}

func alertsSet(c *connection) *cobra.Command {
	var secretFile string
	command := &cobra.Command{
		Use: "set URL", Short: "Have alerts of Logpush jobs sent to a webhook", Args: arguments(1, 1),
		Example: "  tidegate alerts set https://hooks.example.com/tidegate --secret-file secret.txt",
	}
	command.Flags().StringVar(&secretFile, "secret-file", "", "a file with the secret that is sent along; - is standard input (default: none, also in place of an earlier one)")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		secret := ""
		if secretFile != "" {
			text, err := readAll(cmd.InOrStdin(), secretFile, secretFileMax)
			if err != nil {
				return err
			}
			secret = strings.TrimRight(string(text), "\r\n")
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		h, err := s.api.SetAlertHook(cmd.Context(), s.account, args[0], secret)
		if err != nil {
			return s.explain("set the alerts", err)
		}
		return s.show(func(out io.Writer) { writeAlerts(out, h) })
	}
	return command
}

func alertsDelete(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "delete", Short: "End the alerts", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			if err := s.api.DeleteAlertHook(cmd.Context(), s.account); err != nil {
				return s.explain("end the alerts", err)
			}
			return s.show(func(out io.Writer) { fmt.Fprintln(out, "No alerts are sent any more.") })
		},
	}
}

func writeAlerts(out io.Writer, h client.AlertHook) {
	secret := "without a secret"
	if h.HasSecret {
		secret = "with a secret"
	}
	fmt.Fprintf(out, "Alerts go to %s, %s.\n", oneLine(h.URL), secret)
}
