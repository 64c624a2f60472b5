package main

import (
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func samplingGet(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "get SCRIPT", Short: "Show how a script's trace events are sampled",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			sampling, err := s.api.Sampling(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("read the sampling of "+args[0], err)
			}
			return s.show(func(out io.Writer) { writeSampling(out, args[0], sampling) })
		},
	}
}

func samplingSet(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "set SCRIPT RATE", Short: "Keep the trace events of a share of a script's requests",
		Long: "Of the requests that succeed, this share leaves a trace event; failures always do, and counts stay those of all requests.\n" +
			"The rate is a share such as 1% or 0.01; 100% keeps every event.",
		Example: "  tidegate sampling set shop 1%",
		Args:    arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			sampling, err := parseSampling(args[1])
			if err != nil { // refused before anything is asked of the API
				return usage(cmd, err)
			}
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			if err := s.api.SaveSampling(cmd.Context(), s.account, args[0], sampling); err != nil {
				return s.explain("set the sampling of "+args[0], err)
			}
			return s.show(func(out io.Writer) { writeSampling(out, args[0], sampling) })
		},
	}
}

func parseSampling(text string) (deploy.Sampling, error) {
	rate, err := parseShare(text)
	if err != nil {
		return deploy.Sampling{}, fmt.Errorf("rate %q: it must be a share such as 1%% or 0.01", text)
	}
	sampling := deploy.Sampling{HeadSamplingRate: rate}
	return sampling, sampling.Validate()
}

func writeSampling(out io.Writer, script string, s deploy.Sampling) {
	if s == deploy.DefaultSampling() {
		fmt.Fprintf(out, "%s keeps every trace event.\n", oneLine(script))
		return
	}
	// A share such as 0.07 is no whole number of percent in floating point.
	percent := strconv.FormatFloat(math.Round(s.HeadSamplingRate*1e10)/1e8, 'f', -1, 64)
	fmt.Fprintf(out, "%s keeps the trace events of failures, and of %s%% of its other requests.\n", oneLine(script), percent)
}
