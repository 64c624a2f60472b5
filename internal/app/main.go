package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Main is the main function of a binary that plays the given roles. It returns
// the exit status: 0 after a clean stop, 1 after a failure, 2 for a command line
// that cannot be used.
func Main(name, short string, roles ...Role) int {
	if slices.Contains(roles, RoleGateway) {
		TuneCollector()
	}
	config := DefaultConfig(roles...)
	command := &cobra.Command{
		Use: name, Short: short, Version: ThisBuild().String(), Args: noArguments,
		SilenceUsage: true, SilenceErrors: true,
		PreRunE: func(cmd *cobra.Command, _ []string) error { return Prepare(cmd, &config) },
		RunE:    func(cmd *cobra.Command, _ []string) error { return Run(cmd.Context(), config) },
	}
	command.SetVersionTemplate(VersionTemplate)
	config.Bind(command.Flags())
	return Execute(command)
}

func noArguments(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// Prepare reads the environment and the file with settings into the flags that were not
// given, and checks the result.
func Prepare(cmd *cobra.Command, config *Config) error {
	if err := ReadSettings(cmd.Flags()); err != nil {
		return usageError{err}
	}
	if err := Located(cmd.Flags(), config.Validate()); err != nil {
		return usageError{err}
	}
	return nil
}

// Execute runs a command until it ends or the process is told to stop. The first
// SIGTERM or SIGINT stops in order; the second ends the process at once.
func Execute(command *cobra.Command) int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	context.AfterFunc(ctx, cancel)
	command.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError{plainFlagError(cmd, err)} })
	called, err := command.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", command.Name(), err)
	if errors.As(err, new(usageError)) {
		fmt.Fprintf(os.Stderr, "See %s --help.\n", called.CommandPath())
		return 2
	}
	if errors.As(err, new(Undecided)) {
		return 2
	}
	return 1
}

// flagForms says what flags of a type take, where pflag quotes the parser.
var flagForms = map[string]string{
	"bool":     "true or false",
	"duration": "a duration, such as 90s, 5m or 1h30m",
	"float64":  "a number, such as 0.5",
	"int":      "a whole number",
	"int64":    "a whole number",
}

// plainFlagError says of a flag's refusal what would be taken: the form of its value, or flags with names like it.
func plainFlagError(cmd *cobra.Command, err error) error {
	if bad, is := errors.AsType[*pflag.InvalidValueError](err); is {
		if form := flagForms[bad.GetFlag().Value.Type()]; form != "" {
			plain := fmt.Sprintf("--%s is %q: it must be %s", bad.GetFlag().Name, bad.GetValue(), form)
			return errors.New(strings.Replace(err.Error(), bad.Error(), plain, 1)) // what is around it names a variable
		}
	}
	unknown, is := errors.AsType[*pflag.NotExistError](err)
	if !is || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	names := &cobra.Command{SuggestionsMinimumDistance: SlipMax(unknown.GetSpecifiedName())} // cobra compares names of commands only
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		names.AddCommand(&cobra.Command{Use: flag.Name, Run: func(*cobra.Command, []string) {}})
	})
	if near := names.SuggestionsFor(unknown.GetSpecifiedName()); len(near) > 0 {
		return fmt.Errorf("%w; did you mean --%s?", err, strings.Join(near, " or --"))
	}
	return err
}

// SlipMax is in how many letters another name may differ from a word that is none and still be
// what was meant: of three letters, two may be changed to nearly anything.
func SlipMax(word string) int { return max(1, len(word)/3) }

// usageError marks what a person can mend on the command line.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }
