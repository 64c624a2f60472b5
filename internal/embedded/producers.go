package embedded

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
)

// The broker knows only producers that are in producersFile, and skips the windows of others. It appends an entry when
// a producer asks for its id, and none for one that just sends. A kill or a full disk can cut an entry short, and it
// reads nothing behind that; so restoreProducers writes the file again.
//
// An entry is the length of what follows the checksum (4 bytes), the checksum (4), a version (2), all little-endian,
// and JSON.
const (
	producersFile    = "pids.log"
	producersVersion = 1
	producerStart    = "init"

	atEntryChecksum = 4
	atEntryVersion  = 8
	entryHeader     = 10
)

// producerEntry is what the broker writes of a producer. The last three are of one that has transactions.
type producerEntry struct {
	Type        string `json:"type"`
	Producer    int64  `json:"pid"`
	Epoch       int16  `json:"epoch"`
	Transaction string `json:"txid,omitempty"`
	Timeout     int32  `json:"timeout,omitempty"`
	Commit      *bool  `json:"commit,omitempty"`
}

// restoreProducers leaves of the producersFile in dir what can be read, and adds the producers of windows that are not
// there with their epoch.
func restoreProducers(dir string, windows []*sequenceWindow) error {
	name := filepath.Join(dir, producersFile)
	text, err := os.ReadFile(name) // #nosec G304 -- the broker's own file in the operator's data directory
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	known, whole := readProducers(text)
	text = text[:whole]
	for _, w := range windows {
		entry, ok := known[w.Producer]
		if ok && entry.Epoch >= w.Epoch {
			continue
		}
		entry.Type, entry.Producer, entry.Epoch = producerStart, w.Producer, w.Epoch
		if text, err = appendProducer(text, entry); err != nil {
			return err
		}
		known[w.Producer] = entry
	}
	return writeChanged(name, text)
}

// readProducers returns the producers in text, and how many bytes of it are whole entries.
func readProducers(text []byte) (known map[int64]producerEntry, whole int) {
	known = map[int64]producerEntry{}
	le := binary.LittleEndian
	for rest := text; len(rest) >= entryHeader; rest = text[whole:] {
		size := atEntryVersion + int64(le.Uint32(rest))
		if size < entryHeader || size > int64(len(rest)) || crc32.Checksum(rest[atEntryVersion:size], castagnoli) != le.Uint32(rest[atEntryChecksum:]) {
			break
		}
		var entry producerEntry
		if json.Unmarshal(rest[entryHeader:size], &entry) == nil { // the broker skips others, too
			if had, ok := known[entry.Producer]; ok && entry.Type != producerStart {
				had.Epoch = entry.Epoch // the end of a transaction
				entry = had
			}
			if entry.Type == producerStart {
				known[entry.Producer] = entry
			}
		}
		whole += int(size)
	}
	return known, whole
}

func appendProducer(text []byte, entry producerEntry) ([]byte, error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	body := append(le.AppendUint16(nil, producersVersion), data...)
	text = le.AppendUint32(text, uint32(len(body))) // #nosec G115 -- some hundred bytes
	text = le.AppendUint32(text, crc32.Checksum(body, castagnoli))
	return append(text, body...), nil
}

// writeChanged replaces a file unless it has this content: a start on a full disk has nothing to write.
func writeChanged(name string, text []byte) error {
	had, err := os.ReadFile(name) // #nosec G304 -- as above
	if err == nil && bytes.Equal(had, text) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.WriteFile(name+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}
