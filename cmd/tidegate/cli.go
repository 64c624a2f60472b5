package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
)

// clientCommands are those that talk to the API of a running platform.
func clientCommands() []*cobra.Command {
	c := newConnection()
	commands := []*cobra.Command{
		group("versions", "Upload versions of a script, and deploy them",
			versionsUpload(c), versionsList(c), versionsView(c), versionsDeploy(c)),
		group("deployments", "Show how the traffic of a script is divided",
			deploymentsList(c), deploymentsStatus(c)),
		rollback(c),
		group("policy", "Say when a version is taken out of traffic",
			policyCommands(c)...),
		group("affinity", "Keep clients and objects on one version",
			affinityGet(c), affinitySet(c), affinityDelete(c)),
		group("sampling", "Keep fewer trace events of a busy script",
			samplingGet(c), samplingSet(c)),
		group("metrics", "Ask what scripts and their versions did",
			metricsShow(c), metricsCompare(c), metricsOverview(c), metricsCalls(c)),
		group("events", "Look at single requests, and at what they threw",
			eventsList(c), eventsView(c), eventsExceptions(c)),
		tail(c),
		group("redaction", "Keep secrets and people out of trace events",
			redactionGet(c), redactionSet(c), redactionDelete(c)),
		group("data", "Delete what was recorded",
			dataDelete(c), dataDeletions(c)),
		group("jobs", "Deliver trace events with Logpush jobs",
			jobsCreate(c), jobsList(c), jobsView(c), jobsTest(c), jobsUpdate(c), jobsSwitch(c, true), jobsSwitch(c, false), jobsDelete(c),
			jobsTail(c), deadLetters(c), jobsReplay(c), jobsReplays(c), jobsReplayCancel(c), jobsHealth(c)),
		group("alerts", "Be told when a Logpush job fails",
			alertsGet(c), alertsSet(c), alertsDelete(c)),
		group("token", "Make and end API tokens", tokenCreate(c), tokenList(c), tokenDelete(c), tokenRoll(c)),
		dashboard(c),
		audit(c),
	}
	for _, command := range commands {
		command.PersistentFlags().AddFlagSet(c.flags)
	}
	return commands
}

// group is a command that only holds others.
func group(name, short string, children ...*cobra.Command) *cobra.Command {
	command := &cobra.Command{Use: name, Short: short}
	onlyHolds(command)
	command.AddCommand(children...)
	return command
}

// onlyHolds makes a command print its help when it is called alone, and refuse
// the name of a command that it does not hold. Left to itself, cobra prints the
// help of a group for any word, and the script goes on.
func onlyHolds(command *cobra.Command) {
	command.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		var names []string
		for _, child := range cmd.Commands() {
			if child.IsAvailableCommand() {
				names = append(names, child.Name())
			}
		}
		text := fmt.Sprintf("%s has no command %q: it has %s", cmd.CommandPath(), args[0], strings.Join(names, ", "))
		meant := below(cmd, args[0])
		if len(meant) != 1 { // such as list, which nearly every group has
			cmd.SuggestionsMinimumDistance = app.SlipMax(args[0])
			meant = cmd.SuggestionsFor(args[0])
		}
		if len(meant) > 0 {
			text += "; did you mean " + strings.Join(meant, " or ") + "?"
		}
		return usage(cmd, errors.New(text))
	}
	command.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
}

// below returns the commands of a name that the commands below one hold, such as "versions deploy".
func below(cmd *cobra.Command, name string) (found []string) {
	for _, group := range cmd.Commands() {
		for _, child := range group.Commands() {
			if child.Name() == name && child.IsAvailableCommand() {
				found = append(found, group.Name()+" "+name)
			}
		}
	}
	return found
}

// usage marks an error as one to mend on the command line: exit status 2.
func usage(cmd *cobra.Command, err error) error { return cmd.FlagErrorFunc()(cmd, err) }

// arguments requires from least to most of them; most below zero is any number. Those that must be
// there stand first in the command's Use. None is empty: such is a variable of a shell that is not
// set, and no name of anything.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			missing := strings.Join(strings.Fields(cmd.Use)[1+len(args):1+least], " ")
			return usage(cmd, fmt.Errorf("%s needs %s: %s", cmd.CommandPath(), strings.TrimSuffix(missing, "..."), cmd.UseLine()))
		case most >= 0 && len(args) > most:
			return usage(cmd, fmt.Errorf("too many arguments: %s", cmd.UseLine()))
		}
		for i, arg := range args {
			if strings.TrimSpace(arg) == "" {
				return usage(cmd, fmt.Errorf("argument %d is empty: %s", i+1, cmd.UseLine()))
			}
		}
		return nil
	}
}

// aboveZero refuses numbers and times that were given and are not above zero. They would be taken
// for a flag that was not given.
func aboveZero(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		flag := cmd.Flags().Lookup(name)
		if text := flag.Value.String(); flag.Changed && (text == "0" || text == "0s" || strings.HasPrefix(text, "-")) {
			_, meaning := pflag.UnquoteUsage(flag)
			return usage(cmd, fmt.Errorf("--%s is %s: it must be above 0: %s", name, text, meaning))
		}
	}
	return nil
}

// required refuses flags that were left out.
func required(cmd *cobra.Command, flags ...string) error {
	for _, name := range flags {
		if flag := cmd.Flags().Lookup(name); flag.Value.String() == "" || flag.Value.String() == "[]" {
			_, meaning := pflag.UnquoteUsage(flag)
			return usage(cmd, fmt.Errorf("%s needs --%s: %s", cmd.CommandPath(), name, meaning))
		}
	}
	return nil
}
