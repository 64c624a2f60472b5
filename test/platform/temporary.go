package platform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// StartTemporary is Start in a folder of its own, which holds the data and the output.
// The folder goes with stop, which the caller must call.
func StartTemporary(ctx context.Context, o Options) (p *Platform, stop func() error, err error) {
	dir, err := os.MkdirTemp("", "tidegate-")
	if err != nil {
		return nil, nil, err
	}
	output, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, nil, errors.Join(err, os.RemoveAll(dir))
	}
	o.DataDir, o.Output = filepath.Join(dir, "data"), output
	remove := func() error { return errors.Join(output.Close(), os.RemoveAll(dir)) }
	if p, err = Start(ctx, o); err != nil {
		return nil, nil, errors.Join(err, remove())
	}
	return p, func() error { return errors.Join(p.Stop(), remove()) }, nil
}
