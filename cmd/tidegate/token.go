package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/app"
	"tidegate/schema/control"
)

func tokenCreate(c *connection) *cobra.Command {
	var name string
	var scopes []string
	var expiresIn time.Duration
	var operator bool
	known := make([]string, len(control.Scopes))
	for i, scope := range control.Scopes {
		known[i] = string(scope)
	}
	command := &cobra.Command{
		Use: "create --name NAME --scope SCOPE...", Short: "Make an API token of the account, or of operators",
		Example: "  tidegate token create --name ci --scope scripts:edit --expires-in 30d\n  tidegate token create --operator --name ann --expires-in 90d",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			needed := []string{"name", "scope"}
			if operator {
				needed = needed[:1]
				if cmd.Flags().Changed("scope") {
					return usage(cmd, errors.New("--scope and --operator do not go together: an operator's token opens everything"))
				}
			}
			if err := required(cmd, needed...); err != nil {
				return err
			}
			if err := aboveZero(cmd, "expires-in"); err != nil {
				return err
			}
			s, err := c.openTokens(cmd, operator)
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
			create := s.api.CreateToken
			if operator {
				create = s.api.CreateOperatorToken
			}
			made, secret, err := create(cmd.Context(), token)
			if err != nil {
				return s.explain("make a token", err)
			}
			return s.show(func(out io.Writer) {
				properties(out, [][]string{
					{"ID", made.ID}, {"Name", made.Name}, {"Scopes", joined(made.Scopes)}, {"Expires", moment(made.ExpiresOn)},
					{"Token", secret},
				})
				fmt.Fprintln(out, secretOnce)
			})
		},
	}
	flags := command.Flags()
	flags.StringVar(&name, "name", "", "who uses it")
	flags.StringSliceVar(&scopes, "scope", nil, "what it may do, one or more of "+strings.Join(known, ", "))
	lengthVar(flags, &expiresIn, "expires-in", "how long it is valid, such as 30d (default: for ever)")
	operatorVar(command, &operator)
	return command
}

// secretOnce is said below a secret.
const secretOnce = "The token is shown only now. Keep it in a file for --token-file, or in TIDEGATE_TOKEN."

// operatorVar adds the flag of commands that are about operators' tokens, too.
func operatorVar(command *cobra.Command, operator *bool) {
	command.Flags().BoolVar(operator, "operator", false, "of operators, whose tokens open everything in every account, and not of the account; it takes such a token")
}

// openTokens needs no account for operators' tokens, which are of none.
func (c *connection) openTokens(cmd *cobra.Command, operator bool) (*session, error) {
	if operator {
		return c.openAny(cmd)
	}
	return c.open(cmd)
}

func tokenList(c *connection) *cobra.Command {
	var operator bool
	command := &cobra.Command{
		Use: "list", Short: "List the API tokens of the account, or of operators, with their authors and last use", Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.openTokens(cmd, operator)
			if err != nil {
				return err
			}
			var list []control.Token
			if operator {
				list, err = s.api.OperatorTokens(cmd.Context())
			} else {
				list, err = s.api.Tokens(cmd.Context(), s.account)
			}
			if err != nil {
				return s.explain("list the tokens", err)
			}
			rows := make([][]string, len(list))
			for i, t := range list {
				rows[i] = []string{t.ID, t.Name, joined(t.Scopes), t.Email, cmp.Or(moment(t.LastUsedOn), "never"), cmp.Or(moment(t.ExpiresOn), "never")}
			}
			return s.show(func(out io.Writer) {
				s.table(out, []string{"ID", "NAME", "SCOPES", "AUTHOR", "LAST USED", "EXPIRES"}, rows)
			})
		},
	}
	operatorVar(command, &operator)
	return command
}

func tokenDelete(c *connection) *cobra.Command {
	var operator bool
	command := &cobra.Command{
		Use: "delete ID", Short: "End an API token, and the sessions of the dashboard that stand for it", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.openTokens(cmd, operator)
			if err != nil {
				return err
			}
			if operator {
				err = s.api.DeleteOperatorToken(cmd.Context(), args[0])
			} else {
				err = s.api.DeleteToken(cmd.Context(), s.account, args[0])
			}
			if err != nil {
				return s.explain("delete the token "+args[0], err)
			}
			return s.show(func(out io.Writer) { fmt.Fprintf(out, "The token %s opens nothing any more.\n", oneLine(args[0])) })
		},
	}
	operatorVar(command, &operator)
	return command
}

func tokenRoll(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "roll ID", Short: "Give an operator's token another secret, and end the old one with its sessions", Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.openAny(cmd)
			if err != nil {
				return err
			}
			secret, err := s.api.RollOperatorToken(cmd.Context(), args[0])
			if err != nil {
				return s.explain("roll the token "+args[0], err)
			}
			return s.show(func(out io.Writer) {
				properties(out, [][]string{{"ID", args[0]}, {"Token", secret}})
				fmt.Fprintln(out, secretOnce)
			})
		},
	}
}

// recoverCommand is for whoever has the database and no operator's token any more. It stands beside
// "backup" and "restore", and not below "token", whose flags say where the API is.
func recoverCommand() *cobra.Command {
	var d databaseFlags
	command := &cobra.Command{
		Use: "recover-token FILE", Short: "Replace a lost operator's token, by the database itself",
		Long: "Make an operator's token, write it to a file that only its owner may read, and end all other operators' tokens with their sessions: nobody\n" +
			"could say which of them is lost. Tokens of accounts and of routers go on. The platform may run. FILE - is standard output.\n" +
			"It talks to the database, not to the API, and leaves an entry in the audit log.",
		Example: "  tidegate recover-token data/admin-token\n  tidegate recover-token --database postgres://tidegate@postgres/tidegate admin-token",
		Args:    arguments(1, 1),
	}
	d.bind(command)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		database, err := d.open(cmd)
		if err != nil {
			return err
		}
		ended, err := app.RecoverOperator(cmd.Context(), database, args[0])
		if err != nil || args[0] == "-" {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the operator's token; the others, %d, open nothing any more\n", args[0], len(ended))
		return err
	}
	return command
}

func joined(scopes []control.Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}
