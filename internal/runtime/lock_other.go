//go:build !unix

package runtime

import (
	"errors"
	"os"
)

// lockFile has no lock here that a child process inherits, so Durable Objects do
// not run.
func lockFile(*os.File) (bool, error) { return false, errors.ErrUnsupported }
