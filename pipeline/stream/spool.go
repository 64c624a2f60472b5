package stream

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// The spool keeps batches on disk, in order, while Kafka does not take them. It
// is a folder of
//
//	<20 digits>.seg   segments, append-only, read in the order of their numbers
//	cursor            how far the oldest segment has been sent: spool_cursor.go
//	lock              held by the process that uses the folder
//
// A segment is a sequence of frames: 16 bytes of header, then the batch.
//
//	0  CRC-32C of bytes 4 to 15
//	4  length of the batch in bytes
//	8  CRC-32C of the batch
//	12 events in the batch
//
// All numbers are big-endian. The header has its own checksum so that a damaged
// batch can be counted, to the event, and passed over.
//
// The batch has no identity in it. If it has one, a frame before it holds that, of no
// events and with the complement of its checksum. Releases before identities send what
// they find to any partition, where an identity could be another batch's: they take such a
// frame for a damaged batch of no events, and pass over it.
//
// Every append is one write and, with FsyncAlways, one fsync: a batch that counts as
// spooled survives the loss of power.
//
// A process never appends to a segment it did not make, so a torn tail stays the
// end of its segment. At the bound the newest batch is refused: what is on disk
// is safe already, and a drain that runs from the front needs no second hand at
// the front.
const (
	frameHeaderBytes = 16
	// frameBytesMax bounds what a reader allocates for a batch whose header it
	// believes: the largest event there can be, and then some.
	frameBytesMax   = 2 * eventBytesMax
	segmentBytesMax = 16 << 20
	segmentSuffix   = ".seg"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errSpoolFull = errors.New("the spool is full")

// spool is safe for concurrent use. Batches leave in the order they came in.
type spool struct {
	dir      string
	bytesMax int64
	fsync    Fsync
	flush    func(*os.File) error // (*os.File).Sync
	lock     *os.File
	cursor   *os.File
	ready    chan struct{} // gets a token when a batch is appended

	mu       sync.Mutex
	segments []segment // oldest first; the last is written to if tail is open
	tail     *os.File
	head     *os.File  // segments[0], for reading; nil until it is needed
	offset   int64     // in head, of the next frame
	noted    *identity // of the batch there
	bytes    int64     // in all segments, sent frames of the oldest included
	last     uint64    // highest segment number that was ever given out; see readCursor
	unsynced bool      // tail has what sync is to flush
	kept     []keptSegment
	strange  []string // files that look like segments, and are none
}

type segment struct {
	number uint64
	bytes  int64
}

// damage is what a reader could not use.
type damage struct {
	events int   // in batches with a good header and bad content
	bytes  int64 // that they take up, and the rest of segments after a bad header
}

// openSpool takes dir, which no other process may use, and finds what an earlier
// one left there.
func openSpool(dir string, bytesMax int64) (*spool, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool folder: %w", err)
	}
	s := &spool{dir: dir, bytesMax: bytesMax, flush: (*os.File).Sync, ready: make(chan struct{}, 1)}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", dir, err), s.close())
	}
	return s, nil
}

