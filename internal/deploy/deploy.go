// Package deploy holds deployments, versions and splits, and the rule that
// chooses the version of a request. It is pure: no clock, no I/O, no globals.
package deploy

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"tidegate/internal/errs"
)

// Limits of Cloudflare's API (reference/deployments.md, sections 2.3, 2.4 and 3.3).
const (
	DeployableVersions   = 100  // the most recently uploaded versions may be deployed
	DefaultMaxVersions   = 2    // versions in one deployment unless the account says otherwise
	MessageBytesMax      = 1000 // workers/message is cut here, not refused
	TagBytesMax          = 100  // workers/tag is refused above
	ScriptNameCharsMax   = 63   // one DNS label
	percentageSumSlack   = Percentage(1)
	percentageFullAmount = Percentage(100_000)
	// percentSumSlack is that of the numbers as sent, with room for the error of
	// binary fractions: 100 - 99.999 is a little above 0.001.
	percentSumSlack = 0.001 + 1e-9
)

// Percentage is a share of traffic in thousandths of a percent: 12.346 % is 12346.
// In JSON it is a decimal number of percent, as clients send it.
type Percentage int64

// Full is 100 %.
const Full = percentageFullAmount

func (p Percentage) String() string {
	return strconv.FormatFloat(float64(p)/1000, 'f', -1, 64) + "%"
}

// MarshalJSON writes a decimal number of percent.
func (p Percentage) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, float64(p)/1000, 'f', -1, 64), nil
}

// UnmarshalJSON reads a decimal number of percent from 0 to 100 and rounds it to three places.
func (p *Percentage) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("percentage: %w", err)
	}
	if math.IsNaN(f) || f < 0 || f > 100 {
		return fmt.Errorf("percentage %v is not between 0 and 100", f)
	}
	*p = Percentage(math.Round(f * 1000))
	return nil
}

// Version is one immutable upload of a script.
type Version struct {
	ID          string      `json:"id"`     // UUID v4
	Number      int64       `json:"number"` // 1, 2, 3, ... within the script
	CreatedOn   time.Time   `json:"created_on"`
	Source      string      `json:"source"` // "api", "wrangler", "dash", ...
	AuthorID    string      `json:"author_id"`
	AuthorEmail string      `json:"author_email"`
	Annotations Annotations `json:"annotations"`
	// Exactly one of the two is set.
	Origin *Origin `json:"origin,omitempty"`
	Worker *Worker `json:"worker,omitempty"`
}

// Annotations of a version or a deployment.
type Annotations struct {
	Message     string `json:"workers/message,omitempty"`
	Tag         string `json:"workers/tag,omitempty"`
	Alias       string `json:"workers/alias,omitempty"`
	TriggeredBy string `json:"workers/triggered_by,omitempty"`
}

// Split is one version's share of a deployment.
type Split struct {
	VersionID  string     `json:"version_id"`
	Percentage Percentage `json:"percentage"`
}

// Deployment says which versions of a script serve, and how the traffic is
// divided. It is immutable; a change is a new deployment.
type Deployment struct {
	ID          string      `json:"id"` // UUID v4
	CreatedOn   time.Time   `json:"created_on"`
	Source      string      `json:"source"`
	AuthorEmail string      `json:"author_email"`
	Strategy    string      `json:"strategy"` // always "percentage"
	Versions    []Split     `json:"versions"`
	Annotations Annotations `json:"annotations"`
	CodeUpdate  CodeUpdate  `json:"code_update_strategy"` // zero: the default
}

// Serving is what a script serves, and what was done to it by itself.
type Serving struct {
	Script     string
	Deployment Deployment
	Versions   []VersionName     // of the deployment, in its order
	Ramp       *Ramp             // the newest; nil if there was none
	Decision   *RollbackDecision // the newest that acted, without its evidence; nil if none did
}

// VersionName is what people call a version.
type VersionName struct {
	ID     string `json:"id"`
	Number int64  `json:"number"`
	Tag    string `json:"tag,omitempty"`
}

// Script is a service with versions.
type Script struct {
	AccountID  string
	Name       string
	Tag        string // 32 hex digits, given once
	CreatedOn  time.Time
	ModifiedOn time.Time
	DeployedOn time.Time // zero: never
	Logpush    Logpush
	Tags       []string
	// MigrationTag names the last migration of its Durable Objects; empty if none ran.
	MigrationTag string
	Routes       []string // patterns such as "shop.example.com/*"
	// Settings are kept and shown, and interpreted by nobody here, such as "observability".
	Settings map[string]json.RawMessage
}

// RoundShares turns the shares of a deployment's versions, in percent as they
// were sent, into thousandths. It is the numbers as sent that must sum to 100
// within 0.001. They are rounded along their running sum, so that errors do not
// add up: seven times 14.2857 is 100, not 100.002. Shares with three decimals stay
// what they are.
func RoundShares(percents []float64) ([]Percentage, error) {
	shares := make([]Percentage, len(percents))
	var sum float64
	var before Percentage
	for i, percent := range percents {
		if !(percent >= 0 && percent <= 100) {
			return nil, errs.New(errs.Invalid, 0, "versions[%d].percentage is %v: it must be between 0 and 100", i, percent).At(fmt.Sprintf("/versions/%d/percentage", i))
		}
		sum += percent
		upTo := Percentage(math.Round(sum * 1000))
		shares[i], before = upTo-before, upTo
	}
	if len(percents) > 0 && math.Abs(sum-100) > percentSumSlack {
		return nil, errs.New(errs.Invalid, 0, "percentages of versions sum to %s%%: they must sum to 100%% within 0.001",
			strconv.FormatFloat(math.Round(sum*1e9)/1e9, 'f', -1, 64)).At("/versions")
	}
	return shares, nil
}

// ValidateSplits checks the rules that need no knowledge of the script's
// versions: one to maxVersions entries, no repeats, a sum of 100 % within 0.001.
func ValidateSplits(splits []Split, maxVersions int) error {
	if len(splits) == 0 {
		return errs.New(errs.Invalid, 0, "versions is empty: name at least one version").At("/versions")
	}
	if len(splits) > maxVersions {
		return errs.New(errs.Invalid, 0, "versions has %d entries: a deployment of this account holds at most %d", len(splits), maxVersions).At("/versions")
	}
	var sum Percentage
	seen := make(map[string]bool, len(splits))
	for i, s := range splits {
		if s.Percentage < 0 || s.Percentage > Full {
			return errs.New(errs.Invalid, 0, "versions[%d].percentage is %s: it must be between 0 and 100", i, s.Percentage).At(fmt.Sprintf("/versions/%d/percentage", i))
		}
		if seen[s.VersionID] {
			return errs.New(errs.Invalid, 0, "versions[%d].version_id %q is repeated: name each version once", i, s.VersionID).At(fmt.Sprintf("/versions/%d/version_id", i))
		}
		seen[s.VersionID] = true
		sum += s.Percentage
	}
	if diff := sum - Full; diff < -percentageSumSlack || diff > percentageSumSlack {
		return errs.New(errs.Invalid, 0, "percentages of versions sum to %s: they must sum to 100%% within 0.001", sum).At("/versions")
	}
	return nil
}
