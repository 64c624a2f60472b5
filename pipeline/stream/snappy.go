package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/s2"
)

// snappyHeader begins what Kafka's clients write as snappy: the magic of snappy-java, its
// version, and the oldest one that can read it. Pieces follow, each a length of four
// bytes and one block of snappy, which needs none of the others.
const snappyHeader = snappyMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"

const (
	snappyMagic       = "\x82SNAPPY\x00"
	snappyLengthBytes = 4
	// snappyRatioMax is more than a block can be of what it stands for: three bytes copy 64.
	snappyRatioMax = 22
)

// pieceBytes is how much is compressed at once, some 90 events. Further back there is
// nothing new, offsets in a block are of two bytes, and text, table and result fit into
// a processor's own cache.
const pieceBytes = 64 << 10

// piece is a part of a batch, of whole records.
type piece struct {
	text []byte // until it is compressed
	data []byte // its length and its block, afterwards
	of   *records
}

// Memory that pieces were written in, and compressed to, to be used again.
var (
	texts  = sync.Pool{New: func() any { return new(make([]byte, 0, pieceBytes)) }}
	blocks = sync.Pool{New: func() any {
		return new(make([]byte, snappyLengthBytes+s2.MaxEncodedLen(pieceBytes)))
	}}
)

func newText() []byte { return (*texts.Get().(*[]byte))[:0] }

// compress settles p, once.
func (p *piece) compress() {
	defer p.of.working.Done()
	block := *blocks.Get().(*[]byte)
	if n := snappyLengthBytes + s2.MaxEncodedLen(len(p.text)); n > len(block) {
		block = make([]byte, n) // for a single event that is larger than a piece
	}
	n := len(s2.EncodeSnappy(block[snappyLengthBytes:], p.text))
	binary.BigEndian.PutUint32(block, uint32(n))
	p.data = slices.Clone(block[:snappyLengthBytes+n]) // no larger than it must be, since it may wait
	p.of.saved.Add(int64(len(p.text) - len(p.data)))
	if text := p.text; len(text) <= pieceBytes {
		blocks.Put(&block)
		texts.Put(&text)
	}
	p.text = nil
}

// appendSnappy appends what data, by any of Kafka's clients, is decompressed to, which
// must not be more than most bytes. Some write a single block, without a header.
func appendSnappy(b, data []byte, most int) ([]byte, error) {
	if len(data) < len(snappyHeader) || !strings.HasPrefix(string(data[:len(snappyMagic)]), snappyMagic) {
		return appendBlock(b, data, most)
	}
	start := len(b)
	for data = data[len(snappyHeader):]; len(data) > 0; {
		if len(data) < snappyLengthBytes {
			return nil, errShortBlock
		}
		n := int64(binary.BigEndian.Uint32(data))
		if data = data[snappyLengthBytes:]; n > int64(len(data)) {
			return nil, errShortBlock
		}
		var err error
		if b, err = appendBlock(b, data[:n], most-(len(b)-start)); err != nil {
			return nil, err
		}
		data = data[n:]
	}
	return b, nil
}

var errShortBlock = errors.New("a block of snappy is longer than its batch")

func appendBlock(b, block []byte, most int) ([]byte, error) {
	n, err := s2.DecodedLen(block)
	switch {
	case err != nil:
		return nil, err
	case n > most:
		return nil, fmt.Errorf("it has more than %d bytes", batchTextMax)
	case n > snappyRatioMax*len(block):
		return nil, fmt.Errorf("a block of snappy of %d bytes says that it stands for %d, which cannot be", len(block), n)
	}
	start := len(b)
	b = slices.Grow(b, n)[:start+n]
	_, err = s2.Decode(b[start:], block)
	return b, err
}
