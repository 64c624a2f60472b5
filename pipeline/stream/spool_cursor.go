package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"os"
	"strings"
)

// The cursor says how far the oldest segment has been sent, and under which identity the
// batch there is being sent:
//
//	0   number of the segment
//	8   offset in it
//	16  CRC-32C of the bytes before
//	20  identity, or none
//	54  CRC-32C of the bytes before
//
// A batch that Kafka has, and whose process died before it could note so, is sent again
// under that identity. With FsyncAlways the cursor is flushed before a batch is sent, so
// that this holds after a loss of power, too.
const (
	cursorPlaceBytes = 20 // all there was before batches had identities
	cursorBytes      = cursorPlaceBytes + identityBytes + 4
)

// keptSegment is one that was put out of the way.
type keptSegment struct {
	path  string
	bytes int64
}

// keptSuffix is in place of segmentSuffix then.
const keptSuffix = ".old"

// readCursor leaves the offset at 0 when the cursor is damaged or of another segment:
// sending twice is better than not at all. Numbers go on from the cursor's, or an old
// cursor could speak of a new segment and skip unsent frames. Segments before the
// cursor's are sent, and a loss of power brought them back; or somebody put them there, who
// shall not lose them: they are kept under another name.
func (s *spool) readCursor() error {
	var b [cursorBytes]byte
	if _, err := s.cursor.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	number, offset := binary.BigEndian.Uint64(b[:]), int64(binary.BigEndian.Uint64(b[8:]))
	if binary.BigEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return nil
	}
	s.last = max(s.last, number)
	for len(s.segments) > 0 && s.segments[0].number < number {
		if err := s.keepHead(); err != nil {
			return fmt.Errorf("rename a spool segment from before the cursor: %w", err)
		}
	}
	if len(s.segments) == 0 || s.segments[0].number != number || offset < 0 || offset > s.segments[0].bytes {
		return nil
	}
	s.offset = offset
	if end := cursorBytes - 4; binary.BigEndian.Uint32(b[end:]) == crc32.Checksum(b[:end], castagnoli) {
		s.noted = readIdentity(b[cursorPlaceBytes:])
	}
	return nil
}

// keepHead puts the oldest segment out of the way, under a name that nothing has.
func (s *spool) keepHead() error {
	head := s.segments[0]
	from := s.path(head.number)
	to := strings.TrimSuffix(from, segmentSuffix) + keptSuffix
	for _, err := os.Lstat(to); err == nil; _, err = os.Lstat(to) {
		to += keptSuffix
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	s.kept = append(s.kept, keptSegment{to, head.bytes})
	s.bytes -= head.bytes
	s.segments = s.segments[1:]
	return nil
}

// tellKept logs what was put out of the way, and what was left alone.
func (s *spool) tellKept(logger *slog.Logger) {
	for _, k := range s.kept {
		logger.Warn("a spool segment is older than what was sent last, so its events count as sent: a loss of power may bring one back; "+
			"if you put it there, move it to a spool folder that is empty, as 00000000000000000001"+segmentSuffix+", to have it sent", "path", k.path, "bytes", k.bytes)
	}
	for _, path := range s.strange {
		logger.Warn("a file in the spool folder is not named as a segment is, which has 20 digits, so it is left alone: "+
			"if it is one, rename it to have it sent", "path", path)
	}
}

func (s *spool) writeCursorLocked() error {
	b := make([]byte, cursorPlaceBytes, cursorBytes)
	binary.BigEndian.PutUint64(b, s.segments[0].number)
	binary.BigEndian.PutUint64(b[8:], uint64(s.offset))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	b = s.noted.append(b)
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := s.cursor.WriteAt(b, 0); err != nil {
		return fmt.Errorf("write the spool's cursor: %w", err)
	}
	return nil
}

// note keeps the identity under which the batch that next returned is going to be sent,
// or that it has none.
func (s *spool) note(id *identity) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noted = id
	err := s.writeCursorLocked()
	if err == nil && s.fsync == FsyncAlways {
		err = s.flush(s.cursor)
	}
	return err
}

// setAside puts the batch that next returned behind all others, and does nothing when
// there are none. A process that dies in between leaves it there twice, under one
// identity.
func (s *spool) setAside(b batch) error {
	s.mu.Lock()
	alone := s.bytes-s.offset <= frameHeaderBytes+int64(len(b.data))
	s.mu.Unlock()
	if alone {
		return nil
	}
	return s.replace(b, []batch{b})
}

// replace puts others behind all that is there, in place of the batch that next returned.
// The bound does not hold for them: what they replace is freed with its segment, so the
// spool is above it by about a segment at most.
func (s *spool) replace(b batch, others []batch) error {
	for _, other := range others {
		frame := appendFrame(make([]byte, 0, framesBytes(other)), other)
		s.mu.Lock()
		err := s.appendLocked(frame)
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return s.took(b)
}
