//go:build !linux && !darwin

package runtime

import "errors"

// exchange has no step here that leaves nothing in between; locks that processes
// inherit are missing as well, so Durable Objects do not run.
func exchange(string, string) error { return errors.ErrUnsupported }
