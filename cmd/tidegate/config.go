package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
)

// settings are those of one process.
type settings struct {
	flags    *pflag.FlagSet
	validate func() error
}

// processes have a file with settings each, by what --role calls them.
var processes = map[string]func() settings{
	"up": func() settings {
		f := pflag.NewFlagSet("tidegate up", pflag.ContinueOnError)
		config, local := upSettings(f)
		return settings{f, func() error { return validate(*config, *local) }}
	},
	"router":   func() settings { return settingsOf("router", app.RouterRoles...) },
	"ingest":   func() settings { return settingsOf("ingest", app.IngestRoles...) },
	"jobs-api": func() settings { return settingsOf("jobs-api", app.JobsAPIRoles...) },
}

func settingsOf(binary string, roles ...app.Role) settings {
	f := pflag.NewFlagSet(binary, pflag.ContinueOnError)
	config := app.DefaultConfig(roles...)
	config.Bind(f)
	return settings{f, func() error { return config.Validate() }}
}

func configCommands() *cobra.Command {
	return group("config", "Check files with settings, and show what holds", configCheck(), configShow(), configExample())
}

// roleFlag adds --role, and returns what gives the settings that it names.
func roleFlag(command *cobra.Command) func() (settings, error) {
	names := strings.Join(slices.Sorted(maps.Keys(processes)), ", ")
	role := command.Flags().String("role", "up", "the process that reads the file: "+names)
	return func() (settings, error) {
		make, ok := processes[*role]
		if !ok {
			return settings{}, usage(command, fmt.Errorf("--role is %q: it must be one of %s", *role, names))
		}
		return make(), nil
	}
}

func configCheck() *cobra.Command {
	command := &cobra.Command{
		Use: "check [flags] [FILE] [-- FLAGS OF THE PROCESS]", Short: "Check settings, without starting anything",
		Long: "Check whether a process could start with a file with settings: every key and value, the rules that bind several of them, and\n" +
			"whether the files that they name can be read. The variables of this environment count, as they would for the process; without a\n" +
			"file they are checked alone, with the flags after --.\n" +
			"Exit status: 0 nothing is wrong, 1 each fault is a line on standard output.",
		Example: "  tidegate config check tidegate.yaml\n  tidegate config check --role router /etc/tidegate/router.yaml",
	}
	open := roleFlag(command)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		s, file, err := openSettings(cmd, open, args)
		if err != nil {
			return err
		}
		what := cmp.Or(file, "this environment")
		faults := app.CheckSettings(s.flags, s.validate)
		for _, fault := range faults {
			fmt.Fprintln(cmd.OutOrStdout(), oneLine(fault.Error()))
		}
		if len(faults) > 0 {
			return fmt.Errorf("%s: %s could not start with it: faults: %d", what, s.flags.Name(), len(faults))
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s can start with it\n", what, s.flags.Name())
		return err
	}
	return command
}

func configShow() *cobra.Command {
	command := &cobra.Command{
		Use: "show [flags] [FILE] [-- FLAGS OF THE PROCESS]", Short: "Show the settings that hold, and where each comes from",
		Long:    "Show what a process that is started in this environment would have for each setting, and where it comes from. Passwords are masked.",
		Example: "  tidegate config show tidegate.yaml\n  tidegate config show --role router router.yaml -- --log-level debug",
	}
	open := roleFlag(command)
	asJSON := command.Flags().Bool("json", false, "print the settings as JSON")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		s, _, err := openSettings(cmd, open, args)
		if err != nil {
			return err
		}
		if err := app.ReadSettings(s.flags); err != nil {
			return err
		}
		list := app.Settings(s.flags)
		if *asJSON {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			return e.Encode(list)
		}
		rows := make([][]string, len(list))
		for i, setting := range list {
			rows[i] = []string{setting.Key, setting.Value, setting.Source}
		}
		_, err = io.WriteString(cmd.OutOrStdout(), aligned(append([][]string{{"KEY", "VALUE", "FROM"}}, rows...)))
		return err
	}
	return command
}

func configExample() *cobra.Command {
	command := &cobra.Command{
		Use: "example", Short: "Print a file with every setting in comments", Args: arguments(0, 0),
		Example: "  tidegate config example --role router > router.yaml",
	}
	open := roleFlag(command)
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := open()
		if err != nil {
			return err
		}
		return app.WriteExample(cmd.OutOrStdout(), s.flags.Name(), s.flags)
	}
	return command
}

// openSettings reads "[FILE] [-- FLAGS]". Without FILE, that of TIDEGATE_CONFIG holds, or
// what stands in FLAGS.
func openSettings(cmd *cobra.Command, open func() (settings, error), args []string) (s settings, file string, err error) {
	if s, err = open(); err != nil {
		return s, "", err
	}
	var flags []string
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		args, flags = args[:dash], args[dash:]
	}
	if err := arguments(0, 1)(cmd, args); err != nil {
		return s, "", err
	}
	s.flags.SetOutput(io.Discard)
	if err := s.flags.Parse(flags); err != nil {
		return s, "", usage(cmd, fmt.Errorf("after --: %w", err))
	}
	if rest := s.flags.Args(); len(rest) > 0 {
		return s, "", usage(cmd, fmt.Errorf("after -- stands %q, which is no flag", rest[0]))
	}
	if len(args) == 0 {
		return s, "", nil
	}
	if _, err := os.Stat(args[0]); errors.Is(err, os.ErrNotExist) {
		return s, "", fmt.Errorf("there is no file %s", args[0])
	}
	return s, args[0], s.flags.Set("config", args[0])
}
