package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
	"tidegate/schema"
)

// deletionPoll is how often a deletion is looked at that is followed.
const deletionPoll = time.Second

func dataDelete(c *connection) *cobra.Command {
	var before string
	var all, yes, follow bool
	command := &cobra.Command{
		Use: "delete [SCRIPT] [--before TIME]", Short: "Delete what was recorded of a script, or of the whole account",
		Long: "Delete trace events, records in the quarantine, rates and dead letters of one script, or with --all-scripts of the account.\n" +
			"It cannot be undone, and late events of that time are not stored any more. Scripts, versions and jobs stay.\n" +
			"On a terminal you are asked to type the name; without one it takes --yes.",
		Example: "  tidegate data delete shop\n  tidegate data delete shop --before 720h --yes --follow\n  tidegate data delete --all-scripts",
		Args:    arguments(0, 1),
	}
	flags := command.Flags()
	flags.StringVar(&before, "before", "", "only events from before this time, such as 2026-11-01T00:00:00Z, or so long ago, such as 720h (default: all up to now)")
	flags.BoolVar(&all, "all-scripts", false, "delete what was recorded of every script of the account")
	flags.BoolVarP(&yes, "yes", "y", false, "ask nothing")
	flags.BoolVar(&follow, "follow", false, "wait until it is done")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) == 1) {
			return usage(cmd, errors.New("say what to delete, by the name of a script or with --all-scripts, but not with both"))
		}
		q := client.DeletionRequest{AllScripts: all}
		if !all {
			q.Script = args[0]
		}
		if before != "" {
			at, err := timeFlag(cmd, "before", before)
			if err != nil {
				return err
			}
			q.Before = &at
		}
		person := newPrompt()
		if !yes && !person.there() {
			return usage(cmd, errors.New("nobody can be asked here, and it cannot be undone: say --yes"))
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if !yes {
			question, name := deletionQuestion(q, s.account)
			if err := person.typed(cmd.Context(), question, name); err != nil {
				return fmt.Errorf("delete data: %w", err)
			}
		}
		d, err := s.api.CreateDeletion(cmd.Context(), s.account, q)
		if err != nil {
			return s.explain("delete data", err)
		}
		if follow {
			return s.followDeletion(cmd, d)
		}
		return s.show(func(out io.Writer) {
			fmt.Fprintf(out, "Deletion %s has been asked for; tidegate data deletions %s shows how far it is\n", d.ID, d.ID)
		})
	}
	return command
}

// deletionQuestion returns what a person is asked, and has to type.
func deletionQuestion(q client.DeletionRequest, account string) (question, name string) {
	what, name := "script "+q.Script, q.Script
	if q.AllScripts {
		what, name = "every script of account "+account, account
	}
	until := "up to now"
	if q.Before != nil {
		until = "before " + moment(*q.Before)
	}
	return fmt.Sprintf("Delete what was recorded of %s %s? It cannot be undone. Type %s", what, until, name), name
}

// followDeletion shows a deletion until it is done.
func (s *session) followDeletion(cmd *cobra.Command, d client.Deletion) error {
	ctx, bar := cmd.Context(), cmd.ErrOrStderr()
	shows := terminal(bar)
	for d.State != schema.DeletionDone {
		if shows {
			fmt.Fprintf(bar, "\r\x1b[K%s", oneLine(deletionBar(&d)))
		}
		if err := sleep(ctx, deletionPoll); err != nil {
			return err
		}
		var err error
		if d, err = s.api.Deletion(ctx, s.account, d.ID); err != nil {
			return s.explain("look at the deletion", err)
		}
	}
	if shows {
		fmt.Fprint(bar, "\r\x1b[K")
	}
	return s.show(func(out io.Writer) { s.writeDeletion(out, &d) })
}

// deletionBar is one line: what is left, and what it waits for.
func deletionBar(d *client.Deletion) string {
	line := d.State
	for _, p := range d.Places {
		if p.RowsLeft > 0 {
			line += fmt.Sprintf(", %s: %d rows left", p.Name, p.RowsLeft)
		}
		if p.PartsLeft > 0 {
			line += fmt.Sprintf(" in %d parts", p.PartsLeft)
		}
	}
	if d.Error != "" {
		line += ": " + cut(d.Error)
	}
	return line
}

func dataDeletions(c *connection) *cobra.Command {
	var page int
	command := &cobra.Command{
		Use: "deletions [DELETION]", Short: "List deletions, newest first, or show how far one is",
		Args: arguments(0, 1),
	}
	command.Flags().IntVar(&page, "page", 1, "of the list; 100 deletions each")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := aboveZero(cmd, "page"); err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			d, err := s.api.Deletion(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("look at the deletion", err)
			}
			return s.show(func(out io.Writer) { s.writeDeletion(out, &d) })
		}
		list, total, err := s.api.Deletions(cmd.Context(), s.account, page)
		if err != nil {
			return s.explain("list the deletions", err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(list))
			for i, d := range list {
				rows[i] = []string{d.ID, d.State, deletionOf(&d), moment(d.Before), moment(d.CreatedOn), optionalMoment(d.EndedOn), d.RequestedBy, cut(d.Error)}
			}
			s.table(out, []string{"ID", "STATE", "SCRIPT", "BEFORE", "CREATED", "DONE", "BY", "ERROR"}, rows)
			if len(list) < total {
				fmt.Fprintf(out, "%d of %d\n", len(list), total)
			}
		})
	}
	return command
}

// writeDeletion shows what was deleted where: the proof that it was done.
func (s *session) writeDeletion(out io.Writer, d *client.Deletion) {
	properties(out, [][]string{
		{"Deletion", d.ID}, {"Of", deletionOf(d)}, {"Before", moment(d.Before)}, {"State", d.State}, {"Requested by", d.RequestedBy},
		{"Requested", moment(d.CreatedOn)}, {"Begun", optionalMoment(d.StartedOn)}, {"Done", optionalMoment(d.EndedOn)},
		{"Last checked", optionalMoment(d.CheckedOn)}, {"Error", d.Error},
	})
	if len(d.Places) == 0 {
		return
	}
	rows := make([][]string, len(d.Places))
	for i, p := range d.Places {
		rows[i] = []string{p.Name, strconv.FormatInt(p.RowsDeleted, 10), strconv.FormatInt(p.RowsLeft, 10), strconv.FormatInt(p.RowsKept, 10)}
	}
	fmt.Fprintln(out)
	s.table(out, []string{"PLACE", "DELETED", "LEFT", "KEPT"}, rows)
}

func deletionOf(d *client.Deletion) string {
	if d.AllScripts {
		return "every script"
	}
	return d.Script
}

func optionalMoment(t *time.Time) string {
	if t == nil {
		return ""
	}
	return moment(*t)
}
