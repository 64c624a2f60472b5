package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/internal/errs"
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
	var all bool
	command := &cobra.Command{
		Use: "resend JOB [LETTER]", Short: "Send a dead letter, or the least tried ones, to the job's destination",
		Long: "Send a dead letter to the job's destination, or without one up to 100 that wait, the least tried first.\n" +
			"With --all it goes on until none is left that was not tried, or the destination takes none any more.",
		Args: arguments(1, 2),
	}
	command.Flags().BoolVar(&all, "all", false, "go on with the next 100 until none is left, or none is taken")
	command.RunE = onJob(c, func(cmd *cobra.Command, s *session, job int64, rest []string) error {
		if len(rest) == 1 {
			if all {
				return usage(cmd, errors.New("name a letter, or say --all, but not both"))
			}
			one, err := s.api.ResendDeadLetter(cmd.Context(), s.account, job, rest[0])
			if err != nil {
				return s.explain("send a dead letter", err)
			}
			return s.show(func(out io.Writer) { writeResent(out, one) })
		}
		sent, err := s.api.ResendDeadLetters(cmd.Context(), s.account, job)
		if err != nil {
			return s.explain("send the dead letters", err)
		}
		if all {
			return s.resendAll(cmd, job, sent)
		}
		return s.show(func(out io.Writer) {
			writeResents(out, sent)
			if sent.Left > 0 {
				fmt.Fprintln(out, "Run it again for those that are left, or with --all")
			}
		})
	})
	return command
}

// resendAll goes on after a first request, and shows what became of each letter in the end.
func (s *session) resendAll(cmd *cobra.Command, job int64, sent client.ResentAll) error {
	at := map[string]int{} // those that were refused may come again
	for i, one := range sent.Letters {
		at[one.ID] = i
	}
	var failed error
	for round := sent; round.Left > 0 && slices.ContainsFunc(round.Letters, taken); sent.Left = round.Left {
		if round, failed = s.api.ResendDeadLetters(cmd.Context(), s.account, job); failed != nil {
			break
		}
		for _, one := range round.Letters {
			if i, again := at[one.ID]; again {
				sent.Letters[i] = one
				continue
			}
			at[one.ID] = len(sent.Letters)
			sent.Letters = append(sent.Letters, one)
		}
	}
	var err error
	if s.answers.result, err = json.Marshal(sent); err != nil {
		return err
	}
	if err := s.show(func(out io.Writer) { writeResents(out, sent) }); err != nil {
		return err
	}
	if failed != nil {
		return s.explain("send the other dead letters", failed)
	}
	return nil
}

func taken(one client.Resent) bool { return one.Error == nil }

func writeResents(out io.Writer, sent client.ResentAll) {
	refused := 0
	for _, one := range sent.Letters {
		writeResent(out, one)
		if !taken(one) {
			refused++
		}
	}
	fmt.Fprintf(out, "%d tried, %d of them not taken, %d left\n", len(sent.Letters), refused, sent.Left)
}

func writeResent(out io.Writer, one client.Resent) {
	if one.Error != nil {
		fmt.Fprintf(out, "%s was not taken: %s\n", one.ID, oneLine(*one.Error))
		return
	}
	fmt.Fprintf(out, "%s was taken\n", one.ID)
}

func lettersDelete(c *connection) *cobra.Command {
	var all, yes bool
	command := &cobra.Command{
		Use: "delete JOB [LETTER]...", Short: "Let dead letters go",
		Long: "Let dead letters go, those that are named or with --all every one of the job that waits. On a terminal --all\n" +
			"asks before; without one it takes --yes.",
		Args: arguments(1, -1),
	}
	command.Flags().BoolVar(&all, "all", false, "every letter of the job that waits")
	command.Flags().BoolVarP(&yes, "yes", "y", false, "ask nothing")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 1) {
			return usage(cmd, errors.New("say what to delete, by the ids of letters or with --all, but not with both"))
		}
		person := newPrompt()
		if all && !yes && !person.there() {
			return usage(cmd, errors.New("nobody can be asked here, and it cannot be undone: say --yes"))
		}
		return onJob(c, func(cmd *cobra.Command, s *session, job int64, ids []string) error {
			if all {
				var err error
				if ids, err = s.waitingLetters(cmd.Context(), job); err != nil {
					return s.explain("list the dead letters", err)
				}
				if len(ids) > 0 && !yes {
					if err := person.confirm(cmd.Context(), fmt.Sprintf("Delete %s of job %d? It cannot be undone", counted(len(ids), "dead letter"), job)); err != nil {
						return fmt.Errorf("delete dead letters: %w", err)
					}
				}
			}
			deleted := 0
			for _, id := range ids {
				err := s.api.DeleteDeadLetter(cmd.Context(), s.account, job, id)
				if kind := errs.KindOf(err); all && (kind == errs.Conflict || kind == errs.NotFound) {
					continue // somebody else was faster
				}
				if err != nil {
					return s.explain("delete dead letter "+id, err)
				}
				deleted++
			}
			return s.show(func(out io.Writer) { fmt.Fprintf(out, "Deleted %d\n", deleted) })
		})(cmd, args)
	}
	return command
}

// waitingLetters returns the ids of all letters of a job that wait.
func (s *session) waitingLetters(ctx context.Context, job int64) (ids []string, err error) {
	for page := 1; ; page++ {
		list, total, err := s.api.DeadLetters(ctx, s.account, job, logjob.LetterNew, page, lettersPage)
		if err != nil {
			return nil, err
		}
		for _, l := range list {
			ids = append(ids, l.ID)
		}
		if len(list) == 0 || len(ids) >= total {
			return ids, nil
		}
	}
}