func (s *spool) open() (err error) {
	if s.lock, err = os.OpenFile(filepath.Join(s.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another process uses it; give each gateway a folder of its own: %w", err)
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		number, ok := segmentNumber(e.Name())
		if !ok {
			if strings.HasSuffix(e.Name(), segmentSuffix) {
				s.strange = append(s.strange, filepath.Join(s.dir, e.Name()))
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		s.segments = append(s.segments, segment{number: number, bytes: info.Size()})
		s.bytes += info.Size()
		s.last = max(s.last, number)
	}
	slices.SortFunc(s.segments, func(a, b segment) int { return cmp.Compare(a.number, b.number) })
	if s.cursor, err = os.OpenFile(filepath.Join(s.dir, "cursor"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	return s.readCursor()
}

// segmentNumber takes the names that path makes and no others: 1.seg would be looked for
// under another name.
func segmentNumber(name string) (number uint64, ok bool) {
	number, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 10, 64)
	return number, err == nil && name == segmentName(number)
}

func isSegment(path string) bool {
	_, ok := segmentNumber(filepath.Base(path))
	return ok
}

func segmentName(number uint64) string { return fmt.Sprintf("%020d%s", number, segmentSuffix) }

// append stores b, or returns errSpoolFull, or an error of the disk. After an
// error b is not in the spool.
func (s *spool) append(b batch) error {
	frame := appendFrame(make([]byte, 0, framesBytes(b)), b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes+int64(len(frame)) > s.bytesMax {
		return errSpoolFull
	}
	return s.appendLocked(frame)
}

func (s *spool) appendLocked(frame []byte) error {
	if s.tail == nil || s.segments[len(s.segments)-1].bytes >= segmentBytesMax {
		if err := s.beginSegmentLocked(); err != nil {
			return fmt.Errorf("begin a spool segment: %w", err)
		}
	}
	last := &s.segments[len(s.segments)-1]
	_, err := s.tail.WriteAt(frame, last.bytes)
	if err == nil && s.fsync == FsyncAlways {
		err = s.flush(s.tail)
	}
	if err != nil {
		// The size is not moved on, and the next append writes over what this one
		// left. If that can't be cut off, the segment ends here.
		if errTruncate := s.tail.Truncate(last.bytes); errTruncate != nil {
			err = errors.Join(err, errTruncate, s.endSegmentLocked())
		}
		return fmt.Errorf("append %d bytes to the spool: %w", len(frame), err)
	}
	last.bytes += int64(len(frame))
	s.bytes += int64(len(frame))
	s.unsynced = s.fsync > FsyncAlways
	select {
	case s.ready <- struct{}{}:
	default:
	}
	return nil
}

// framesBytes is what appendFrame adds.
func framesBytes(b batch) int {
	size := frameHeaderBytes + len(b.data)
	if b.id != nil {
		size += frameHeaderBytes + identityBytes
	}
	return size
}

// appendFrame adds the frame of b, and before it that of its identity.
func appendFrame(to []byte, b batch) []byte {
	if b.id != nil {
		id := b.id.append(nil)
		to = append(appendFrameHeader(to, len(id), ^crc32.Checksum(id, castagnoli), 0), id...)
		b.data = slices.Clone(b.data)
		stamp(b.data, nil)
	}
	return append(appendFrameHeader(to, len(b.data), crc32.Checksum(b.data, castagnoli), b.events), b.data...)
}

func appendFrameHeader(to []byte, length int, checksum uint32, events int) []byte {
	var header [frameHeaderBytes]byte
	binary.BigEndian.PutUint32(header[4:], uint32(length))
	binary.BigEndian.PutUint32(header[8:], checksum)
	binary.BigEndian.PutUint32(header[12:], uint32(events))
	binary.BigEndian.PutUint32(header[0:], crc32.Checksum(header[4:], castagnoli))
	return append(to, header[:]...)
}

func (s *spool) beginSegmentLocked() error {
	if err := s.endSegmentLocked(); err != nil {
		return err
	}
	number := s.last + 1
	file, err := os.OpenFile(s.path(number), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if s.fsync != FsyncNever {
		if err := syncFolder(s.dir); err != nil {
			return errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}
	s.tail, s.last = file, number
	s.segments = append(s.segments, segment{number: number})
	return nil
}

func (s *spool) endSegmentLocked() error {
	if s.tail == nil {
		return nil
	}
	err := s.syncLocked()
	tail := s.tail
	s.tail = nil
	return errors.Join(err, tail.Close())
}

func (s *spool) path(number uint64) string {
	return filepath.Join(s.dir, segmentName(number))
}

// next returns the oldest batch without taking it out, and false when there is
// none. What is damaged on the way there is removed and reported.
func (s *spool) next() (b batch, ok bool, lost damage, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.segments) > 0 {
		size := s.segments[0].bytes
		if s.offset >= size {
			if len(s.segments) == 1 && s.offset == 0 {
				return batch{}, false, lost, nil // begun, and nothing appended yet
			}
			if err := s.removeHeadLocked(); err != nil {
				return batch{}, false, lost, fmt.Errorf("remove a sent spool segment: %w", err)
			}
			continue
		}
		if s.head == nil {
			if s.head, err = os.Open(s.path(s.segments[0].number)); err != nil {
				return batch{}, false, lost, fmt.Errorf("read the spool: %w", err)
			}
		}
		b, used, err := readFrame(io.NewSectionReader(s.head, s.offset, size-s.offset))
		switch {
		case err == nil && b.data == nil:
			s.offset, s.noted = s.offset+used, b.id
		case err == nil:
			if s.noted != nil {
				b.bind(s.noted)
			}
			return b, true, lost, nil
		case errors.Is(err, errBadBatch):
			lost.events += b.events
			used = min(used, size-s.offset) // a torn batch ends early
			lost.bytes += used
			s.offset, s.noted = s.offset+used, nil
		case errors.Is(err, errBadHeader):
			lost.bytes += size - s.offset
			s.offset, s.noted = size, nil
		default:
			return batch{}, false, lost, fmt.Errorf("read the spool: %w", err)
		}
	}
	return batch{}, false, lost, nil
}

var (
	errBadHeader = errors.New("damaged frame header")
	errBadBatch  = errors.New("damaged batch")
)

// readFrame reads one frame and returns how many bytes it takes. With errBadBatch
// the number of events and the size are good, the content is not. Of an identity's frame
// b has that alone.
func readFrame(r io.Reader) (b batch, used int64, err error) {
	var header [frameHeaderBytes]byte
	if _, err := io.ReadFull(r, header[:]); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return batch{}, 0, errBadHeader
	} else if err != nil {
		return batch{}, 0, err
	}
	length := binary.BigEndian.Uint32(header[4:])
	if binary.BigEndian.Uint32(header[:]) != crc32.Checksum(header[4:], castagnoli) || length > frameBytesMax {
		return batch{}, 0, errBadHeader
	}
	b.events = int(binary.BigEndian.Uint32(header[12:]))
	used = frameHeaderBytes + int64(length)
	b.data = make([]byte, length)
	if _, err := io.ReadFull(r, b.data); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return b, used, errBadBatch
	} else if err != nil {
		return batch{}, 0, err
	}
	checksum := crc32.Checksum(b.data, castagnoli)
	switch noted := binary.BigEndian.Uint32(header[8:]); {
	case b.events == 0 && length == identityBytes && noted == ^checksum:
		return batch{id: readIdentity(b.data)}, used, nil
	case noted != checksum:
		return b, used, errBadBatch
	}
	return b, used, nil
}

// took removes the batch that next returned.
func (s *spool) took(b batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset, s.noted = s.offset+frameHeaderBytes+int64(len(b.data)), nil
	if s.offset >= s.segments[0].bytes {
		return s.removeHeadLocked()
	}
	return s.writeCursorLocked()
}

// removeHeadLocked deletes the oldest segment. If it is the one being written to,
// the next append begins another.
func (s *spool) removeHeadLocked() error {
	head := s.segments[0]
	var errs []error
	if len(s.segments) == 1 {
		errs = append(errs, s.endSegmentLocked())
	}
	if s.head != nil {
		errs = append(errs, s.head.Close())
		s.head = nil
	}
	if err := os.Remove(s.path(head.number)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return errors.Join(append(errs, err)...)
	}
	s.segments = s.segments[1:]
	s.bytes -= head.bytes
	s.offset, s.noted = 0, nil
	return errors.Join(errs...)
}

// size returns how many bytes the spool takes up on disk.
func (s *spool) size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bytes
}

func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	errs := []error{s.endSegmentLocked()}
	for _, file := range []*os.File{s.head, s.cursor, s.lock} { // the lock last
		if file != nil {
			errs = append(errs, file.Close())
		}
	}
	s.head, s.cursor, s.lock = nil, nil, nil
	return errors.Join(errs...)
}

// syncFolder makes a new name in a folder durable.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
