//go:build !unix

package nowait

import "errors"

// Read can be had on other systems only.
func Read(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// Write can be had on other systems only.
func Write(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }
