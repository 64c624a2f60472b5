package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// The cursor says how far the oldest segment has been sent, and under which identity the
// batch there is being sent:
//
//	0   number of the segment
//	8   offset in it
//	16  CRC-32C of the bytes before
//	20  identity: producer id, epoch, sequence, partition
//	38  CRC-32C of the bytes before
//
// A batch that Kafka has, and whose process died before it could note so, is sent again
// under that identity. With FsyncAlways the cursor is flushed before a batch is sent, so
// that this holds after a loss of power, too.
const (
	cursorPlaceBytes = 20 // all there was before batches had identities
	cursorBytes      = 42
)

// readCursor leaves the offset at 0 when the cursor is damaged or of another segment:
// sending twice is better than not at all. Numbers go on from the cursor's, or an old
// cursor could speak of a new segment and skip unsent frames. Segments before the
// cursor's are sent; a loss of power can bring them back.
func (s *spool) readCursor() error {
	var b [cursorBytes]byte
	if _, err := s.cursor.ReadAt(b[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	s.noted = noIdentity
	number, offset := binary.BigEndian.Uint64(b[:]), int64(binary.BigEndian.Uint64(b[8:]))
	if binary.BigEndian.Uint32(b[16:]) != crc32.Checksum(b[:16], castagnoli) {
		return nil
	}
	s.last = max(s.last, number)
	for len(s.segments) > 0 && s.segments[0].number < number {
		if err := os.Remove(s.path(s.segments[0].number)); err != nil {
			return fmt.Errorf("remove a sent spool segment: %w", err)
		}
		s.bytes -= s.segments[0].bytes
		s.segments = s.segments[1:]
	}
	if len(s.segments) == 0 || s.segments[0].number != number || offset < 0 || offset > s.segments[0].bytes {
		return nil
	}
	s.offset = offset
	if binary.BigEndian.Uint32(b[38:]) == crc32.Checksum(b[:38], castagnoli) {
		s.noted = identity{
			producer:  int64(binary.BigEndian.Uint64(b[20:])),
			epoch:     int16(binary.BigEndian.Uint16(b[28:])),
			sequence:  int32(binary.BigEndian.Uint32(b[30:])),
			partition: int32(binary.BigEndian.Uint32(b[34:])),
		}
	}
	return nil
}

func (s *spool) writeCursorLocked() error {
	var b [cursorBytes]byte
	binary.BigEndian.PutUint64(b[:], s.segments[0].number)
	binary.BigEndian.PutUint64(b[8:], uint64(s.offset))
	binary.BigEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	binary.BigEndian.PutUint64(b[20:], uint64(s.noted.producer))
	binary.BigEndian.PutUint16(b[28:], uint16(s.noted.epoch))
	binary.BigEndian.PutUint32(b[30:], uint32(s.noted.sequence))
	binary.BigEndian.PutUint32(b[34:], uint32(s.noted.partition))
	binary.BigEndian.PutUint32(b[38:], crc32.Checksum(b[:38], castagnoli))
	if _, err := s.cursor.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write the spool's cursor: %w", err)
	}
	return nil
}

// note keeps the identity under which the batch that next returned is going to be sent.
func (s *spool) note(id identity) error {
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
	if err := s.append(b); err != nil {
		return err
	}
	return s.took(b)
}
