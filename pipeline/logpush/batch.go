package logpush

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/logjob"
	"tidegate/schema"
)

// bounds close a batch; whichever is reached first.
type bounds struct {
	bytes    int64 // uncompressed
	records  int
	interval time.Duration // since the first record was added, by our clock
	span     time.Duration // between the records' own times
}

// Defaults of a job that does not say, and the most that the service does
// whatever a job says: a bound of 0, which turns it off, still ends here.
const (
	defaultBytes   = 5_000_000
	defaultRecords = 100_000
	lowRecords     = 1_000_000 // frequency "low"
	lowInterval    = 5 * time.Minute

	maxBytes    = 100_000_000 // a batch is held in memory, compressed
	maxRecords  = 1_000_000
	maxInterval = 5 * time.Minute

	// catchUpSpan is the time range of one upload after an outage, as in Logpush.
	catchUpSpan = 2 * time.Minute
)

// boundsOf returns the bounds of a job. Jobs that set no interval get defaultInterval.
func boundsOf(j *logjob.Job, defaultInterval time.Duration) bounds {
	b := bounds{bytes: defaultBytes, records: defaultRecords, interval: defaultInterval}
	if j.Frequency == logjob.FrequencyLow {
		b.bytes, b.records, b.interval = maxBytes, lowRecords, lowInterval
	}
	if v := j.MaxUploadBytes; v != nil {
		b.bytes = within(*v, maxBytes)
	}
	if v := j.MaxUploadRecords; v != nil {
		b.records = within(int(*v), maxRecords)
	}
	if v := j.MaxUploadIntervalSeconds; v != nil {
		b.interval = within(time.Duration(*v)*time.Second, maxInterval)
	}
	b.span = max(catchUpSpan, b.interval)
	return b
}

// within is a job's bound under the service's own; zero means no bound of its own.
func within[T int | int64 | time.Duration](value, most T) T {
	if value == 0 {
		return most
	}
	return min(value, most)
}

// chunk is how much is formatted before it is compressed: enough to make the
// calls cheap, little enough to stay in the cache.
const chunk = 64 << 10

// gzip writers hold about a megabyte each; only open batches have one.
var gzipWriters = sync.Pool{New: func() any { return gzip.NewWriter(nil) }}

// batch collects the records of one partition. It is passive: no goroutine, no
// lock, and the clock is passed in. The loop of the partition owns it.
type batch struct {
	format *logjob.Format
	bounds bounds

	zip      *gzip.Writer // nil while the batch is empty
	body     bytes.Buffer // compressed
	pending  []byte       // formatted, not compressed yet
	size     int64        // uncompressed bytes so far
	records  int
	openedAt time.Time // when the first record was added
	index    []place

	begin, end      int64     // offsets: of the first record, after the last one seen
	first           time.Time // of the first record
	lowest, highest time.Time // of the records seen: they need not come in order
}

func (b *batch) Empty() bool { return b.records == 0 }

// Fits reports whether a record of n formatted bytes and time at may be added
// without passing a bound. Anything fits into an empty batch. Old records among
// new ones, from a gateway's spool, close no batch: there would be no end of them.
func (b *batch) Fits(n int, at time.Time) bool {
	return b.HasRoom(n) && (b.Empty() || at.Sub(b.first) <= b.bounds.span)
}

// HasRoom is Fits without the times.
func (b *batch) HasRoom(n int) bool {
	more := int64(n + len(b.format.Delimiter) + len(b.format.BatchSuffix))
	return b.Empty() || b.size+more <= b.bounds.bytes && b.records < b.bounds.records
}

// Full reports whether the batch has to be closed now.
func (b *batch) Full(now time.Time) bool {
	return !b.Empty() && (b.records >= b.bounds.records || b.size >= b.bounds.bytes || b.UntilNext(now) <= 0)
}

// UntilNext returns how long an open batch may stay open.
func (b *batch) UntilNext(now time.Time) time.Duration {
	return b.openedAt.Add(b.bounds.interval).Sub(now)
}

// Add takes the formatted text of the record at an offset.
func (b *batch) Add(now time.Time, text []byte, offset int64, at time.Time) error {
	if b.Empty() {
		b.zip = gzipWriters.Get().(*gzip.Writer)
		b.zip.Reset(&b.body)
		b.openedAt, b.begin = now, offset
		b.first, b.lowest, b.highest = at, at, at
		b.append(b.format.BatchPrefix)
	} else {
		b.append(b.format.Delimiter)
	}
	b.append(text)
	b.records++
	b.index = append(b.index, place{end: uint32(b.size), offset: uint32(offset - b.begin)})
	b.Extend(offset+1, at)
	if len(b.pending) < chunk {
		return nil
	}
	// One byte stays behind: a "${" may lie across the border.
	return b.compress(len(b.pending) - 1)
}

// Extend moves the end of an open batch over a record that is not part of it.
func (b *batch) Extend(end int64, at time.Time) {
	b.end = end
	if at.After(b.highest) {
		b.highest = at
	}
	if at.Before(b.lowest) {
		b.lowest = at
	}
}

func (b *batch) append(text []byte) {
	b.pending = append(b.pending, text...)
	b.size += int64(len(text))
}

func (b *batch) compress(n int) error {
	b.format.Defuse(b.pending)
	if _, err := b.zip.Write(b.pending[:n]); err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	b.pending = b.pending[:copy(b.pending, b.pending[n:])]
	return nil
}

// Plan returns what the batch holds.
func (b *batch) Plan(revision int64) *plan {
	return &plan{Revision: revision, End: b.end, From: b.lowest.Unix(), Until: b.highest.Unix() + 1}
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

// place of a record in its batch.
type place struct {
	end    uint32 // in the uncompressed body: where its text ends
	offset uint32 // in the partition, from the batch's first record
}

// Seal ends the batch. What it returns is valid until Reset.
func (b *batch) Seal(job int64, partition int, planned *plan, begin int64) (*sealed, error) {
	b.append(b.format.BatchSuffix)
	if err := b.compress(len(b.pending)); err != nil {
		return nil, err
	}
	if err := b.zip.Close(); err != nil {
		return nil, fmt.Errorf("compress a batch: %w", err)
	}
	id := batchID(job, partition, begin)
	return &sealed{
		Object: Object{
			Name: objectName(id, planned), Date: planned.start(), Body: b.body.Bytes(), ContentType: b.format.ContentType,
			Records: b.records, JobID: job, BatchID: id, Dataset: schema.Dataset,
		},
		size: b.size, begin: b.begin, until: planned.until(), oldest: b.lowest, index: b.index,
	}, nil
}

// Reset makes the batch empty.
func (b *batch) Reset() {
	if b.zip != nil {
		gzipWriters.Put(b.zip)
	}
	*b = batch{format: b.format, bounds: b.bounds, body: b.body, pending: b.pending[:0], index: b.index[:0]}
	b.body.Reset()
	if b.body.Cap() > keepBuffer { // a large batch does not hold its memory for ever
		b.body = bytes.Buffer{}
	}
}

// keepBuffer is how much memory an empty batch keeps, in bytes.
const keepBuffer = 1 << 20
