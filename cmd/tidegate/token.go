package main

import (
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
		Example: "  tidegate token create --name ci --scope scripts:edit --expires-in 720h",
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "name", "scope"); err != nil {
				return err
			}
			if expiresIn < 0 {
				return usage(cmd, fmt.Errorf("--expires-in %s has passed", expiresIn))
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
	flags.DurationVar(&expiresIn, "expires-in", 0, "how long it is valid (default: for ever)")
	return command
}
