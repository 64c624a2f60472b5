package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/deploy"
)

// redactionScope is the script whose rules a command is about; "" are the account's.
type redactionScope struct{ all bool }

func (r *redactionScope) declare(flags *pflag.FlagSet) {
	flags.BoolVar(&r.all, "all-scripts", false, "the rules of the account, which hold for all of its scripts")
}

func (r *redactionScope) script(cmd *cobra.Command, args []string) (script, name string, err error) {
	switch {
	case r.all == (len(args) == 1):
		return "", "", usage(cmd, errors.New("say whose rules, by the name of a script or with --all-scripts, but not with both"))
	case r.all:
		return "", "the account", nil
	}
	return args[0], args[0], nil
}

func redactionGet(c *connection) *cobra.Command {
	var scope redactionScope
	command := &cobra.Command{
		Use: "get [SCRIPT]", Short: "Show what is taken out of a script's trace events",
		Args: arguments(0, 1),
	}
	scope.declare(command.Flags())
	command.RunE = func(cmd *cobra.Command, args []string) error {
		script, name, err := scope.script(cmd, args)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		rules, err := s.api.Redaction(cmd.Context(), s.account, script)
		if err != nil {
			return s.explain("read the redaction rules of "+name, err)
		}
		return s.show(func(out io.Writer) { s.writeRedaction(out, rules) })
	}
	return command
}

func redactionSet(c *connection) *cobra.Command {
	var scope redactionScope
	var rules deploy.Redaction
	var builtIns []string
	var file string
	command := &cobra.Command{
		Use: "set [SCRIPT]", Short: "Replace what is taken out of a script's trace events",
		Long: "Flags are repeated for several rules. --file replaces the rules by the JSON of a file, as the API has it.\n" +
			"A script's rules add to those of its account.",
		Example: "  tidegate redaction set shop --header X-Customer --query-parameter email --path '/users/*' --built-in emails\n" +
			"  tidegate redaction set --all-scripts --built-in tokens --built-in credit_cards",
		Args: arguments(0, 1),
	}
	flags := command.Flags()
	scope.declare(flags)
	flags.StringArrayVar(&rules.Headers, "header", nil, "take out the values of this header")
	flags.StringArrayVar(&rules.QueryParameters, "query-parameter", nil, "take out the values of this parameter in URLs")
	flags.StringArrayVar(&rules.Paths, "path", nil, "take out the segments of a path that stand for a *, such as /users/*")
	flags.StringArrayVar(&rules.Patterns, "pattern", nil, "take out what this regular expression (RE2) matches")
	flags.StringArrayVar(&builtIns, "built-in", nil, "take out tokens, emails, credit_cards or long_ids")
	flags.StringVar(&file, "file", "", "JSON of the rules, as the API has it; - reads standard input")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		script, name, err := scope.script(cmd, args)
		if err != nil {
			return err
		}
		for _, name := range builtIns {
			rules.BuiltIns = append(rules.BuiltIns, deploy.RedactionBuiltIn(name))
		}
		attempted := "set the redaction rules of " + name
		switch byFile := file != ""; {
		case byFile == !rules.Empty():
			return usage(cmd, errors.New("say what to take out, by flags or with --file, but not with both"))
		case byFile:
			if err := readStrict(cmd.InOrStdin(), file, "rules", &rules); err != nil {
				return fmt.Errorf("%s: %w", attempted, err)
			}
		}
		if err := rules.Validate(); err != nil { // refused before anything is asked of the API
			return usage(cmd, err)
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if err := s.api.SaveRedaction(cmd.Context(), s.account, script, rules); err != nil {
			return s.explain(attempted, err)
		}
		return s.show(func(out io.Writer) { s.writeRedaction(out, rules) })
	}
	return command
}

func redactionDelete(c *connection) *cobra.Command {
	var scope redactionScope
	command := &cobra.Command{
		Use: "delete [SCRIPT]", Short: "Remove the redaction rules of a script",
		Args: arguments(0, 1),
	}
	scope.declare(command.Flags())
	command.RunE = func(cmd *cobra.Command, args []string) error {
		script, name, err := scope.script(cmd, args)
		if err != nil {
			return err
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if err := s.api.DeleteRedaction(cmd.Context(), s.account, script); err != nil {
			return s.explain("delete the redaction rules of "+name, err)
		}
		return s.show(func(out io.Writer) { fmt.Fprintf(out, "%s has no redaction rules of its own.\n", oneLine(name)) })
	}
	return command
}

// writeRedaction names the rules by the flags that set them.
func (s *session) writeRedaction(out io.Writer, rules deploy.Redaction) {
	var rows [][]string
	add := func(kind string, values []string) {
		for _, value := range values {
			rows = append(rows, []string{kind, value})
		}
	}
	add("header", rules.Headers)
	add("query-parameter", rules.QueryParameters)
	add("path", rules.Paths)
	add("pattern", rules.Patterns)
	for _, name := range rules.BuiltIns {
		rows = append(rows, []string{"built-in", string(name)})
	}
	add("not known to this command", rules.Unknown)
	s.table(out, []string{"RULE", "VALUE"}, rows)
}
