//go:build !linux

package network

import (
	"errors"
	"os"
)

func openTUN(string) (*os.File, error) {
	return nil, errors.New("network namespaces are Linux's")
}
