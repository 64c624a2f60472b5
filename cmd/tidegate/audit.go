package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
)

func audit(c *connection) *cobra.Command {
	var q client.AuditQuery
	var since, before string
	command := &cobra.Command{
		Use: "audit [ENTRY]", Short: "List what was changed, by whom, or show one change with before and after",
		Example: "  tidegate audit --resource shop --since 24h\n  tidegate audit --action deployment.create --email ann@example.com",
		Args:    arguments(0, 1),
	}
	flags := command.Flags()
	flags.StringVar(&q.Resource, "resource", "", "only of this thing and what belongs to it, such as a script")
	flags.StringVar(&q.Action, "action", "", "only this action, such as deployment.create, or all of a kind, such as deployment")
	flags.StringVar(&q.ActorEmail, "email", "", "only by who has this e-mail address")
	flags.StringVar(&q.ActorID, "by-token", "", "only by the token with this id")
	flags.StringVar(&q.ActorType, "by", "", "only by a user, or by the system itself: user or system")
	flags.StringVar(&since, "since", "", "only from this time on, such as 2026-11-01T00:00:00Z, or so long ago, such as 36h or 7d")
	flags.StringVar(&before, "before", "", "only before this time, or so long ago")
	flags.IntVar(&q.Page, "page", 1, "of the list; 100 entries each")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if err := aboveZero(cmd, "page"); err != nil {
			return err
		}
		for _, one := range []struct {
			name, text string
			into       *time.Time
		}{{"since", since, &q.Since}, {"before", before, &q.Before}} {
			if one.text == "" {
				continue
			}
			var err error
			if *one.into, err = timeFlag(cmd, one.name, one.text); err != nil {
				return err
			}
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if len(args) == 1 {
			q = client.AuditQuery{ID: args[0]}
		}
		list, total, err := s.api.AuditLog(cmd.Context(), s.account, q)
		if err != nil {
			return s.explain("read the audit log", err)
		}
		if len(args) == 1 && len(list) == 0 {
			return fmt.Errorf("read the audit log: this account has no entry %q", args[0])
		}
		return s.show(func(out io.Writer) {
			if len(args) == 1 {
				writeAuditEntry(out, list[0])
				return
			}
			rows := make([][]string, len(list))
			for i, e := range list {
				rows[i] = []string{moment(e.When), e.Action.Type, cut(e.Resource.ID), auditActor(e), e.Interface, e.ID}
			}
			s.table(out, []string{"WHEN", "ACTION", "WHAT", "BY", "THROUGH", "ID"}, rows)
			if len(list) < total {
				fmt.Fprintf(out, "%d of %d\n", len(list), total)
			}
		})
	}
	return command
}

func auditActor(e client.AuditEntry) string {
	switch {
	case e.Actor.Email != "":
		return e.Actor.Email
	case e.Actor.ID != "":
		return "token " + e.Actor.ID
	}
	return e.Actor.Type
}

func writeAuditEntry(out io.Writer, e client.AuditEntry) {
	properties(out, [][]string{
		{"Change", e.ID}, {"When", moment(e.When)}, {"Action", e.Action.Type}, {"What", e.Resource.ID},
		{"By", auditActor(e)}, {"Token", e.Actor.ID}, {"Through", e.Interface},
	})
	for _, part := range []struct {
		name string
		text json.RawMessage
	}{{"Before", e.Before}, {"After", e.After}} {
		if len(part.text) == 0 {
			continue
		}
		var shown bytes.Buffer
		if json.Indent(&shown, part.text, "", "  ") != nil { // it was decoded as JSON
			continue
		}
		fmt.Fprintf(out, "\n%s\n%s\n", part.name, shown.String())
	}
}
