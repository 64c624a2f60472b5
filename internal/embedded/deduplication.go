package embedded

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// A table of the MergeTree family remembers the blocks that it has stored in files named
// deduplication_logs/deduplication_log_N.txt, one record a line: 1 for a block that was added or 2 for one that
// is forgotten, the part that holds it, and the block's id.
const (
	blockAdded     = "1"
	blockForgotten = "2"
)

// repairDeduplication makes the tables below dir forget the blocks that they only claim to have. The engine
// writes a block's record first and then moves its part into place; a kill between the two leaves a record
// without a part, and the block would be dropped as a repeat when its sender offers it again. It must run
// before the engine opens dir, because the engine gives the missing part's number to the next block.
//
// One record in each table can be of that kind, the last one: the engine holds the table's lock from the record
// to the part. A record that the kill cut short is taken away, or the engine would read nothing behind it.
func repairDeduplication(dir string, log *slog.Logger) error {
	folders, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		forgotten, err := repairTable(folder)
		if err != nil {
			return fmt.Errorf("repair what the engine remembers of its last block in %s: %w", folder, err)
		}
		if forgotten != "" {
			log.Info("engine forgets a block whose part it had not stored when it was killed", "part", forgotten, "table", filepath.Dir(folder))
		}
	}
	return nil
}

// repairTable repairs the logs in folder and names the part of the block that is forgotten, if there is one.
func repairTable(folder string) (forgotten string, err error) {
	name, err := lastLog(folder)
	if name == "" || err != nil {
		return "", err
	}
	text, err := os.ReadFile(name) // #nosec G304 -- the engine's own file in the operator's data directory
	if err != nil {
		return "", err
	}
	if whole := bytes.LastIndexByte(text, '\n') + 1; whole < len(text) {
		text = text[:whole]
		if err := os.Truncate(name, int64(whole)); err != nil {
			return "", err
		}
	}
	last := text[bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1:]
	record := strings.Split(strings.TrimSuffix(string(last), "\n"), "\t")
	if len(record) != 3 || record[0] != blockAdded {
		return "", nil
	}
	stored, err := holdsPart(filepath.Dir(folder), record[1])
	if stored || err != nil {
		return "", err
	}
	record[0] = blockForgotten
	return record[1], appendLine(name, strings.Join(record, "\t"))
}

// lastLog returns the log in folder that was written to last, "" if nothing ever was: a log that is full is
// followed by an empty one.
func lastLog(folder string) (string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return "", err
	}
	name, highest := "", -1
	for _, entry := range entries {
		digits := strings.TrimSuffix(strings.TrimPrefix(entry.Name(), "deduplication_log_"), ".txt")
		number, err := strconv.Atoi(digits)
		if err != nil || number <= highest {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return "", err
		}
		if info.Size() > 0 {
			name, highest = filepath.Join(folder, entry.Name()), number
		}
	}
	return name, nil
}

func appendLine(name, line string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) // #nosec G304 -- as in repairTable
	if err != nil {
		return err
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		_ = f.Close() // the first error tells
		return err
	}
	return f.Close()
}

// holdsPart reports whether a part, or one that it was merged into, is in the table's folder.
func holdsPart(table, name string) (bool, error) {
	wanted, ok := parsePart(name)
	if !ok {
		return false, fmt.Errorf("%q does not name a part", name)
	}
	entries, err := os.ReadDir(table)
	if err != nil {
		return false, err
	}
	for _, entry := range entries {
		if part, ok := parsePart(entry.Name()); ok && entry.IsDir() && part.covers(wanted) {
			return true, nil
		}
	}
	return false, nil
}

// part is the name of a part's folder, PARTITION_FIRST_LAST_LEVEL[_MUTATION]. FIRST and LAST number the blocks
// that it holds.
type part struct {
	partition   string
	first, last int64
}

func parsePart(name string) (part, bool) {
	fields := strings.Split(name, "_")
	if len(fields) != 4 && len(fields) != 5 {
		return part{}, false
	}
	first, err1 := strconv.ParseInt(fields[1], 10, 64)
	last, err2 := strconv.ParseInt(fields[2], 10, 64)
	_, err3 := strconv.ParseInt(fields[3], 10, 64)
	return part{fields[0], first, last}, err1 == nil && err2 == nil && err3 == nil
}

func (p part) covers(other part) bool {
	return p.partition == other.partition && p.first <= other.first && other.last <= p.last
}
