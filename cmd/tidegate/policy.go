package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func policyGet(c *connection) *cobra.Command {
	return &cobra.Command{
		Use: "get SCRIPT", Short: "Show the rollback policy of a script",
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := c.open(cmd)
			if err != nil {
				return err
			}
			p, err := s.api.Policy(cmd.Context(), s.account, args[0])
			if err != nil {
				return s.explain("read the rollback policy of "+args[0], err)
			}
			return s.show(func(out io.Writer) { writePolicy(out, p) })
		},
	}
}

// none takes a limit or the ramp away.
const none = "none"

// policyFlags are the members of a policy as text, and how each is set.
var policyFlags = []struct {
	name, usage string
	set         func(p *deploy.RollbackPolicy, text string) error
}{
	{"enabled", "watch the script: true or false", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.Enabled, err = strconv.ParseBool(text)
		return err
	}},
	{"max-failure-rate", "most failures of a version as a share of its requests, such as 2% or 0.02; none for no limit", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.MaxFailureRate, err = parseLimit(text, parseShare)
		return err
	}},
	{"max-failure-ratio", "most failures of a version as a multiple of the baseline's rate, such as 3; none for no limit", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.MaxFailureRatio, err = parseLimit(text, func(text string) (float64, error) { return strconv.ParseFloat(text, 64) })
		return err
	}},
	{"min-requests", "fewest requests on which a version is judged", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.MinRequests, err = strconv.ParseInt(text, 10, 64)
		return err
	}},
	{"look-back", "how far back requests count, such as 5m", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.LookBackSeconds, err = parseSeconds(text)
		return err
	}},
	{"action", "what a failing version meets: rollback, pause or notify", func(p *deploy.RollbackPolicy, text string) error {
		p.Action = deploy.Action(text)
		return nil
	}},
	{"ramp", "steps of a new version, each with the time that it must hold, such as 5%:5m,25%:5m,100%; none for no ramp", func(p *deploy.RollbackPolicy, text string) (err error) {
		p.Ramp, err = parseRamp(text)
		return err
	}},
}

func policySet(c *connection) *cobra.Command {
	var file string
	texts := make([]string, len(policyFlags))
	command := &cobra.Command{
		Use: "set SCRIPT", Short: "Change the rollback policy of a script, or replace it from a file",
		Long: "Flags change what they name and leave the rest of the policy as it is; a script without a policy is given\n" +
			"one that is enabled, with defaults for the rest. --file replaces the whole policy by the JSON of a file.",
		Example: "  tidegate policy set shop --max-failure-rate 2% --min-requests 100 --look-back 5m --action rollback",
		Args:    arguments(1, 1),
	}
	flags := command.Flags()
	for i, f := range policyFlags {
		flags.StringVar(&texts[i], f.name, "", f.usage)
	}
	flags.Lookup("enabled").NoOptDefVal = "true"
	flags.StringVar(&file, "file", "", "JSON of the whole policy, as the API has it; - reads standard input")

	// change applies the flags that were given.
	change := func(p *deploy.RollbackPolicy) error {
		for i, f := range policyFlags {
			if !flags.Changed(f.name) {
				continue
			}
			if err := f.set(p, texts[i]); err != nil {
				return fmt.Errorf("--%s %q: %w", f.name, texts[i], plain(err))
			}
		}
		return p.Validate()
	}
	command.RunE = func(cmd *cobra.Command, args []string) error {
		script, attempted := args[0], "set the rollback policy of "+args[0]
		byFlags := false
		for _, f := range policyFlags {
			byFlags = byFlags || flags.Changed(f.name)
		}
		if byFlags == (file != "") {
			return usage(cmd, errors.New("say what to set, with flags or with --file, but not with both"))
		}
		var p deploy.RollbackPolicy
		var err error
		if byFlags { // refused before anything is asked of the API
			p = deploy.DefaultPolicy()
			if err := change(&p); err != nil {
				return usage(cmd, err)
			}
		} else if p, err = readPolicy(cmd.InOrStdin(), file); err != nil {
			return fmt.Errorf("%s: %w", attempted, err)
		}
		s, err := c.open(cmd)
		if err != nil {
			return err
		}
		if byFlags {
			if p, err = s.policyOrDefault(cmd.Context(), script); err != nil {
				return s.explain(attempted, err)
			}
			if err := change(&p); err != nil {
				return usage(cmd, err)
			}
		}
		if err := s.api.SavePolicy(cmd.Context(), s.account, script, p); err != nil {
			return s.explain(attempted, err)
		}
		return s.show(func(out io.Writer) { writePolicy(out, p) })
	}
	return command
}

