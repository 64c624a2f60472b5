package main

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/internal/logjob"
)

func jobsView(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "view JOB", Short: "Show a job, without credentials", Args: arguments(1, 1)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, id int64, _ []string) error {
		j, err := s.api.Job(cmd.Context(), s.account, id)
		if err != nil {
			return s.explain("read the job", err)
		}
		return s.show(func(out io.Writer) { writeJob(out, &j) })
	})
	return command
}

func writeJob(out io.Writer, j *logjob.Job) {
	o := j.Output()
	rows := [][]string{
		{"ID", strconv.FormatInt(j.ID, 10)}, {"Name", j.Name}, {"Enabled", yesNo(j.Enabled)},
		{"Destination", logjob.MaskDestination(j.DestinationConf)}, {"Filter", j.Filter},
		{"Fields", strings.Join(j.FieldNames(), ",")}, {"Output type", o.OutputType}, {"Timestamp format", o.TimestampFormat},
	}
	for _, text := range []struct {
		name  string
		value *string
	}{
		{"Record template", o.RecordTemplate}, {"Batch prefix", o.BatchPrefix}, {"Batch suffix", o.BatchSuffix}, {"Record prefix", o.RecordPrefix},
		{"Record suffix", o.RecordSuffix}, {"Record delimiter", o.RecordDelimiter}, {"Field delimiter", o.FieldDelimiter},
	} {
		if text.value != nil {
			rows = append(rows, []string{text.name, strconv.Quote(*text.value)})
		}
	}
	if o.SampleRate != nil {
		rows = append(rows, []string{"Sample rate", strconv.FormatFloat(*o.SampleRate, 'g', -1, 64)})
	}
	for _, bound := range []struct {
		name  string
		value *int64
	}{{"Upload bytes", j.MaxUploadBytes}, {"Upload records", j.MaxUploadRecords}, {"Upload interval (s)", j.MaxUploadIntervalSeconds}} {
		if bound.value != nil {
			rows = append(rows, []string{bound.name, strconv.FormatInt(*bound.value, 10)})
		}
	}
	rows = append(rows, []string{"Newest delivered", known(j.LastComplete)})
	if j.ErrorMessage != nil {
		rows = append(rows, []string{"Error", known(j.LastError) + " " + *j.ErrorMessage})
	}
	properties(out, rows)
}

func jobsUpdate(c *connection) *cobra.Command {
	command := &cobra.Command{
		Use: "update JOB", Short: "Change what flags name of a job, and leave the rest",
		Example: "  tidegate jobs update 3 --filter '' --sample-rate 0.1",
		Args:    arguments(1, 1),
	}
	settings := newJobSettings(command)
	settings.keeps()
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, id int64, _ []string) error {
		j, err := s.api.Job(cmd.Context(), s.account, id)
		if err != nil {
			return s.explain("read the job", err)
		}
		update, err := settings.update(cmd, j.Output())
		if err != nil {
			return err
		}
		if reflect.ValueOf(update).IsZero() {
			return usage(cmd, errors.New("nothing to change: say what, with a flag"))
		}
		if j, err = s.api.UpdateJob(cmd.Context(), s.account, id, update); err != nil {
			return s.explain("change the job", err)
		}
		return s.show(func(out io.Writer) { writeJob(out, &j) })
	})
	return command
}

// jobsSwitch is enable or disable.
func jobsSwitch(c *connection, on bool) *cobra.Command {
	name, short := "enable", "Begin to deliver, with the events from now on"
	if !on {
		name, short = "disable", "Stop delivering; what happens meanwhile is sent by a replay only"
	}
	command := &cobra.Command{Use: name + " JOB", Short: short, Args: arguments(1, 1)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, id int64, _ []string) error {
		j, err := s.api.UpdateJob(cmd.Context(), s.account, id, logjob.Update{Enabled: &on})
		if err != nil {
			return s.explain(name+" the job", err)
		}
		return s.show(func(out io.Writer) { fmt.Fprintf(out, "Job %d: %s\n", j.ID, stateOf(j)) })
	})
	return command
}

func jobsDelete(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "delete JOB", Short: "Delete a job", Args: arguments(1, 1)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, id int64, _ []string) error {
		if err := s.api.DeleteJob(cmd.Context(), s.account, id); err != nil {
			return s.explain("delete the job", err)
		}
		return s.show(func(out io.Writer) { fmt.Fprintf(out, "Deleted job %d\n", id) })
	})
	return command
}
