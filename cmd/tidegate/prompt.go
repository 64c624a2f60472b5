package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"charm.land/huh/v2"

	"tidegate/internal/deploy"
)

// optionsShown at once; the list scrolls beyond.
const optionsShown = 12

// errDeclined ends a command whose user said no.
var errDeclined = errors.New("declined; nothing was changed")

// prompt asks a person.
type prompt struct {
	in    io.Reader
	out   io.Writer
	plain bool // line by line: for screen readers, and terminals without a cursor
}

// newPrompt asks on the terminal. Questions go to standard error, so that
// standard output holds the result alone.
func newPrompt() prompt {
	return prompt{in: os.Stdin, out: os.Stderr, plain: os.Getenv("ACCESSIBLE") != "" || os.Getenv("TERM") == "dumb"}
}

// there reports whether somebody can be asked.
func (p prompt) there() bool { return terminal(p.in) && terminal(p.out) }

func (p prompt) run(ctx context.Context, fields ...huh.Field) error {
	err := huh.NewForm(huh.NewGroup(fields...)).WithInput(p.in).WithOutput(p.out).WithAccessible(p.plain).RunWithContext(ctx)
	if errors.Is(err, huh.ErrUserAborted) || ctx.Err() != nil {
		return errDeclined
	}
	return err
}

// confirm returns errDeclined unless the answer is yes.
func (p prompt) confirm(ctx context.Context, question string) error {
	var yes bool
	if err := p.run(ctx, huh.NewConfirm().Title(oneLine(question)).Value(&yes)); err != nil {
		return err
	}
	if !yes {
		return errDeclined
	}
	return nil
}

// typed returns errDeclined unless the answer is a name.
func (p prompt) typed(ctx context.Context, question, name string) error {
	var answer string
	if err := p.run(ctx, huh.NewInput().Title(oneLine(question)).Value(&answer)); err != nil {
		return err
	}
	if answer != name {
		return errDeclined
	}
	return nil
}

// splits asks which versions shall serve, with which shares, and why. The versions
// of the current deployment are chosen beforehand.
func (p prompt) splits(ctx context.Context, script string, versions []deploy.Version, deployments []deploy.Deployment, message *string) ([]deploy.Split, error) {
	if len(versions) == 0 {
		return nil, errNoVersion
	}
	serving := map[string]deploy.Percentage{}
	if len(deployments) > 0 {
		for _, split := range deployments[0].Versions {
			serving[split.VersionID] = split.Percentage
		}
	}
	options := make([]huh.Option[string], len(versions))
	for i, v := range versions {
		label := fmt.Sprintf("%s  %s  %s", short(v.ID), v.Annotations.Tag, cut(v.Annotations.Message))
		share, serves := serving[v.ID]
		if serves {
			label += fmt.Sprintf("  (serves %s)", share)
		}
		options[i] = huh.NewOption(oneLine(label), v.ID).Selected(serves)
	}
	var chosen []string
	if err := p.run(ctx, huh.NewMultiSelect[string]().Title("Versions of "+script+" that shall serve").Options(options...).
		Height(min(len(options), optionsShown)+2). // the title and the line below it count
		Value(&chosen)); err != nil {
		return nil, err
	}
	if len(chosen) == 0 {
		return nil, errors.New("no version was chosen; nothing was changed")
	}
	specs := make([]spec, len(chosen))
	for i, id := range chosen {
		specs[i].ref = id
	}
	if err := p.shares(ctx, specs, versions); err != nil {
		return nil, err
	}
	if *message == "" {
		if err := p.run(ctx, huh.NewInput().Title("Message").Description("Why; may be empty").Value(message)); err != nil {
			return nil, err
		}
	}
	return divide(specs)
}

// shares asks for the percentages of two or more versions.
func (p prompt) shares(ctx context.Context, specs []spec, versions []deploy.Version) error {
	if len(specs) == 1 {
		return nil
	}
	answers := make([]string, len(specs))
	fields := make([]huh.Field, len(specs))
	for i, s := range specs {
		fields[i] = huh.NewInput().Title("Percentage of " + versionName(versions, s.ref)).
			Description("Empty takes an equal part of the rest").Value(&answers[i]).Validate(validShare)
	}
	if err := p.run(ctx, fields...); err != nil {
		return err
	}
	for i, answer := range answers {
		if answer == "" {
			continue
		}
		share, err := parsePercentage(answer)
		if err != nil {
			return err
		}
		specs[i].share = &share
	}
	return nil
}

func validShare(text string) error {
	if text == "" {
		return nil
	}
	_, err := parsePercentage(text)
	return err
}