// policyOrDefault is what flags change. A script that does not exist is refused
// when the policy is saved.
func (s *session) policyOrDefault(ctx context.Context, script string) (deploy.RollbackPolicy, error) {
	p, err := s.api.Policy(ctx, s.account, script)
	if errs.KindOf(err) == errs.NotFound {
		p, err = deploy.DefaultPolicy(), nil
		p.Enabled = true
	}
	return p, err
}

// readPolicy is as strict as the API: an unknown member may be a limit that would
// never be checked.
func readPolicy(stdin io.Reader, path string) (deploy.RollbackPolicy, error) {
	body := struct {
		deploy.RollbackPolicy
		Enabled *bool `json:"enabled"`
	}{RollbackPolicy: deploy.DefaultPolicy()}
	if err := readStrict(stdin, path, "policy", &body); err != nil {
		return body.RollbackPolicy, err
	}
	if body.Enabled == nil {
		return body.RollbackPolicy, fmt.Errorf("read %s: enabled is missing: it must be true or false", path)
	}
	body.RollbackPolicy.Enabled = *body.Enabled
	if err := body.Validate(); err != nil {
		return body.RollbackPolicy, fmt.Errorf("read %s: %w", path, err)
	}
	return body.RollbackPolicy, nil
}

func parseLimit(text string, parse func(string) (float64, error)) (*float64, error) {
	if text == none {
		return nil, nil
	}
	limit, err := parse(text)
	return &limit, err
}

// parseShare reads "2%" and "0.02" alike.
func parseShare(text string) (float64, error) {
	number, isPercent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if isPercent {
		share /= 100
	}
	return share, err
}

// parseSeconds reads a duration of whole seconds.
func parseSeconds(text string) (int64, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, errors.New("it must be a time such as 90s or 5m")
	}
	if d%time.Second != 0 {
		return 0, errors.New("it must be a whole number of seconds")
	}
	return int64(d / time.Second), nil
}

// parseRamp reads "5%:5m,25%:5m,100%": each step is a percentage and how long it
// must hold before the next; no time is no wait.
func parseRamp(text string) ([]deploy.RampStep, error) {
	if text == none {
		return nil, nil
	}
	var steps []deploy.RampStep
	for part := range strings.SplitSeq(text, ",") {
		percentage, bake, timed := strings.Cut(strings.TrimSpace(part), ":")
		var step deploy.RampStep
		var err error
		if step.Percentage, err = parsePercentage(percentage); err != nil {
			return nil, err
		}
		if timed {
			if step.BakeSeconds, err = parseSeconds(bake); err != nil {
				return nil, fmt.Errorf("%q after %q: %w", bake, percentage, err)
			}
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// formatRamp writes what parseRamp reads.
func formatRamp(steps []deploy.RampStep) string {
	if len(steps) == 0 {
		return none
	}
	parts := make([]string, len(steps))
	for i, step := range steps {
		parts[i] = step.Percentage.String()
		if step.BakeSeconds > 0 {
			parts[i] += ":" + seconds(step.BakeSeconds)
		}
	}
	return strings.Join(parts, ",")
}

func seconds(n int64) string { return (time.Duration(n) * time.Second).String() }

// plain leaves out the Go function that could not read a number.
func plain(err error) error {
	if _, ok := errors.AsType[*strconv.NumError](err); !ok {
		return err
	}
	return errors.New("it is not of the form that --help shows")
}

// writePolicy uses the words and the notation of the flags.
func writePolicy(out io.Writer, p deploy.RollbackPolicy) {
	rate, ratio := none, none
	if p.MaxFailureRate != nil {
		rate = strconv.FormatFloat(math.Round(*p.MaxFailureRate*1e8)/1e6, 'f', -1, 64) + "%"
	}
	if p.MaxFailureRatio != nil {
		ratio = strconv.FormatFloat(*p.MaxFailureRatio, 'f', -1, 64)
	}
	properties(out, [][]string{
		{"enabled", strconv.FormatBool(p.Enabled)},
		{"max-failure-rate", rate},
		{"max-failure-ratio", ratio},
		{"min-requests", strconv.FormatInt(p.MinRequests, 10)},
		{"look-back", seconds(p.LookBackSeconds)},
		{"action", string(p.Action)},
		{"ramp", formatRamp(p.Ramp)},
	})
}
