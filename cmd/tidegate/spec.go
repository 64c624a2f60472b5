package main

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"tidegate/internal/deploy"
)

// spec is one version of a deployment as a person names it.
type spec struct {
	ref   string             // id, prefix of an id, or tag
	share *deploy.Percentage // nil takes an equal part of what the others leave
}

// parseSpec reads <version>[@<percentage>[%]]. The last @ counts, so a tag may
// hold one if a share follows.
func parseSpec(text string) (spec, error) {
	if first, _, several := strings.Cut(text, ","); several { // which a tag may hold
		if s, err := parseSpec(first); err == nil && s.share != nil {
			return spec{}, fmt.Errorf("%q has a comma: separate versions by spaces: %s", text, strings.TrimSpace(strings.ReplaceAll(text, ",", " ")))
		}
	}
	ref, percentage := text, ""
	at := strings.LastIndexByte(text, '@')
	if at >= 0 {
		ref, percentage = text[:at], text[at+1:]
	}
	if ref == "" {
		return spec{}, fmt.Errorf("%q names no version: write <version>@<percentage>, such as 1a2b3c4d@10", text)
	}
	if at < 0 {
		return spec{ref: ref}, nil
	}
	share, err := parsePercentage(percentage)
	if err != nil {
		return spec{}, fmt.Errorf("the share in %q: %w", text, err)
	}
	return spec{ref, &share}, nil
}

var decimal = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)

// parsePercentage reads a decimal number from 0 to 100 with or without a percent
// sign, and rounds it to three places, as the API does.
func parsePercentage(text string) (deploy.Percentage, error) {
	number := strings.TrimSuffix(text, "%")
	percent, err := strconv.ParseFloat(number, 64)
	if !decimal.MatchString(number) || err != nil || percent > 100 {
		return 0, fmt.Errorf("%q is not a percentage from 0 to 100, such as 12.5 or 12.5%%", text)
	}
	return deploy.Percentage(math.Round(percent * 1000)), nil
}

// divide turns specs into splits that still have the ref in place of the version's
// id. Versions without a share get equal parts of what the others leave;
// thousandths that cannot be divided go to the first of them, so that the sum is
// 100 % exactly. How many versions a deployment may have is for the API to say.
func divide(specs []spec) ([]deploy.Split, error) {
	splits := make([]deploy.Split, len(specs))
	var open []int
	rest := deploy.Full
	for i, s := range specs {
		splits[i].VersionID = s.ref
		if s.share == nil {
			open = append(open, i)
			continue
		}
		splits[i].Percentage = *s.share
		rest -= *s.share
	}
	if len(open) > 0 {
		if rest < 0 {
			return nil, fmt.Errorf("the shares add up to %s: nothing is left for %q", deploy.Full-rest, specs[open[0]].ref)
		}
		each := rest / deploy.Percentage(len(open))
		for _, i := range open {
			splits[i].Percentage = each
		}
		splits[open[0]].Percentage += rest - each*deploy.Percentage(len(open))
	}
	return splits, deploy.ValidateSplits(splits, len(splits))
}

var errNoVersion = errors.New("no version was uploaded yet: \"tidegate versions upload\" makes one")

var (
	fullID   = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	idPrefix = regexp.MustCompile(`^[0-9a-f]{8}[0-9a-f-]*$`)
)

// resolve returns the id of the version that ref means: an id, the beginning of
// one, or a tag. A whole id is taken as it is: if the versions, the deployable
// ones, lack it, the API knows better why.
func resolve(versions []deploy.Version, ref string) (id string, err error) {
	lower := strings.ToLower(ref)
	if fullID.MatchString(lower) {
		return lower, nil
	}
	isPrefix := idPrefix.MatchString(lower)
	var found []string
	for _, v := range versions {
		if ref != "" && v.Annotations.Tag == ref || isPrefix && strings.HasPrefix(v.ID, lower) {
			found = append(found, v.ID)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return "", fmt.Errorf("%q means %d versions: name one by its id: %s", ref, len(found), strings.Join(found, ", "))
	case len(versions) == 0:
		return "", errNoVersion
	default:
		return "", fmt.Errorf("%q is neither the tag of a deployable version nor the first %d or more hex digits of its id; \"tidegate versions list SCRIPT\" shows both", ref, shortID)
	}
}

// resolveAll replaces the refs of splits by ids.
func resolveAll(versions []deploy.Version, splits []deploy.Split) error {
	for i := range splits {
		id, err := resolve(versions, splits[i].VersionID)
		if err != nil {
			return err
		}
		splits[i].VersionID = id
	}
	return nil
}
