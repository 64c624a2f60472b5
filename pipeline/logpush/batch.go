package logpush

import (
	"slices"
	"sync"
	"time"

	"tidegate/schema"
)

// part is what the folder's placeholders tell apart: the records of one object
// have the same. Members that the folder does not name are empty.
type part struct{ script, version string }

// batch collects what becomes one object. It is passive: no goroutine, no lock,
// and the clock is passed in. It belongs to its window.
type batch struct {
	*settings
	part  part
	zip   zipper
	text  []byte // formatted, not compressed yet; all of it for sinks that want items
	items []Item // for sinks that want them; their texts are cut out of text at the end

	size    int64     // uncompressed bytes so far
	index   []place   // of each record
	begin   int64     // offset of the first record
	oldest  time.Time // time of the oldest record
	charged int64     // what held returned last
	room    room
}

// room is what a batch needs in memory that outlives it: making it at once costs less
// than having it grow.
type room struct{ bodyBytes, records int }

// texts are for records that are not compressed yet, of batches that are sealed.
var texts = sync.Pool{New: func() any { return new([]byte) }}

// place of a record in its batch.
type place struct {
	end    uint32 // in the uncompressed body: where its text ends
	offset uint32 // in the partition, from the batch's first record
}

func newBatch(s *settings, g part, offset int64, at time.Time) *batch {
	b := &batch{settings: s, part: g, begin: offset, oldest: at}
	if !s.traits.Records {
		b.text = *texts.Get().(*[]byte)
	}
	b.append(s.format.BatchPrefix)
	return b
}

// more returns by how many bytes a record of n formatted bytes makes the object
// longer, its end included.
func (b *batch) more(n int) int64 {
	return int64(n + len(b.format.Delimiter) + len(b.format.BatchSuffix))
}

// add takes the formatted text of the record at an offset.
func (b *batch) add(text []byte, offset int64, at time.Time, item *Item) error {
	if len(b.index) > 0 {
		b.append(b.format.Delimiter)
	}
	if b.traits.Records {
		b.items = append(b.items, *item)
		b.items[len(b.items)-1].Offset = offset
	}
	b.append(text)
	b.index = append(b.index, place{end: uint32(b.size), offset: uint32(offset - b.begin)}) // #nosec G115 -- a batch ends at maxBytes, and long before 2^32 offsets
	if at.Before(b.oldest) {
		b.oldest = at
	}
	if b.traits.Records || len(b.text) <= pieceBytes {
		return nil
	}
	// One byte stays behind: a "${" may lie across the border.
	return b.compress((len(b.text) - 1) / pieceBytes * pieceBytes)
}

func (b *batch) append(text []byte) {
	b.text = append(b.text, text...)
	b.size += int64(len(text))
}

func (b *batch) compress(n int) error {
	if n >= pieceBytes && b.zip.body.Len() == 0 { // it may come to as much as the one before
		b.zip.body.Grow(b.room.bodyBytes)
		b.index = slices.Grow(b.index, max(b.room.records-len(b.index), 0))
	}
	b.format.Defuse(b.text)
	if err := b.zip.write(b.text[:n]); err != nil {
		return err
	}
	if rest := b.text[n:]; cap(b.text) > textKept { // of a long record
		b.text = append(make([]byte, 0, 2*pieceBytes), rest...)
	} else {
		b.text = b.text[:copy(b.text, rest)]
	}
	return nil
}

// grown returns by how many bytes the memory of the batch has grown since it was asked last.
func (b *batch) grown() int64 {
	const placeBytes, itemBytes = 8, 120
	now := int64(cap(b.text) + b.zip.held() + cap(b.index)*placeBytes + cap(b.items)*itemBytes)
	grown := now - b.charged
	b.charged = now
	return grown
}

// sealed is a batch that is ready to be sent: the object, and what it takes to
// tell of it or to send parts of it.
type sealed struct {
	Object
	size   int64     // uncompressed bytes
	begin  int64     // offset of the first record
	until  time.Time // end of the batch's time range
	oldest time.Time // time of the oldest record
	index  []place   // of each record
}

// seal ends the batch, which is part of a plan and must not be used any more.
func (b *batch) seal(partition int, planned *plan) (*sealed, error) {
	id := b.batchID(partition, planned)
	name := objectName(id, planned)
	if b.part != (part{}) {
		id, name = b.part.name(id, planned)
	}
	s := &sealed{
		Object: Object{
			Name: name, Date: planned.start(), ContentType: b.format.ContentType, Records: len(b.index),
			JobID: b.job.ID, BatchID: id, Dataset: schema.Dataset, Partition: partition, Script: b.part.script, Version: b.part.version,
		},
		begin: b.begin, until: planned.until(), oldest: b.oldest, index: b.index,
	}
	if b.traits.Records {
		s.Items, s.size = b.cutItems(), b.size
		return s, nil
	}
	b.append(b.format.BatchSuffix)
	if err := b.compress(len(b.text)); err != nil {
		return nil, err
	}
	s.Body, s.size = b.zip.end(), b.size
	if text := b.text[:0]; cap(text) <= 2*pieceBytes {
		texts.Put(&text)
	}
	b.text = nil
	return s, nil
}

// needed returns the room that a batch like this one, which is sealed, needs.
func (b *batch) needed() room {
	const more = 16 // a sixteenth
	body := b.zip.body.Len()
	return room{bodyBytes: body + body/more, records: len(b.index) + len(b.index)/more}
}

// cutItems gives each item its text.
func (b *batch) cutItems() []Item {
	b.format.Defuse(b.text)
	start := len(b.format.BatchPrefix)
	for i, p := range b.index {
		b.items[i].Text = b.text[start:p.end:p.end]
		start = int(p.end) + len(b.format.Delimiter)
	}
	return b.items
}
