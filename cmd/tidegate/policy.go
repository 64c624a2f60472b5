package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// accountDefault is the script that the client takes for the account's default.
const accountDefault = ""

func policyCommands(c *connection) []*cobra.Command {
	return []*cobra.Command{
		policyGet(c, true), policySet(c, true), policyDelete(c, true), policyHistory(c, true),
		group("default", "The policy of scripts that have none of their own", policyGet(c, false), policySet(c, false), policyDelete(c, false), policyHistory(c, false)),
		rampCommands(c), policyDecisions(c), policyDecision(c), policyEvidence(c), policyBacktest(c),
	}
}

// onPolicy completes a command that works on the policy of the script that its argument
// names or, where it takes none, on the account's default.
func onPolicy(command *cobra.Command, ofScript bool, run func(cmd *cobra.Command, script string) error) *cobra.Command {
	command.Args = arguments(0, 0)
	if ofScript {
		command.Use += " SCRIPT"
		command.Args = arguments(1, 1)
	}
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if ofScript {
			return run(cmd, args[0])
		}
		return run(cmd, accountDefault)
	}
	return command
}

// policyName is how messages call a policy.
func policyName(script string) string {
	if script == accountDefault {
		return "the default rollback policy"
	}
	return "the rollback policy of " + script
}

func policyGet(c *connection, ofScript bool) *cobra.Command {
	command := &cobra.Command{Use: "get", Short: "Show the rollback policy that a script follows"}
	if !ofScript {
		command.Short = "Show the default policy"
	}
	return onPolicy(command, ofScript, func(cmd *cobra.Command, script string) error {
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		p, err := s.api.Policy(cmd.Context(), s.account, script)
		if err != nil {
			return s.explain("read "+policyName(script), err)
		}
		return s.show(func(out io.Writer) { writePolicy(out, p) })
	})
}

func policySet(c *connection, ofScript bool) *cobra.Command {
	command := &cobra.Command{
		Use: "set", Short: "Change the rollback policy of a script, or replace it from a file",
		Long: "Flags change what they name and leave the rest of the policy as it is; a script without a policy is given a copy of the\n" +
			"account's default, or else one that is enabled, with defaults for the rest. --file replaces the whole policy by the JSON of a file.",
		Example: "  tidegate policy set shop --max-failure-ratio 2 --ramp 5%:5m,25%:5m:proven,100% --notify slack:https://hooks.slack.com/services/T/B/x",
	}
	if !ofScript {
		command.Short = "Change the default policy, or replace it from a file"
		command.Example = "  tidegate policy default set --max-failure-ratio 2 --action notify"
	}
	in := newPolicyInput(command)
	return onPolicy(command, ofScript, func(cmd *cobra.Command, script string) error {
		attempted := "set " + policyName(script)
		if in.byFlags() == (in.file != "") {
			return usage(cmd, errors.New("say what to set, with flags or with --file, but not with both"))
		}
		s, p, err := in.read(cmd, c, script, attempted)
		if err != nil {
			return err
		}
		saved, err := s.api.SavePolicy(cmd.Context(), s.account, script, *p, in.revision)
		if err != nil {
			return s.explain(attempted, err)
		}
		return s.show(func(out io.Writer) {
			writePolicy(out, saved)
			if script != accountDefault && saved.Enabled {
				s.writeJudgedNow(out, cmd, script)
			}
		})
	})
}

// writeJudgedNow tells who has just saved a policy what it judges now. What cannot be read of
// that fails nothing: the policy is saved.
func (s *session) writeJudgedNow(out io.Writer, cmd *cobra.Command, script string) {
	live, err := s.api.Evidence(cmd.Context(), s.account, script)
	if err != nil {
		fmt.Fprintf(out, "\nWhat it judges now is not known: %v.\n", s.explain("read the evidence of "+script, err))
		return
	}
	var versions []deploy.Version
	if len(live.Trials) > 0 {
		versions = s.versions(cmd, script)
	}
	writeJudged(out, &live, versions, func(*deploy.LiveTrial) {})
}

