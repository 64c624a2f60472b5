package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// parseLength reads what time.ParseDuration does, and whole days.
func parseLength(text string) (time.Duration, error) {
	if number, isDays := strings.CutSuffix(text, "d"); isDays {
		if days, err := strconv.ParseUint(number, 10, 16); err == nil {
			return time.Duration(days) * 24 * time.Hour, nil
		}
	}
	return time.ParseDuration(text)
}

// lengthValue is the value of a flag that parseLength reads.
type lengthValue time.Duration

func (l *lengthValue) String() string { return time.Duration(*l).String() }

// Type is that of pflag's own, so that a refusal says what such flags take.
func (l *lengthValue) Type() string { return "duration" }

func (l *lengthValue) Set(text string) error {
	d, err := parseLength(text)
	*l = lengthValue(d)
	return err
}

// lengthVar declares a flag that is zero unless it is given.
func lengthVar(flags *pflag.FlagSet, d *time.Duration, name, usage string) {
	flags.VarPF((*lengthValue)(d), name, "", usage).DefValue = "" // which --help would show
}

// timeFlag reads a time, or how long ago it was.
func timeFlag(cmd *cobra.Command, name, text string) (time.Time, error) {
	if text == "now" {
		text = "0s"
	}
	if ago, err := parseLength(text); err == nil && ago >= 0 {
		return time.Now().Add(-ago).UTC().Truncate(time.Millisecond), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, usage(cmd, fmt.Errorf("--%s is %q: it must be a time such as 2026-11-01T00:00:00Z, how long ago, such as 36h or 7d, or now", name, text))
	}
	return at, nil
}
