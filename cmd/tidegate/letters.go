package main

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/logjob"
)

// lettersPage is how many letters a list shows at most.
const lettersPage = 100

func deadLetters(c *connection) *cobra.Command {
	return group("dead-letters", "What a job's destination refused for good",
		lettersList(c), lettersShow(c), lettersResend(c), lettersDelete(c))
}

// jobArgument reads the first argument.
func jobArgument(cmd *cobra.Command, args []string) (int64, error) {
	id, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil || id < 1 {
		return 0, usage(cmd, fmt.Errorf("%q is not the id of a job: \"tidegate jobs list\" shows them", args[0]))
	}
	return id, nil
}

// onJob opens a session for a command whose first argument is a job.
func onJob(c *connection, run func(cmd *cobra.Command, s *session, job int64, rest []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		job, err := jobArgument(cmd, args)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		return run(cmd, s, job, args[1:])
	}
}

func lettersList(c *connection) *cobra.Command {
	state := logjob.LetterNew
	command := &cobra.Command{Use: "list JOB", Short: "List the dead letters of a job, oldest first", Args: arguments(1, 1)}
	command.Flags().StringVar(&state, "state", state, "new, resent or deleted")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, _ []string) error {
		list, total, err := s.api.DeadLetters(cmd.Context(), s.account, job, state, 1, lettersPage)
		if err != nil {
			return s.explain("list the dead letters", err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(list))
			for i, l := range list {
				rows[i] = []string{l.ID, moment(l.CreatedOn), strconv.Itoa(l.Records), strconv.FormatInt(l.Bytes, 10), l.State, cut(oneLine(l.Reason))}
			}
			s.table(out, []string{"ID", "SINCE", "RECORDS", "BYTES", "STATE", "REASON"}, rows)
			if total > len(list) {
				fmt.Fprintf(out, "%d more are not shown\n", total-len(list))
			}
		})
	})
	return command
}

func lettersShow(c *connection) *cobra.Command {
	var content bool
	command := &cobra.Command{Use: "show JOB LETTER", Short: "Show a dead letter, or with --content the bytes that were refused", Args: arguments(2, 2)}
	command.Flags().BoolVar(&content, "content", false, "write the content and nothing else")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, rest []string) error {
		if content {
			text, err := s.api.DeadLetterContent(cmd.Context(), s.account, job, rest[0])
			if err != nil {
				return s.explain("read the content of a dead letter", err)
			}
			_, err = io.Copy(s.out, bytes.NewReader(text))
			return err
		}
		l, err := s.api.DeadLetter(cmd.Context(), s.account, job, rest[0])
		if err != nil {
			return s.explain("read a dead letter", err)
		}
		return s.show(func(out io.Writer) {
			properties(out, [][]string{
				{"ID", l.ID}, {"Batch", l.BatchID}, {"Records", strconv.Itoa(l.Records)}, {"Bytes", strconv.FormatInt(l.Bytes, 10)},
				{"Offsets", fmt.Sprintf("%d to %d of partition %d", l.BeginOffset, l.EndOffset-1, l.Partition)},
				{"Events", moment(l.From) + " to " + moment(l.Until)}, {"State", l.State}, {"Since", moment(l.CreatedOn)},
				{"Resent", known(l.ResentOn)}, {"Attempts", strconv.Itoa(l.Attempts)}, {"Reason", oneLine(l.Reason)},
			})
		})
	})
	return command
}

func lettersResend(c *connection) *cobra.Command {
	command := &cobra.Command{
		Use: "resend JOB [LETTER]", Short: "Send a dead letter, or the least tried ones, to the job's destination",
		Args: arguments(1, 2),
	}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, rest []string) error {
		if len(rest) == 1 {
			one, err := s.api.ResendDeadLetter(cmd.Context(), s.account, job, rest[0])
			if err != nil {
				return s.explain("send a dead letter", err)
			}
			return s.show(func(out io.Writer) { writeResent(out, one) })
		}
		all, err := s.api.ResendDeadLetters(cmd.Context(), s.account, job)
		if err != nil {
			return s.explain("send the dead letters", err)
		}
		return s.show(func(out io.Writer) {
			for _, one := range all.Letters {
				writeResent(out, one)
			}
			fmt.Fprintf(out, "%d tried, %d left\n", len(all.Letters), all.Left)
		})
	})
	return command
}

func writeResent(out io.Writer, one client.Resent) {
	if one.Error != nil {
		fmt.Fprintf(out, "%s was not taken: %s\n", one.ID, oneLine(*one.Error))
		return
	}
	fmt.Fprintf(out, "%s was taken\n", one.ID)
}

func lettersDelete(c *connection) *cobra.Command {
	command := &cobra.Command{Use: "delete JOB LETTER...", Short: "Let dead letters go", Args: arguments(2, -1)}
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, rest []string) error {
		for _, id := range rest {
			if err := s.api.DeleteDeadLetter(cmd.Context(), s.account, job, id); err != nil {
				return s.explain("delete dead letter "+id, err)
			}
		}
		return s.show(func(out io.Writer) { fmt.Fprintf(out, "Deleted %d\n", len(rest)) })
	})
	return command
}
