package schema

import "time"

// EventTypeRPC is the EventType of a call by Workers RPC, of which nobody knows who made it.
const EventTypeRPC = "worker_rpc"

// CallQuery asks for the calls between Workers of an account.
type CallQuery struct {
	AccountID      string
	Since, Until   time.Time // [Since, Until)
	Caller, Callee string    // scripts; empty: every one
	Limit          int       // of pairs
}

// CallPair is what one version was called by another one. Counts are of requests, those
// whose events were sampled out included.
type CallPair struct {
	// CallerScript and CallerVersionID are empty for calls by RPC.
	CallerScript, CallerVersionID string
	CalleeScript, CalleeVersionID string
	CalleeTag                     string
	Requests, Failures            int64 // failures as Failed defines them
	LastSeen                      time.Time
}
