package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/schema/control"
)

func tokenCreate(c *connection) *cobra.Command {
	var name string
	var scopes []string
	var expiresIn time.Duration
	known := make([]string, len(control.Scopes))
	for i, scope := range control.Scopes {
		known[i] = string(scope)
	}
	command := &cobra.Command{
		Use: "create --name NAME --scope SCOPE...", Short: "Make an API token of the account",
		Example: "  tidegate token create --name ci --scope scripts:edit --expires-in 30d",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "name", "scope"); err != nil {
				return err
			}
			if err := aboveZero(cmd, "expires-in"); err != nil {
				return err
			}
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			token := control.Token{AccountID: s.account, Name: name}
			for _, scope := range scopes {
				token.Scopes = append(token.Scopes, control.Scope(scope))
			}
			if expiresIn > 0 {
				token.ExpiresOn = time.Now().Add(expiresIn)
			}
			made, secret, err := s.api.CreateToken(cmd.Context(), token)
			if err != nil {
				return s.explain("make a token", err)
			}
			return s.show(func(out io.Writer) {
				properties(out, [][]string{
					{"ID", made.ID}, {"Name", made.Name}, {"Scopes", strings.Join(scopes, ", ")}, {"Expires", moment(made.ExpiresOn)},
					{"Token", secret},
				})
				fmt.Fprintln(out, "The token is shown only now. Keep it in a file for --token-file, or in TIDEGATE_TOKEN.")
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&name, "name", "", "who uses it")
	flags.StringSliceVar(&scopes, "scope", nil, "what it may do, one or more of "+strings.Join(known, ", "))
	lengthVar(flags, &expiresIn, "expires-in", "how long it is valid, such as 30d (default: for ever)")
	return command
}

func tokenList(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the API tokens of the account, with their last use", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			list, err := s.api.Tokens(cmd.Context(), s.account)
			if err != nil {
				return s.explain("list the tokens", err)
			}
			rows := make([][]string, len(list))
			for i, t := range list {
				rows[i] = []string{t.ID, t.Name, joined(t.Scopes), cmp.Or(moment(t.LastUsedOn), "never"), cmp.Or(moment(t.ExpiresOn), "never")}
			}
			return s.show(func(out io.Writer) {
				s.table(out, []string{"ID", "NAME", "SCOPES", "LAST USED", "EXPIRES"}, rows)
			})
		},
	}
}

func tokenDelete(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "End an API token, and the sessions of the dashboard that stand for it", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			if err := s.api.DeleteToken(cmd.Context(), s.account, args[0]); err != nil {
				return s.explain("delete the token "+args[0], err)
			}
			return s.show(func(out io.Writer) { fmt.Fprintf(out, "The token %s opens nothing any more.\n", oneLine(args[0])) })
		},
	}
}

func joined(scopes []control.Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}
