package api

import (
	"encoding/json"
	"errors"
	"strings"

	"tidegate/internal/errs"
)

// observability is the setting as clients write it and read it. It changes nothing
// here, and members that are not listed are kept too.
type observability struct {
	Enabled          *bool    `json:"enabled"`
	HeadSamplingRate *float64 `json:"head_sampling_rate"`
	Logs             *signal  `json:"logs"`
	Traces           *signal  `json:"traces"`
}

type signal struct {
	Enabled          *bool    `json:"enabled"`
	InvocationLogs   *bool    `json:"invocation_logs"` // of logs
	HeadSamplingRate *float64 `json:"head_sampling_rate"`
	Persist          *bool    `json:"persist"`
	Destinations     []string `json:"destinations"`
}

// checkObservability refuses what a client that reads it back could not read.
func checkObservability(text json.RawMessage) error {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	at := place{}.member("observability")
	if text[0] != '{' {
		return at.fail("is %s: it must be an object", shown(string(text)))
	}
	err := json.Unmarshal(text, &observability{})
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		for name := range strings.SplitSeq(e.Field, ".") {
			at = at.member(name)
		}
		return at.fail("must be %s, not %s", wanted(e.Type), e.Value)
	}
	if err != nil {
		return errs.New(errs.Invalid, 0, "observability cannot be read: %v", err).At(at.pointer())
	}
	return nil
}

// viewObservability is the setting as it was sent, with the switches that clients
// require and that nobody set: as they are upstream then. It is nil for none.
func viewObservability(set json.RawMessage) map[string]any {
	if set == nil {
		return nil
	}
	view := membersOr(set, map[string]any{"enabled": false})
	if logs, sent := view["logs"].(json.RawMessage); sent {
		view["logs"] = membersOr(logs, map[string]any{"enabled": false, "invocation_logs": true})
	}
	return view
}

// membersOr returns the members of an object that are not null, and the defaults of
// the others. Text that is no object was refused when it came.
func membersOr(text json.RawMessage, defaults map[string]any) map[string]any {
	var sent map[string]json.RawMessage
	if json.Unmarshal(text, &sent) != nil {
		return defaults
	}
	for name, value := range sent {
		if string(value) != "null" {
			defaults[name] = value
		}
	}
	return defaults
}
