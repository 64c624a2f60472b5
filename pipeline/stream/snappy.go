package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/klauspost/compress/s2"
)

// snappyHeader begins what Kafka's clients write as snappy: the magic of snappy-java, its
// version, and the oldest one that can read it. Pieces follow, each a length of four
// bytes and one block of snappy. kafka-go's reader makes room for what such a length
// says, gigabytes if it lies, before it looks for the bytes.
const snappyHeader = snappyMagic + "\x00\x00\x00\x01\x00\x00\x00\x01"

const (
	snappyMagic       = "\x82SNAPPY\x00"
	snappyLengthBytes = 4
	// snappyRatioMax is more than a block can be of what it stands for: three bytes copy 64.
	snappyRatioMax = 22
)

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
