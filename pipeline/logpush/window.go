package logpush

import (
	"time"
)

// partsMax is how many objects one window may become. A folder that names the
// version has few; one record more begins the next window.
const partsMax = 100

// window is a range of offsets of one partition that is planned, sent and
// committed together: one batch, or one for each script or version where the
// folder names them. It is passive, as its batches are; a delivery owns it.
type window struct {
	*settings
	batches []*batch
	byPart  map[part]*batch
	last    *batch // to which a record was added last
	room    room   // for a batch, as the window before it needed it

	size     int64 // uncompressed bytes of all batches
	records  int
	held     int64     // bytes in memory
	closesAt time.Time // when it has been open for long enough; set with the first record

	begin, end      int64     // offsets: of the first record, after the last one seen
	first           time.Time // of the first record
	lowest, highest time.Time // of the records seen: they need not come in order
}

func newWindow(s *settings) *window { return &window{settings: s, byPart: map[part]*batch{}} }

// Empty reports whether no record was added yet.
func (w *window) Empty() bool { return w.records == 0 }

// Fits reports whether a record of n formatted bytes and time at may be added
// without passing a bound. Anything fits into an empty window. Old records among
// new ones, from a gateway's spool, close no window: there would be no end of them.
func (w *window) Fits(g part, n int, at time.Time) bool {
	return w.HasRoom(g, n) && (w.Empty() || at.Sub(w.first) <= w.bounds.span)
}

// HasRoom is Fits without the times.
func (w *window) HasRoom(g part, n int) bool {
	if w.Empty() {
		return true
	}
	if w.records >= w.bounds.records {
		return false
	}
	b := w.batchOf(g)
	if b == nil {
		return len(w.batches) < partsMax &&
			w.size+int64(n+len(w.format.BatchPrefix)+len(w.format.BatchSuffix)) <= w.bounds.bytes
	}
	return w.size+b.more(n) <= w.bounds.bytes
}

// batchOf returns the batch of a part, nil if there is none yet.
func (w *window) batchOf(g part) *batch {
	if w.last != nil && w.last.part == g { // Fast path - most folders name no parts
		return w.last
	}
	return w.byPart[g]
}

// Full reports whether the window has to be closed now whatever comes.
func (w *window) Full(now time.Time) bool {
	return !w.Empty() && (w.records >= w.bounds.records || w.size >= w.bounds.bytes || w.UntilNext(now) <= 0)
}

// UntilNext returns how long an open window may stay open.
func (w *window) UntilNext(now time.Time) time.Duration {
	return w.closesAt.Sub(now)
}

// Add takes the formatted text of the record at an offset. Item tells the rest of
// it to sinks that want to know.
func (w *window) Add(now time.Time, g part, text []byte, offset int64, at time.Time, item *Item) error {
	if w.Empty() {
		w.closesAt, w.begin = now.Add(w.bounds.interval), offset
		w.first, w.lowest, w.highest = at, at, at
	}
	b := w.batchOf(g)
	if b == nil {
		b = newBatch(w.settings, g, offset, at)
		b.room = w.room
		w.batches = append(w.batches, b)
		w.byPart[g] = b
		w.size += b.size
	}
	w.last = b
	before := b.size
	if err := b.add(text, offset, at, item); err != nil {
		return err
	}
	w.size += b.size - before
	w.held += b.grown()
	w.records++
	w.Extend(offset+1, at)
	return nil
}

// Extend moves the end of an open window over a record that is not part of it.
func (w *window) Extend(end int64, at time.Time) {
	w.end = end
	if at.After(w.highest) {
		w.highest = at
	}
	if at.Before(w.lowest) {
		w.lowest = at
	}
}

// Plan returns what the window holds.
func (w *window) Plan() plan {
	p := plan{Begin: w.begin, End: w.end, From: w.lowest.Unix(), Until: w.highest.Unix() + 1}
	p.ID = contentID(w.job.Revision, &p, w.records)
	return p
}

// Seal ends the window, which must not be used any more. Of a plan that the window was
// built again from some records may be gone: that is another batch, or it would replace
// the whole one, which may have been delivered. Plans without an ID don't tell how many
// records they were made for, but which was the first.
func (w *window) Seal(partition int, planned *plan) ([]*sealed, error) {
	if planned.ID != "" || w.begin != planned.Begin {
		planned.ID = contentID(w.job.Revision, planned, w.records)
	}
	objects := make([]*sealed, 0, len(w.batches))
	for _, b := range w.batches {
		s, err := b.seal(partition, planned)
		if err != nil {
			return nil, err
		}
		w.held += b.grown()
		objects = append(objects, s)
	}
	return objects, nil
}

// next returns the window that follows one that is sealed.
func (w *window) next() *window {
	next := newWindow(w.settings)
	if len(w.batches) == 1 {
		next.room = w.batches[0].needed()
	}
	return next
}
