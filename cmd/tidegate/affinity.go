package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
)

func affinityGet(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "get SCRIPT", Short: "Show the affinity rules of a script",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			a, err := s.api.Affinity(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("read the affinity rules of "+args[0], err)
			}
			return s.show(func(out io.Writer) { s.writeAffinity(out, a) })
		},
	}
}

func affinitySet(c *connection) *cobra.Command {
	var o affinityOptions
	command := &cobra.Command{
		Use: "set SCRIPT RULE...", Short: "Replace the affinity rules of a script",
		Long: "The first rule that finds a value in a request gives it its key; equal keys get the same version. A rule is one of\n\n" +
			"  cookie:NAME, header:NAME, query:NAME   the value of that name\n" +
			"  client_ip                              the address of the client\n" +
			"  path:NUMBER                            a segment of the path, counted from 1\n" +
			"  path:/PREFIX/                          the segment of the path after the prefix\n\n" +
			"With --set-cookie the last rule is one of a cookie, and a client that has none is given one. --file replaces the\n" +
			"rules by the JSON of a file, in which --forward may differ from rule to rule.",
		Example: "  tidegate affinity set shop cookie:user_id client_ip\n" +
			"  tidegate affinity set shop cookie:visitor --set-cookie --cookie-max-age 720h",
		Args: arguments(1, -1),
	}
	flags := command.Flags()
	o.declare(flags)
	command.RunE = func(cmd *cobra.Command, args []string) error {
		script, attempted := args[0], "set the affinity rules of "+args[0]
		byFile := o.file != ""
		if byFile == (len(args) > 1) || byFile && o.given(flags) {
			return usage(cmd, errors.New("say what to set, by rules and flags or with --file, but not with both"))
		}
		var a deploy.Affinity
		var err error
		if byFile {
			if a, err = readAffinity(cmd.InOrStdin(), o.file); err != nil {
				return fmt.Errorf("%s: %w", attempted, err)
			}
		} else if a, err = o.affinity(flags, args[1:]); err != nil { // refused before anything is asked of the API
			return usage(cmd, err)
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if err := s.api.SaveAffinity(cmd.Context(), s.account, script, a); err != nil {
			return s.explain(attempted, err)
		}
		return s.show(func(out io.Writer) { s.writeAffinity(out, a) })
	}
	return command
}

func affinityDelete(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "delete SCRIPT", Short: "Remove the affinity rules of a script",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			if err := s.api.DeleteAffinity(cmd.Context(), s.account, args[0]); err != nil {
				return s.explain("delete the affinity rules of "+args[0], err)
			}
			return s.show(func(out io.Writer) { fmt.Fprintf(out, "%s has no affinity rules.\n", oneLine(args[0])) })
		},
	}
}

// parseAffinityRule reads SOURCE or SOURCE:VALUE.
func parseAffinityRule(text string) (deploy.AffinityRule, error) {
	source, value, valued := strings.Cut(text, ":")
	r := deploy.AffinityRule{Source: deploy.AffinitySource(source)}
	switch {
	case r.Source == deploy.AffinityPath && strings.HasPrefix(value, "/"):
		r.Prefix = value
	case r.Source == deploy.AffinityPath:
		number, err := strconv.Atoi(value)
		if err != nil {
			return r, errors.New("after path: comes the number of a segment, such as path:2, or a prefix, such as path:/rooms/")
		}
		r.Segment = number
	case r.Source == deploy.AffinityClientIP && valued:
		return r, errors.New("nothing comes after client_ip")
	default:
		r.Name = value
	}
	return r, r.Validate()
}

// formatAffinityRule writes what parseAffinityRule reads.
func formatAffinityRule(r deploy.AffinityRule) string {
	value := r.Name + r.Prefix
	if r.Segment != 0 {
		value = strconv.Itoa(r.Segment)
	}
	if value == "" {
		return string(r.Source)
	}
	return string(r.Source) + ":" + value
}

// writeAffinity numbers the rules as events and response headers do.
func (s *session) writeAffinity(out io.Writer, a deploy.Affinity) {
	header, rows, options := []string{"NUMBER", "RULE"}, make([][]string, len(a.Rules)), make([]string, len(a.Rules))
	for i, r := range a.Rules {
		rows[i] = []string{strconv.Itoa(i + 1), formatAffinityRule(r)}
		options[i] = formatAffinityOptions(r)
	}
	if strings.Join(options, "") != "" {
		header = append(header, "OPTIONS")
		for i := range rows {
			rows[i] = append(rows[i], options[i])
		}
	}
	s.table(out, header, rows)
}
