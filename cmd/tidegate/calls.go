package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"tidegate/internal/api/client"
)

func metricsCalls(c *connection) *cobra.Command {
	var when asked
	var q client.CallQuery
	command := &cobra.Command{
		Use: "calls", Short: "Show which versions of Workers called which, the busiest pairs first",
		Example: "  tidegate metrics calls --callee stock --since 10m", Args: arguments(0, 0),
	}
	when.flags(command, false)
	flags := command.Flags()
	flags.StringVar(&q.Caller, "caller", "", "only calls by this script")
	flags.StringVar(&q.Callee, "callee", "", "only calls of this script")
	flags.IntVar(&q.Limit, "limit", 0, "show so many pairs at most, up to 1000 (default: 200)")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := aboveZero(cmd, "limit"); err != nil {
			return err
		}
		var err error
		if q.Range, err = when.between(cmd); err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		calls, err := s.api.Calls(cmd.Context(), s.account, q)
		if err != nil {
			return s.explain("ask for the calls between Workers", err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(calls.Pairs))
			for i, p := range calls.Pairs {
				caller := "unknown (RPC)"
				if p.Caller != nil {
					caller = calledName(*p.Caller)
				}
				rows[i] = []string{caller, calledName(p.Callee), count(p.Requests), count(p.Failures), rate(p.FailureRate)}
			}
			s.period(out, calls.Since, calls.Until)
			s.table(out, []string{"CALLER", "CALLEE", "REQUESTS", "FAILURES", "RATE"}, rows)
			if more := calls.TotalPairs - len(calls.Pairs); more > 0 {
				fmt.Fprintf(out, "%d more pairs: --limit shows them.\n", more)
			}
		})
	}
	return command
}

// calledName reads "stock v2 (1a2b3c4d)".
func calledName(v client.CalledVersion) string {
	if v.Tag == "" {
		return v.Script + " " + short(v.VersionID)
	}
	return fmt.Sprintf("%s %s (%s)", v.Script, v.Tag, short(v.VersionID))
}
