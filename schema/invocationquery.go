package schema

import "time"

// InvocationQuery asks for what the Workers of an account did, in groups: the shape of
// Cloudflare's GraphQL dataset workersInvocationsAdaptive.
type InvocationQuery struct {
	AccountID string
	// Since and Until are whole seconds, [Since, Until).
	Since, Until time.Time
	Where        InvocationCondition
	// By are the dimensions that groups are told apart by; none is one group of all. Of
	// times only the shortest steps are among them.
	By []string
	// Step of InvocationTime; a multiple of a second that divides a day.
	Step time.Duration
	// Levels asks for quantiles of times, among InvocationLevels, Extremes for their
	// minimum, maximum and sum, and Stored for the number of events.
	Levels   []float64
	Extremes bool
	Stored   bool
	Order    []InvocationOrder
	Limit    int
}

// Dimensions of invocations.
const (
	InvocationScript  = "script"
	InvocationVersion = "version"
	InvocationStatus  = "status" // as InvocationStatuses has it
	InvocationTime    = "time"
)

// Sums of invocations, which groups may be ordered by beside their dimensions.
const (
	InvocationRequests = "requests"
	InvocationErrors   = "errors"
)

// InvocationOrder is one thing that groups are ordered by: a dimension in By, or a sum.
type InvocationOrder struct {
	By         string
	Step       time.Duration // of InvocationTime; 0 is the query's
	Descending bool
}

// InvocationCondition is a comparison of a dimension other than InvocationTime, or a
// combination. The zero value always holds.
type InvocationCondition struct {
	Dimension string
	Operator  InvocationOperator
	Values    []string // any number for in and notin, else one

	All []InvocationCondition // hold, all of them
	Any []InvocationCondition // one of which holds; nil is no such condition
}

// InvocationOperator compares a dimension with values.
type InvocationOperator string

// Operators. Like has % for any text and _ for one character, and \ before what is meant as it is.
const (
	InvocationEqual    InvocationOperator = "eq"
	InvocationNotEqual InvocationOperator = "neq"
	InvocationIn       InvocationOperator = "in"
	InvocationNotIn    InvocationOperator = "notin"
	InvocationLike     InvocationOperator = "like"
	InvocationNotLike  InvocationOperator = "notlike"
	InvocationGreater  InvocationOperator = "gt"
	InvocationAtLeast  InvocationOperator = "geq"
	InvocationLess     InvocationOperator = "lt"
	InvocationAtMost   InvocationOperator = "leq"
)

// Asks reports whether a condition is about a dimension.
func (c InvocationCondition) Asks(dimension string) bool {
	if c.Dimension == dimension {
		return true
	}
	for _, list := range [][]InvocationCondition{c.All, c.Any} {
		for _, one := range list {
			if one.Asks(dimension) {
				return true
			}
		}
	}
	return false
}

// InvocationStatuses has the name of each outcome in Cloudflare's metrics, where that is
// another one (developers.cloudflare.com/workers/observability/metrics-and-analytics,
// Invocation statuses). Only the first two are no errors.
var InvocationStatuses = []struct{ Outcome, Status string }{
	{OutcomeOK, "success"},
	{OutcomeCanceled, "clientDisconnected"},
	{OutcomeException, "scriptThrewException"},
	{OutcomeExceededCPU, "exceededResources"},
	{OutcomeExceededMemory, "exceededResources"},
	{OutcomeExceededWallTime, "exceededResources"},
}

// InvocationGroup is one group of invocations. Dimensions that were not asked for are
// empty, and what is not known is nil.
type InvocationGroup struct {
	ScriptName, VersionID, Status string
	Time                          time.Time // start of the step, UTC

	// Requests counts what sampling left out, too. An error is an outcome that is neither
	// ok nor canceled, whatever the status of the response.
	Requests, Errors int64
	// Stored are the requests of which there is an event.
	Stored *int64

	WallMs, CPUMs InvocationTimes
}

// InvocationTimes are of one duration, in milliseconds.
type InvocationTimes struct {
	Quantiles map[float64]float64 // by level, those that are known
	// Min and Max are of the stored events. Sum is of all requests, and nil where one of
	// them was not measured; what sampling left out is taken to have lasted as long as the
	// event that stands for it.
	Min, Max, Sum *float64
}

// InvocationLevels are the quantiles that can be asked for.
var InvocationLevels = []float64{0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999}
