package ingest

import "fmt"

// Columns of words: of each there are few different ones in a block.
const (
	wordScript = iota
	wordVersion
	wordTag
	wordMessage
	wordEventType
	wordOutcome
	wordDecision
	wordErrorKind
	wordMethod
	wordEntrypoint
	wordNamespace
	wordCallerScript
	wordCallerVersion
	wordColumns
)

// wordsMax different words of a block are kept to be found again. Further ones get a
// copy of their own each, which costs time and, until the block is stored, memory, but
// not more than the block's bytes.
const wordsMax = 20_000

// words keeps one copy of each word in a block.
type words struct {
	known map[string]string
	last  [wordColumns]string // the one before, which the next one mostly equals
}

func (w *words) reset() {
	if w.known == nil || len(w.known) == wordsMax {
		w.known = map[string]string{} // also a map that was emptied stays as large as it was
	}
	clear(w.known)
	w.last = [wordColumns]string{}
}

func (w *words) of(column int, text []byte) string {
	if string(text) == w.last[column] {
		return w.last[column]
	}
	word, known := w.known[string(text)]
	if !known {
		word = string(text)
		if len(w.known) < wordsMax {
			w.known[word] = word
		}
	}
	w.last[column] = word
	return word
}

const (
	// keyBytesMax is more than any name has that a gateway puts into an event.
	keyBytesMax = 255
	// cellsMax bounds what one block adds to the rollups for one account and second. An
	// account with more than this many scripts and versions in the few seconds of a
	// block of 50,000 is not one that anybody could look at.
	cellsMax = 10_000
)

// tooLong names what is longer than a name can be of what an event is counted under.
func (e *event) tooLong(account string) string {
	for _, key := range [...]struct {
		name string
		size int
	}{
		{"header account", len(account)}, {"ScriptName", len(e.scriptName)}, {"ScriptVersion.id", len(e.versionID)},
		{"Outcome", len(e.outcome)}, {"EventType", len(e.eventType)}, {"Gateway.Decision", len(e.decision)}, {"ErrorKind", len(e.errorKind)},
		{"Gateway.CallerScript", len(e.callerScript)}, {"Gateway.CallerVersionID", len(e.callerVersionID)},
	} {
		if key.size > keyBytesMax {
			return key.name
		}
	}
	return ""
}

// shorten cuts a name that may be of any length.
func shorten(name string) string { return name[:min(len(name), keyBytesMax)] }

// accountsMax different accounts may be in a block. No more of them can be in use in the
// few seconds of one; the header that names them is the word of whoever wrote the record.
const accountsMax = 10_000

// cell is what an event is counted under, besides its time.
type cell struct{ account, script, version, outcome string }

// cells are the different ones of a block, of which each account may have cellsMax. It
// depends on the block alone who gets a place: a block that is built again is the same.
type cells struct {
	known map[cell]struct{}
	used  map[string]int // by account
	last  cell
}

func (c *cells) reset() { *c = cells{known: map[cell]struct{}{}, used: map[string]int{}} }

// full takes a place for a cell, or says of what there are too many already.
func (c *cells) full(k cell) string {
	if k == c.last {
		return ""
	}
	if _, known := c.known[k]; !known {
		switch n := c.used[k.account]; {
		case n >= cellsMax:
			return fmt.Sprintf("the account has more than %d different combinations of script, version and outcome", cellsMax)
		case n == 0 && len(c.used) >= accountsMax:
			return fmt.Sprintf("there are more than %d accounts", accountsMax)
		}
		c.used[k.account]++
		c.known[k] = struct{}{}
	}
	c.last = k
	return ""
}
