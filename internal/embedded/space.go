package embedded

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
)

// errDiskWasFull ends a child that merged parts while the disk was full.
var errDiskWasFull = errors.New("the disk was full and has room again: the engine starts anew, to find parts that it could not write")

// spaceWatch notices that the disk was full and has room again. The engine (26.7) puts the part of a merge in the place of
// those that it was merged from also when not a byte of its files could be written. It reads that part from then on,
// fails, and eight minutes later removes the others, which have the data. An engine that starts finds the empty part,
// sets it aside and goes on with the others.
//
// What it knows of the disk is what statements fail with. A disk that is full only while a merge writes, and has room
// again before any statement fails, goes unnoticed (docs/operations/soak.md).
type spaceWatch struct {
	full  atomic.Bool
	again chan struct{} // gets a token when there is room again
}

func newSpaceWatch() *spaceWatch { return &spaceWatch{again: make(chan struct{}, 1)} }

// note takes what became of a statement. Only an insert that is stored shows that there is room.
func (w *spaceWatch) note(insert bool, err error) {
	if err != nil {
		if outOfSpace(asException(err)) {
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

// codesOfFiles are those of what the engine does with its files and folders
// (ClickHouse, src/Common/ErrorCodes.cpp); the text says what the system answered.
var codesOfFiles = []int{
	75,  // CANNOT_WRITE_TO_FILE_DESCRIPTOR
	76,  // CANNOT_OPEN_FILE
	77,  // CANNOT_CLOSE_FILE
	88,  // CANNOT_TRUNCATE_FILE
	172, // CANNOT_CREATE_DIRECTORY
	204, // CANNOT_FSYNC
	275, // AIO_WRITE_ERROR
	424, // CANNOT_LINK
	425, // SYSTEM_ERROR
}

// foreignFileError begins the text of an error of C++'s own library of files, which has no code of ClickHouse's.
var foreignFileError = regexp.MustCompile(`^Code: 1002\. DB::Exception: (std::exception\. )?Code: 1001, type: [A-Za-z0-9_:]*filesystem_error, `)

// outOfSpace goes by codes, because anybody's statement can put any words into the text of its own failure.
func outOfSpace(ex *exception) bool {
	return ex.Code == codeNotEnoughSpace ||
		strings.Contains(ex.Text, "No space left on device") && (slices.Contains(codesOfFiles, ex.Code) || foreignFileError.MatchString(ex.Text))
}
