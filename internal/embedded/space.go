package embedded

import (
	"errors"
	"strings"
	"sync/atomic"
)

// errDiskWasFull ends a child that merged parts while the disk was full.
var errDiskWasFull = errors.New("the disk was full and has room again: the engine starts anew, to find parts that it could not write")

// spaceWatch notices that the disk was full and has room again. The engine (26.7) puts the part of a merge in the place of
// those that it was merged from also when not a byte of its files could be written. It reads that part from then on,
// fails, and eight minutes later removes the others, which have the data. An engine that starts finds the empty part,
// sets it aside and goes on with the others.
type spaceWatch struct {
	full  atomic.Bool
	again chan struct{} // gets a token when there is room again
}

func newSpaceWatch() *spaceWatch { return &spaceWatch{again: make(chan struct{}, 1)} }

// note takes what became of a statement. Only an insert that is stored shows that there is room.
func (w *spaceWatch) note(insert bool, err error) {
	if err != nil {
		if ex := asException(err); ex.Code == codeNotEnoughSpace || strings.Contains(ex.Text, "No space left on device") {
			w.full.Store(true)
		}
		return
	}
	if insert && w.full.CompareAndSwap(true, false) {
		select {
		case w.again <- struct{}{}:
		default: // it is told already
		}
	}
}
