package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
)

// What one command reads from the environment is no fault to another one, or to a process.
func TestVariablesOfCommandsAreKnown(t *testing.T) {
	read := func(flags *pflag.FlagSet) {
		flags.VisitAll(func(flag *pflag.Flag) {
			t.Setenv("TIDEGATE_"+strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")), flag.DefValue)
		})
	}
	var look func(*cobra.Command)
	look = func(command *cobra.Command) {
		read(command.LocalFlags())
		for _, child := range command.Commands() {
			look(child)
		}
	}
	for _, command := range []*cobra.Command{upCommand(), verifyCommand(), secretsCommand(), backupCommand(), restoreCommand(), doctorCommand()} {
		look(command)
	}
	read(newConnection().flags)
	if err := app.FromEnvironment(pflag.NewFlagSet("", pflag.ContinueOnError)); err != nil {
		t.Error(err)
	}
	t.Setenv("TIDEGATE_TOKEN_FIEL", "x")
	if err := app.FromEnvironment(pflag.NewFlagSet("", pflag.ContinueOnError)); err == nil || !strings.Contains(err.Error(), "did you mean TIDEGATE_TOKEN_FILE?") {
		t.Errorf("the error is %v", err)
	}
}
