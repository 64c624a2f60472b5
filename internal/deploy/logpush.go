package deploy

import (
	"encoding/json"
	"fmt"
)

// Logpush says whether events of a script may leave through Logpush jobs. It
// takes nothing from counts, rollback and tails.
type Logpush int8

const (
	// LogpushUnset: nobody has said. Events leave, and each job chooses with a filter.
	LogpushUnset Logpush = iota
	// LogpushEnabled: somebody asked for what happens anyway.
	LogpushEnabled
	// LogpushDisabled: no job gets them.
	LogpushDisabled
)

// LogpushOf is what somebody who sends a boolean has said.
func LogpushOf(enabled bool) Logpush {
	if enabled {
		return LogpushEnabled
	}
	return LogpushDisabled
}

// Enabled reports whether events leave.
func (l Logpush) Enabled() bool { return l != LogpushDisabled }

// MarshalJSON writes what was said, null where nobody did.
func (l Logpush) MarshalJSON() ([]byte, error) {
	switch l {
	case LogpushUnset:
		return []byte("null"), nil
	case LogpushEnabled, LogpushDisabled:
		return json.Marshal(l == LogpushEnabled)
	}
	return nil, fmt.Errorf("logpush setting %d is unknown", int8(l))
}
