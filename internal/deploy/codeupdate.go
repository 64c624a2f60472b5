package deploy

import (
	"math"

	"tidegate/internal/errs"
)

// Modes of a CodeUpdate, and the bounds of its delay (reference/deployments.md,
// section 10).
const (
	CodeUpdateDeferred  = "deferred"  // an object that is busy may finish, for as long as the delay
	CodeUpdateImmediate = "immediate" // objects restart at once

	codeUpdateDelayDefault = 300.0
	codeUpdateDelayMax     = 86_400.0
)

// CodeUpdate says how long Durable Objects may stay on the version that they run
// when a deployment gives them another one.
type CodeUpdate struct {
	Mode            string   `json:"mode"`
	MaxDelaySeconds *float64 `json:"max_delay,omitempty"` // to the millisecond; nil with CodeUpdateImmediate
}

// DefaultCodeUpdate is that of a deployment that names none.
func DefaultCodeUpdate() CodeUpdate {
	delay := codeUpdateDelayDefault
	return CodeUpdate{Mode: CodeUpdateDeferred, MaxDelaySeconds: &delay}
}

// DelayMS is the delay in milliseconds: zero if objects restart at once.
func (c CodeUpdate) DelayMS() int64 {
	switch {
	case c.Mode == CodeUpdateImmediate:
		return 0
	case c.MaxDelaySeconds == nil:
		return codeUpdateDelayDefault * 1000
	}
	return int64(math.Round(*c.MaxDelaySeconds * 1000))
}

// Effective returns c with its defaults filled in, or an invalid error that names
// the member at fault.
func (c CodeUpdate) Effective() (CodeUpdate, error) {
	const at = "/code_update_strategy"
	switch {
	case c.Mode == CodeUpdateImmediate && c.MaxDelaySeconds == nil:
		return c, nil
	case c.Mode == CodeUpdateImmediate:
		return c, errs.New(errs.Invalid, 0, "code_update_strategy.max_delay is %v: the mode %q has no delay", *c.MaxDelaySeconds, c.Mode).At(at + "/max_delay")
	case c.Mode != CodeUpdateDeferred && c.Mode != "":
		return c, errs.New(errs.Invalid, 0, "code_update_strategy.mode %q must be %q or %q", c.Mode, CodeUpdateDeferred, CodeUpdateImmediate).At(at + "/mode")
	case c.MaxDelaySeconds == nil:
		return DefaultCodeUpdate(), nil
	}
	delay := *c.MaxDelaySeconds
	millis := math.Round(delay * 1000)
	if !(delay >= 0 && delay <= codeUpdateDelayMax) || math.Abs(delay*1000-millis) > 1e-6 {
		return c, errs.New(errs.Invalid, 0, "code_update_strategy.max_delay is %v: it must be from 0 to %v seconds, with at most three decimals", delay, codeUpdateDelayMax).At(at + "/max_delay")
	}
	return CodeUpdate{CodeUpdateDeferred, &delay}, nil
}
