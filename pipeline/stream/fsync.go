package stream

import (
	"context"
	"fmt"
	"time"
)

// Fsync says when what is put into the spool is made to survive a loss of power. A
// process that crashes or is killed loses nothing of it in any case: the kernel has it.
// The zero value is FsyncAlways; a positive one is an interval.
type Fsync time.Duration

const (
	// FsyncAlways flushes every batch before it counts as spooled.
	FsyncAlways Fsync = 0
	// FsyncNever leaves it to the kernel, which usually takes up to half a minute.
	FsyncNever Fsync = -1
	// fsyncIntervalMin keeps an interval from being a slower FsyncAlways.
	fsyncIntervalMin = Fsync(time.Millisecond)
)

// Set reads "always", "never" or an interval such as "200ms". With String and Type it
// makes an Fsync a flag.
func (f *Fsync) Set(text string) error {
	switch text {
	case "always":
		*f = FsyncAlways
		return nil
	case "never":
		*f = FsyncNever
		return nil
	}
	interval, err := time.ParseDuration(text)
	if err != nil || Fsync(interval) < fsyncIntervalMin {
		return fmt.Errorf("%q is no policy: it must be always, never, or an interval of a millisecond or more, such as 200ms", text)
	}
	*f = Fsync(interval)
	return nil
}

func (f *Fsync) String() string {
	switch *f {
	case FsyncAlways:
		return "always"
	case FsyncNever:
		return "never"
	}
	return time.Duration(*f).String()
}

// Type is the name of the flag's value in a help text.
func (f *Fsync) Type() string { return "policy" }

// keepSynced flushes the spool at every interval until ctx ends; what is appended
// after that is flushed when the spool is closed.
func (p *Producer) keepSynced(ctx context.Context) {
	ticker := time.NewTicker(time.Duration(p.cfg.SpoolFsync))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := p.spool.sync(); err != nil {
			p.metrics.errors.Add(ctx, 1, stageSpool)
			p.trouble.warn(ctx, "flush the spool: a loss of power may lose what it took since the last flush", err)
		}
	}
}

// sync makes durable what append has left to it.
func (s *spool) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.syncLocked()
}

func (s *spool) syncLocked() error {
	if !s.unsynced || s.tail == nil {
		return nil
	}
	// Not tried again after a failure: the kernel has dropped the pages, and a second
	// success would say nothing of them.
	s.unsynced = false
	return s.flush(s.tail)
}
