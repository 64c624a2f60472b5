package logpush

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// Deletions knows what was deleted by request. Its methods are safe for concurrent use.
type Deletions interface {
	// Tombstones returns what is not to be sent, wherever it still lies.
	Tombstones(ctx context.Context) ([]schema.Tombstone, error)
}

// deleted is what Deletions last said. It is safe for concurrent use, and nil knows of
// nothing.
type deleted struct {
	from Deletions // nil: there are none

	reading sync.Mutex // or an older list could come last
	list    atomic.Pointer[schema.Tombstones]
}

// refresh asks again. Until it has succeeded once, nothing may be sent.
func (d *deleted) refresh(ctx context.Context) error {
	if d.from == nil {
		return nil
	}
	d.reading.Lock()
	defer d.reading.Unlock()
	list, err := d.from.Tombstones(ctx)
	if err != nil {
		return fmt.Errorf("read what is deleted: %w", err)
	}
	d.list.Store(schema.NewTombstones(list))
	return nil
}

// covers reports whether a record is deleted. event is empty for one that is malformed.
func (d *deleted) covers(r *stream.Record, event *logjob.Record, malformed bool) bool {
	if d == nil {
		return false
	}
	list := d.list.Load()
	switch {
	case !list.In(r.Account):
		return false
	case malformed:
		return list.CoverUnread(r.Account, r.Value, r.Time)
	}
	script, _ := logjob.Unquote(event.Raw("ScriptName")) // what is no string names no script
	return list.Cover(r.Account, string(script), timeOf(event, r.Time))
}
