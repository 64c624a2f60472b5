package embedded

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The broker recognises a batch that comes again by its producer and sequence. It writes down what it knows of
// producers in windowsFile, but only when it is closed: after a kill it would believe an old file, or none, and
// take a batch twice. As Kafka does, restoreSequences finds what there is to know in the headers of the log.
const (
	windowsFile    = "seq_windows.json"
	windowsVersion = 1
	windowBatches  = 5 // that a producer may have on its way
	segmentSuffix  = ".dat"
)

// Where the fields of a batch are (Kafka's record batch of format 2).
const (
	atBatchLength    = 8
	batchLengthEnd   = 12
	atChecksum       = 17
	atAttributes     = 21
	atProducer       = 43
	atProducerEpoch  = 51
	atSequence       = 53
	atRecordCount    = 57
	batchHeaderBytes = 61

	controlBatch = 0x20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sequenceWindow is what the broker knows of one producer in one partition, in the form of windowsFile.
type sequenceWindow struct {
	Producer  int64                         `json:"pid"`
	Topic     string                        `json:"topic"`
	Partition int32                         `json:"partition"`
	Entries   [windowBatches]sequencedBatch `json:"entries"`
	Count     uint8                         `json:"count"`
	At        uint8                         `json:"at"` // of the next entry
	Epoch     int16                         `json:"epoch"`
	Seen      bool                          `json:"seen"`
	Next      int32                         `json:"next_seq"`
}

type sequencedBatch struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

// add notes the batch with this header.
func (w *sequenceWindow) add(header []byte) {
	be := binary.BigEndian
	epoch := int16(be.Uint16(header[atProducerEpoch:])) // #nosec G115 -- the format's own width, as below
	if !w.Seen || epoch != w.Epoch {
		w.Entries, w.Count, w.At = [windowBatches]sequencedBatch{}, 0, 0
	}
	first := int32(be.Uint32(header[atSequence:])) // #nosec G115
	next := int32((int64(first) + int64(be.Uint32(header[atRecordCount:]))) % math.MaxInt32)
	w.Entries[w.At] = sequencedBatch{first, next, int64(be.Uint64(header))} // #nosec G115
	w.At = (w.At + 1) % windowBatches
	w.Count = min(w.Count+1, windowBatches)
	w.Epoch, w.Seen, w.Next = epoch, true, next
}

// restoreSequences writes the windowsFile and the producersFile of the broker in dir, which must not run, from its log.
func restoreSequences(dir string) error {
	partitions, err := os.ReadDir(filepath.Join(dir, "partitions"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it never ran
	}
	if err != nil {
		return err
	}
	windows := []*sequenceWindow{}
	for _, entry := range partitions {
		folder := filepath.Join(dir, "partitions", entry.Name())
		topic, partition, ok := parsePartition(entry.Name())
		if !ok {
			continue // somebody else's, such as lost+found
		}
		more, err := readSequences(folder, topic, partition)
		if err != nil {
			return fmt.Errorf("find the producers' sequences in %s: %w", folder, err)
		}
		windows = append(windows, more...)
	}
	if err := restoreProducers(dir, windows); err != nil {
		return fmt.Errorf("restore the producers that the log in %s has: %w", dir, err)
	}
	text, err := json.Marshal(map[string]any{"version": windowsVersion, "windows": windows})
	if err != nil {
		return err
	}
	return writeChanged(filepath.Join(dir, windowsFile), text)
}

// parsePartition reads the name of a partition's folder, TOPIC-NUMBER.
func parsePartition(name string) (topic string, partition int32, ok bool) {
	at := strings.LastIndexByte(name, '-')
	if at < 0 {
		return "", 0, false
	}
	number, err1 := strconv.ParseInt(name[at+1:], 10, 32)
	topic, err2 := url.PathUnescape(name[:at])
	return topic, int32(number), err1 == nil && err2 == nil
}

// readSequences reads the headers of a partition's batches, from the oldest on.
func readSequences(folder, topic string, partition int32) ([]*sequenceWindow, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var segments []int64
	for _, entry := range entries {
		digits, ok := strings.CutSuffix(entry.Name(), segmentSuffix)
		first, err := strconv.ParseInt(digits, 10, 64)
		if ok && err == nil && digits == strconv.FormatInt(first, 10) { // other spellings are not the broker's
			segments = append(segments, first)
		}
	}
	slices.Sort(segments)
	producers := map[int64]*sequenceWindow{}
	var windows []*sequenceWindow
	for _, first := range segments {
		name := filepath.Join(folder, strconv.FormatInt(first, 10)+segmentSuffix)
		err := eachHeader(name, func(header []byte) {
			producer := int64(binary.BigEndian.Uint64(header[atProducer:])) // #nosec G115 -- the format's own width
			if producer < 0 || binary.BigEndian.Uint16(header[atAttributes:])&controlBatch != 0 {
				return
			}
			if producers[producer] == nil {
				producers[producer] = &sequenceWindow{Producer: producer, Topic: topic, Partition: partition}
				windows = append(windows, producers[producer])
			}
			producers[producer].add(header)
		})
		if err != nil {
			return nil, err
		}
	}
	return windows, nil
}

// eachHeader calls f with the header of each batch in a segment, up to the first that is not whole, or damaged: the
// broker cuts the segment off there when it opens it.
func eachHeader(name string, f func(header []byte)) error {
	file, err := os.Open(name) // #nosec G304 -- the broker's own file in the operator's data directory
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	from := bufio.NewReaderSize(file, 1<<20)
	batch := make([]byte, batchHeaderBytes)
	for left := info.Size(); left >= batchHeaderBytes; left -= int64(len(batch)) {
		batch = batch[:batchHeaderBytes]
		if _, err := io.ReadFull(from, batch); err != nil {
			return err
		}
		size := batchLengthEnd + int64(binary.BigEndian.Uint32(batch[atBatchLength:]))
		if size < batchHeaderBytes || size > left {
			return nil
		}
		batch = slices.Grow(batch, int(size)-batchHeaderBytes)[:size]
		if _, err := io.ReadFull(from, batch[batchHeaderBytes:]); err != nil {
			return err
		}
		if crc32.Checksum(batch[atAttributes:], castagnoli) != binary.BigEndian.Uint32(batch[atChecksum:]) {
			return nil
		}
		f(batch[:batchHeaderBytes])
	}
	return nil
}
