package deploy

import "time"

// VersionReport is what a router says of a version: whether its process serves there or
// cannot start, and which endpoints of an origin are out. Of several of one router the newest counts.
type VersionReport struct {
	AccountID string       `json:"account_id"`
	Script    string       `json:"script"`
	VersionID string       `json:"version_id"`
	RouterID  string       `json:"router_id"`
	Phase     BackendPhase `json:"phase"` // BackendReady or BackendFailed
	Error     string       `json:"error"` // why it failed, in the runtime's words; of a version that is ready, what is out
	At        time.Time    `json:"at"`    // when the router noticed
}

// ReportErrorBytesMax of a report's error are sent and kept.
const ReportErrorBytesMax = 4 << 10
