package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// wallClock is the file by which the wall clock of the platform's own processes is set, if it is a binary of ./wrongclock:
// one integer, the seconds by which it is ahead of the machine's. The engine's process and the Workers runtime keep the
// machine's, as other machines keep theirs when the clock of one is wrong.
type wallClock struct{ file *os.File }

// clockOff is far beyond what the platform takes for a difference between clocks, and beyond every lease, session and window.
const clockOff = time.Hour

func newWallClock(dir string) (*wallClock, error) {
	f, err := os.Create(filepath.Join(dir, "clock")) // #nosec G304 -- our folder
	if err != nil {
		return nil, err
	}
	c := &wallClock{f}
	return c, c.set(0)
}

// environment is what a platform is started with, to follow it.
func (c *wallClock) environment() []string { return []string{"SOAK_WALL_CLOCK=" + c.file.Name()} }

func (c *wallClock) set(ahead time.Duration) error {
	// In place, and in one piece: processes have it mapped.
	_, err := c.file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second)), 0) // #nosec G115 -- two's complement is what is meant
	return err
}

// setClock sets the platform's clock and looks whether it goes by it.
func (w *world) setClock(ctx context.Context, ahead time.Duration) (undo func() error, note string, err error) {
	undo = func() error { return w.clock.set(0) }
	if err := w.clock.set(ahead); err != nil {
		return undo, "", err
	}
	off, err := w.clockOff(ctx)
	if err != nil {
		return undo, "", err
	}
	if (off - ahead).Abs() > time.Minute {
		why := fmt.Errorf("its clock is off by %s, not %s: %s was not built by ./test/soak/wrongclock", off.Round(time.Second), ahead, w.o.binary)
		return nil, "", errors.Join(&unavailable{why}, undo())
	}
	return undo, fmt.Sprintf("(by its own word off by %s)", off.Round(time.Second)), nil
}

// clockOff is by how much the clock is ahead that the platform's answers are dated with.
func (w *world) clockOff(ctx context.Context) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.ops+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := w.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	at, err := http.ParseTime(res.Header.Get("Date"))
	return time.Until(at), err
}