// policyInput is a policy as the command line has it: flags that change one, or a file.
type policyInput struct {
	flags *pflag.FlagSet
	texts [][]string // of policyFlags
	file  string
	// revision is the one that flags change, and nil with a file, which replaces whatever
	// there is.
	revision *int64
}

func newPolicyInput(command *cobra.Command) *policyInput {
	in := &policyInput{flags: command.Flags(), texts: make([][]string, len(policyFlags))}
	for i, f := range policyFlags {
		in.flags.StringArrayVar(&in.texts[i], f.name, nil, f.usage)
	}
	in.flags.Lookup("enabled").NoOptDefVal = "true"
	in.flags.StringVar(&in.file, "file", "", "JSON of the whole policy, as the API has it; - reads standard input")
	return in
}

func (in *policyInput) byFlags() bool {
	return slices.ContainsFunc(policyFlags, func(f policyFlag) bool { return in.flags.Changed(f.name) })
}

// change applies the flags that were given.
func (in *policyInput) change(p *deploy.RollbackPolicy) error {
	for i, f := range policyFlags {
		if !in.flags.Changed(f.name) {
			continue
		}
		if err := f.apply(p, in.texts[i]); err != nil {
			return fmt.Errorf("--%s %q: %w", f.name, strings.Join(in.texts[i], " "), plain(err))
		}
	}
	return nil
}

// read opens a session and returns the policy that is meant: that of the file, or what the
// script follows with the flags applied; nil if neither is given.
func (in *policyInput) read(cmd *cobra.Command, c *connection, script, attempted string) (*session, *deploy.RollbackPolicy, error) {
	byFlags := in.byFlags()
	p := deploy.DefaultPolicy()
	var err error
	switch {
	case byFlags: // what cannot be read is refused before anything is asked of the API
		if err := in.change(&p); err != nil {
			return nil, nil, usage(cmd, err)
		}
	case in.file != "":
		if p, err = readPolicy(cmd.InOrStdin(), in.file); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", attempted, err)
		}
	}
	s, err := c.open(cmd)
	if err != nil {
		return nil, nil, err
	}
	if !byFlags {
		if in.file == "" {
			return s, nil, nil
		}
		return s, &p, nil
	}
	var revision int64
	if p, revision, err = s.policyOrDefault(cmd.Context(), script); err != nil {
		return nil, nil, s.explain(attempted, err)
	}
	in.revision = &revision
	if err = in.change(&p); err == nil {
		err = completed(&p, in.flags.Changed)
	}
	if err != nil {
		return nil, nil, usage(cmd, err)
	}
	return s, &p, nil
}

// completed completes and validates a policy that flags have changed. Without a limit it
// would be given one: whoever has just taken the last one away must not get another unasked.
func completed(p *deploy.RollbackPolicy, changed func(flag string) bool) error {
	if len(p.Limits()) == 0 && p.Enabled {
		for _, f := range limitFlags() {
			if changed(f.name) {
				return fmt.Errorf("--%s %s takes the last limit away: set another one, or --enabled=false to stop watching", f.name, none)
			}
		}
	}
	p.Complete()
	return p.Validate()
}

// policyOrDefault is what flags change, and the revision that saving it replaces: 0 for
// none. A script that does not exist is refused when the policy is saved.
func (s *session) policyOrDefault(ctx context.Context, script string) (deploy.RollbackPolicy, int64, error) {
	p, err := s.api.Policy(ctx, s.account, script)
	if errs.KindOf(err) == errs.NotFound {
		p.RollbackPolicy, err = deploy.DefaultPolicy(), nil
		p.Enabled = true
	}
	if p.Source == deploy.PolicyOfAccount && script != accountDefault {
		p.Enabled, p.Revision = true, 0
	}
	return p.RollbackPolicy, p.Revision, err
}

