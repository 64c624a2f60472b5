package logpush

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

const (
	// GzipLevel of objects, which is gzip's own: a tenth smaller than at level 5, for
	// less than half a microsecond more an event. They are kept and carried for longer
	// than it takes to make them (docs/benchmarks.md).
	GzipLevel = 6
	// pieceBytes is how much text is compressed at a time: enough to make the calls
	// cheap, little enough that many open batches can wait with less. It is what the
	// writer makes one block of: a byte more would be a block of its own.
	pieceBytes = 65_535
	// echoBytes of the text before a piece are what its first repetitions are found
	// in. With this little, pieces come to the size of one stream.
	echoBytes = 2 << 10
)

// zipper compresses a text that comes piece by piece into one gzip member (RFC
// 1952). An open gzip.Writer holds a megabyte; a zipper between two pieces holds
// what came out. Each piece ends on a byte, by an empty stored block, and the next
// one begins with a writer that may have served others meanwhile.
type zipper struct {
	body bytes.Buffer
	echo []byte // the end of what was written
	crc  uint32
	size uint32 // modulo 2^32, as in the trailer
}

// deflaters are writers between two pieces.
var deflaters = sync.Pool{New: func() any {
	w, err := flate.NewWriterDict(io.Discard, GzipLevel, nil)
	if err != nil {
		panic(err) // the level is ours, and a constant
	}
	return w
}}

// write compresses a piece.
func (z *zipper) write(piece []byte) error {
	if z.body.Len() == 0 {
		// Deflate, no name, no time, no system: the same for a repeat.
		z.body.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff})
	}
	w := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.ResetDict(&z.body, z.echo)
	if _, err := w.Write(piece); err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("compress a batch: %w", err)
	}
	z.crc = crc32.Update(z.crc, crc32.IEEETable, piece)
	z.size += uint32(len(piece)) // #nosec G115 -- modulo 2^32
	z.echo = append(z.echo[:0], piece[max(0, len(piece)-echoBytes):]...)
	return nil
}

// end returns the member, complete. Nothing may be written after it.
func (z *zipper) end() []byte {
	// An empty block that says it is the last one, then the trailer.
	z.body.Write([]byte{0x03, 0x00,
		byte(z.crc), byte(z.crc >> 8), byte(z.crc >> 16), byte(z.crc >> 24),
		byte(z.size), byte(z.size >> 8), byte(z.size >> 16), byte(z.size >> 24)})
	z.echo = nil
	return z.body.Bytes()
}

// held returns the bytes that the zipper keeps in memory.
func (z *zipper) held() int { return z.body.Cap() + cap(z.echo) }
