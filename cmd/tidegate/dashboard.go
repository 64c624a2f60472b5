package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

func dashboard(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "dashboard", Short: "Make a link that signs a browser in, once",
		Long: "Make a link that signs a browser in to the dashboard, once. The session can do what the API token can, and ends with it.",
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := c.openAny(cmd)
			if err != nil {
				return err
			}
			link, err := s.api.CreateSessionLink(cmd.Context())
			if err != nil {
				return s.explain("make a link to the dashboard", err)
			}
			return s.show(func(out io.Writer) {
				fmt.Fprintln(out, link.URL)
				fmt.Fprintf(out, "Open it until %s: it signs in once, as whoever the token is.\n", link.ExpiresOn.Local().Format(time.TimeOnly))
			})
		},
	}
}