// readPolicy is as strict as the API: an unknown member may be a limit that would
// never be checked. What an answer says of a policy is let through and not looked at.
func readPolicy(stdin io.Reader, path string) (deploy.RollbackPolicy, error) {
	body := struct {
		client.Policy
		Enabled *bool `json:"enabled"`
	}{Policy: client.Policy{RollbackPolicy: deploy.DefaultPolicy()}}
	if err := readStrict(stdin, path, "policy", &body); err != nil {
		return body.RollbackPolicy, err
	}
	if body.Enabled == nil {
		return body.RollbackPolicy, fmt.Errorf("read %s: enabled is missing: it must be true or false", path)
	}
	p := body.RollbackPolicy
	p.Enabled = *body.Enabled
	p.Complete()
	if err := p.Validate(); err != nil {
		return p, fmt.Errorf("read %s: %w", path, err)
	}
	return p, nil
}

func policyDelete(c *connection, ofScript bool) *cobra.Command {
	command := &cobra.Command{Use: "delete", Short: "Let a script follow the account's default, or nothing"}
	if !ofScript {
		command.Short = "Have no default policy"
	}
	return onPolicy(command, ofScript, func(cmd *cobra.Command, script string) error {
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if err := s.api.DeletePolicy(cmd.Context(), s.account, script); err != nil {
			return s.explain("delete "+policyName(script), err)
		}
		return s.show(func(out io.Writer) {
			if script == accountDefault {
				fmt.Fprintln(out, "The account has no default rollback policy.")
			} else {
				fmt.Fprintf(out, "%s has no rollback policy of its own.\n", oneLine(script))
			}
		})
	})
}

func policyHistory(c *connection, ofScript bool) *cobra.Command {
	command := &cobra.Command{Use: "history", Short: "Show who changed a policy, when, and what"}
	return onPolicy(command, ofScript, func(cmd *cobra.Command, script string) error {
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		list, err := s.api.PolicyRevisions(cmd.Context(), s.account, script)
		if err != nil {
			return s.explain("read the history of "+policyName(script), err)
		}
		return s.show(func(out io.Writer) {
			rows := make([][]string, len(list))
			for i, r := range list {
				var before *deploy.RollbackPolicy
				if i+1 < len(list) {
					before = list[i+1].Policy
				}
				rows[i] = []string{strconv.FormatInt(r.Revision, 10), moment(r.ModifiedOn), r.ModifiedBy, policyChange(before, r.Policy)}
			}
			s.table(out, []string{"REVISION", "WHEN", "BY", "WHAT"}, rows)
		})
	})
}

// policyChange says what a revision changed, in the words of the flags.
func policyChange(before, after *deploy.RollbackPolicy) string {
	switch {
	case after == nil:
		return "deleted"
	case before == nil:
		return "set: " + policyText(*after)
	}
	var changes []string
	old := policyRows(*before)
	for i, row := range policyRows(*after) {
		if was := old[i][1]; was != row[1] {
			changes = append(changes, fmt.Sprintf("%s %s -> %s", row[0], orNone(was), orNone(row[1])))
		}
	}
	if len(changes) == 0 {
		return "nothing"
	}
	return strings.Join(changes, ", ")
}

// writePolicy uses the words and the notation of the flags.
func writePolicy(out io.Writer, p client.Policy) {
	from := fmt.Sprintf("%s, revision %d", whosePolicy(p.Source), p.Revision)
	if p.ModifiedBy != "" {
		from += ", by " + p.ModifiedBy
	}
	if !p.ModifiedOn.IsZero() {
		from += ", " + moment(p.ModifiedOn)
	}
	properties(out, append(policyRows(p.RollbackPolicy), []string{"from", from}))
}

func whosePolicy(source deploy.PolicySource) string {
	if source == deploy.PolicyOfAccount {
		return "the account's default"
	}
	return "the script's own"
}
