package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// repairDeduplication makes the tables below dir forget the blocks that they only claim to have, because a block would
// be dropped as a repeat when its sender offers it again. The engine writes a block's record first and then moves its
// part into place, so a kill between the two leaves a record without a part; and a part that could not be written
// whole is set aside (openWhole). It must run before the engine opens dir, because the engine gives the missing part's
// number to the next block.
//
// A block whose part is gone for another reason, such as its age, is forgotten as well: what is not there cannot be
// counted twice. A record that a kill cut short is taken away, or the engine would read nothing behind it.
func repairDeduplication(dir string, log *slog.Logger) error {
	folders, err := filepath.Glob(filepath.Join(dir, "store", "*", "*", "deduplication_logs"))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		forgotten, err := repairTable(folder)
		if err != nil {
			return fmt.Errorf("repair what the engine remembers of blocks in %s: %w", folder, err)
		}
		if forgotten > 0 {
			log.Info("engine forgets blocks whose parts it does not have", "blocks", forgotten, "table", filepath.Dir(folder))
		}
	}
	return nil
}

// repairTable repairs the logs in folder and returns how many blocks are forgotten.
func repairTable(folder string) (forgotten int, err error) {
	logs, err := blockLogs(folder)
	if len(logs) == 0 || err != nil {
		return 0, err
	}
	last := logs[len(logs)-1]
	claimed := map[string]string{} // names of parts by ids of blocks
	for _, name := range logs {
		text, err := os.ReadFile(name) // #nosec G304 -- the engine's own file in the operator's data directory
		if err != nil {
			return 0, err
		}
		if whole := bytes.LastIndexByte(text, '\n') + 1; whole < len(text) && name == last {
			text = text[:whole]
			if err := os.Truncate(name, int64(whole)); err != nil {
				return 0, err
			}
		}
		for line := range strings.Lines(string(text)) {
			record := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
			switch {
			case len(record) == 3 && record[0] == blockAdded:
				claimed[record[2]] = record[1]
			case len(record) == 3 && record[0] == blockForgotten:
				delete(claimed, record[2])
			}
		}
	}
	table := filepath.Dir(folder)
	stored, err := storedParts(table)
	if err != nil {
		return 0, err
	}
	aside, err := asideParts(table)
	if err != nil {
		return 0, err
	}
	var lines strings.Builder
	for _, id := range slices.Sorted(maps.Keys(claimed)) {
		claim, ok := parsePart(claimed[id])
		if !ok {
			return 0, fmt.Errorf("%q does not name a part", claimed[id])
		}
		// A part that was set aside is lost, also if the engine has merged its neighbours since, into one that covers it.
		if aside[claimed[id]] || !slices.ContainsFunc(stored[claim.partition], func(p part) bool { return p.covers(claim) }) {
			fmt.Fprintf(&lines, "%s\t%s\t%s\n", blockForgotten, claimed[id], id)
			forgotten++
		}
	}
	if forgotten == 0 {
		return 0, nil
	}
	return forgotten, appendText(last, lines.String())
}

// blockLogs returns the logs in folder that something was written to, in their order: a log that is full is followed
// by an empty one.
func blockLogs(folder string) (names []string, err error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, entry := range entries {
		digits := strings.TrimSuffix(strings.TrimPrefix(entry.Name(), blockLogPrefix), blockLogSuffix)
		number, err := strconv.Atoi(digits)
		if err != nil || entry.Name() != blockLog(number) {
			continue // not the engine's
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		if info.Size() > 0 {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	for _, number := range numbers {
		names = append(names, filepath.Join(folder, blockLog(number)))
	}
	return names, nil
}

const blockLogPrefix, blockLogSuffix = "deduplication_log_", ".txt"

func blockLog(number int) string { return blockLogPrefix + strconv.Itoa(number) + blockLogSuffix }

func appendText(name, text string) error {
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0) // #nosec G304 -- as in repairTable
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync() // before noteAside
	}
	return errors.Join(err, f.Close())
}

// storedParts lists the parts in a table's folder by their partitions.
func storedParts(table string) (map[string][]part, error) {
	entries, err := os.ReadDir(table)
	if err != nil {
		return nil, err
	}
	stored := map[string][]part{}
	for _, entry := range entries {
		if p, ok := parsePart(entry.Name()); ok && entry.IsDir() {
			stored[p.partition] = append(stored[p.partition], p)
		}
	}
	return stored, nil
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
