package deploy

import "time"

// Hosts says which of a script's own hosts serve; its routes, its custom domains
// and calls by other scripts do not depend on it. Zero: all of them.
type Hosts struct {
	Disabled         bool // the script's own host
	PreviewsDisabled bool // those of its versions and aliases
}

// HostsUpdate changes Hosts; nil leaves a member as it is.
type HostsUpdate struct {
	Enabled         *bool
	PreviewsEnabled *bool
}

// Schedule calls the scheduled handler of a script. It is immutable.
type Schedule struct {
	Cron      string // five fields, in UTC
	CreatedOn time.Time
}

// Domain is a custom domain: every request to the host goes to the script, unless
// a longer route takes it.
type Domain struct {
	ID        string // 32 hex digits
	AccountID string
	Hostname  string // lower case
	Script    string
}

// Route is the pattern that stands for the domain.
func (d Domain) Route() string { return d.Hostname + "/*" }

// RoutesMax of a script, and as many domains: every gateway holds them.
const RoutesMax = 100

// ScriptRoute is a route and the script that it leads to. The zero ScriptRoute is
// none.
type ScriptRoute struct {
	Pattern string
	Script  string
}
