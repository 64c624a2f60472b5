package deploy

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
