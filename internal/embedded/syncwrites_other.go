//go:build !linux

package embedded

import "errors"

func syncWrites(string) error { return errors.ErrUnsupported }
