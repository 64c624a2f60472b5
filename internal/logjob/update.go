package logjob

import (
	"regexp"
	"unicode/utf8"

	"tidegate/schema"
)

var (
	namePattern      = regexp.MustCompile(`^[a-zA-Z0-9._-]*$`)
	challengePattern = regexp.MustCompile(`^[a-zA-Z0-9/+._-]*$`)
)

const (
	maxNameLength      = 512  // characters
	maxChallengeLength = 4096 // characters
)

// New returns the job that a create request is applied to.
func New(accountID string) Job { return Job{AccountID: accountID} }

// Apply changes j as a create or an update asks, or leaves it as it is and
// returns an *errs.Error with Cloudflare's code and the member at fault. A job
// without a dataset is being created. Health, EnabledAt and Revision are the
// store's: it sets EnabledAt when Enabled turned from false to true here, and
// raises Revision.
func (u *Update) Apply(j *Job) error {
	next := *j
	for _, step := range []func(*Job) error{
		u.applyStart, u.applyIdentity, u.applyDestination, u.applySelection, u.applyOutput, u.applyBounds, u.refuseUnsupported,
	} {
		if err := step(&next); err != nil {
			return err
		}
	}
	*j = next
	return nil
}

// applyIdentity sets what a job is called and what can never change.
func (u *Update) applyIdentity(j *Job) error {
	creating := j.Dataset == ""
	switch {
	case creating && u.Dataset == nil:
		return badValue("/dataset", "dataset is missing; it must be %q", schema.Dataset)
	case creating && *u.Dataset != schema.Dataset:
		return badValue("/dataset", "dataset %q is not available; the only one is %q", shown(*u.Dataset), schema.Dataset)
	case !creating && u.Dataset != nil && *u.Dataset != j.Dataset:
		return badValue("/dataset", "dataset cannot be changed from %q to %q", j.Dataset, shown(*u.Dataset))
	case creating:
		j.Dataset = *u.Dataset
	}
	if kind := deref(u.Kind); u.Kind != nil && kind != j.Kind {
		if !creating {
			return badValue("/kind", "kind cannot be changed from %q to %q", j.Kind, shown(kind))
		}
		if kind == "edge" {
			return badValue("/kind", `kind "edge" cannot be honoured: it delivers from the edge, and only the dataset http_requests`)
		}
		return badValue("/kind", `kind %q must be ""`, shown(kind))
	}
	if u.Name != nil {
		if n := utf8.RuneCountInString(*u.Name); n > maxNameLength {
			return badValue("/name", "name has %d characters, more than the %d allowed", n, maxNameLength)
		}
		if !namePattern.MatchString(*u.Name) {
			return badValue("/name", "name %q may only have letters, digits, dots, underscores and hyphens", shown(*u.Name))
		}
		j.Name = *u.Name
	}
	if u.Enabled != nil {
		j.Enabled = *u.Enabled
	}
	return nil
}

func (u *Update) applyDestination(j *Job) error {
	if u.OwnershipChallenge != nil {
		if n := len(*u.OwnershipChallenge); n > maxChallengeLength {
			return badValue("/ownership_challenge", "ownership_challenge has %d characters, more than the %d allowed", n, maxChallengeLength)
		}
		// Whether it proves anything is for who knows the key and the destination.
		if !challengePattern.MatchString(*u.OwnershipChallenge) {
			return badValue("/ownership_challenge", "ownership_challenge may only have letters, digits and /+._-")
		}
	}
	if u.DestinationConf == nil && j.DestinationConf != "" {
		return nil
	}
	conf := deref(u.DestinationConf)
	if _, err := ParseDestination(conf); err != nil {
		return err
	}
	j.DestinationConf = conf
	return nil
}

func (u *Update) applySelection(j *Job) error {
	if u.Filter != nil {
		if _, err := ParseFilter(*u.Filter); err != nil {
			return err
		}
		j.Filter = *u.Filter
	}
	return nil
}

func (u *Update) applyOutput(j *Job) error {
	if u.OutputOptions != nil {
		if err := u.OutputOptions.Validate(); err != nil {
			return err
		}
		options := *u.OutputOptions
		j.OutputOptions = &options
	}
	if u.LogpullOptions != nil {
		if _, err := ParseLogpullOptions(*u.LogpullOptions); err != nil {
			return err
		}
		j.LogpullOptions = *u.LogpullOptions
	}
	return nil
}

func (u *Update) applyBounds(j *Job) error {
	if u.Frequency != nil {
		if f := *u.Frequency; f != "" && f != FrequencyHigh && f != FrequencyLow {
			return badValue("/frequency", "frequency %q must be %q or %q", shown(f), FrequencyHigh, FrequencyLow)
		}
		j.Frequency = *u.Frequency
	}
	for _, bound := range []struct {
		name        string
		value       *int64
		least, most int64
		target      **int64
	}{
		{"max_upload_bytes", u.MaxUploadBytes, 5_000_000, 1_000_000_000, &j.MaxUploadBytes},
		{"max_upload_interval_seconds", u.MaxUploadIntervalSeconds, 30, 300, &j.MaxUploadIntervalSeconds},
		{"max_upload_records", u.MaxUploadRecords, 1_000, 1_000_000, &j.MaxUploadRecords},
	} {
		if bound.value == nil {
			continue
		}
		v := *bound.value
		if v != 0 && (v < bound.least || v > bound.most) {
			return badValue("/"+bound.name, "%s %d must be 0 or from %d to %d", bound.name, v, bound.least, bound.most)
		}
		*bound.target = &v
	}
	return nil
}

// refuseUnsupported names what a job would silently not do.
func (u *Update) refuseUnsupported(*Job) error {
	if id := string(u.TransformerID); id != "" && id != "null" {
		return badValue("/transformer_id", "transformer %s not found for this account: transformers are not supported", shown(id))
	}
	if deref(u.FilterAttackTraffic) {
		return badValue("/filter_attack_traffic", "filter_attack_traffic true cannot be honoured: the dataset %s has no attack traffic", schema.Dataset)
	}
	return nil
}
