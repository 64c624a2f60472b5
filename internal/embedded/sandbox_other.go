//go:build !linux

package embedded

import (
	"errors"
	"fmt"
	"runtime"
)

// errNoSandbox says that the system cannot confine a process. The error around it says why.
var errNoSandbox = errors.New("this system cannot confine the ClickHouse engine")

// enterSandbox does nothing: only Linux has a sandbox that a process can enter without privileges.
func enterSandbox(_, _, _ string) error {
	_, err := landlockVersion()
	return err
}

func landlockVersion() (int, error) {
	return 0, fmt.Errorf("%w: there is no Landlock on %s", errNoSandbox, runtime.GOOS)
}

func sandboxDescription() (string, error) {
	_, err := landlockVersion()
	return "", err
}
