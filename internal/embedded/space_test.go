package embedded

import (
	"errors"
	"testing"
)

func TestSpaceWatchTellsOfRoomAfterAFullDisk(t *testing.T) {
	w := newSpaceWatch()
	f := func(insert bool, err error, want bool) {
		t.Helper()
		w.note(insert, err)
		select {
		case <-w.again:
			if !want {
				t.Errorf("insert %v, error %v: there is room again", insert, err)
			}
		default:
			if want {
				t.Errorf("insert %v, error %v: nothing is told", insert, err)
			}
		}
	}
	f(true, nil, false)
	f(false, engineException("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)"), false)
	f(false, nil, false) // a read needs no room
	f(true, errors.New("the client left"), false)
	f(true, nil, true)
	f(true, nil, false)
	f(true, engineException("Code: 1001, type: std::filesystem::filesystem_error, e.what() = filesystem error: in create_directories: No space left on device"), false)
	f(true, nil, true)
	f(true, engineException("std::exception. Code: 1001, type: std::__1::__fs::filesystem::filesystem_error, e.what() = filesystem error: in rename: No space left on device"), false)
	f(true, nil, true)
	f(true, engineException("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)"), false)
	f(true, nil, true)
	// Words of a statement, and other troubles of files, say nothing of the disk.
	f(false, engineException("Code: 395. DB::Exception: No space left on device: while executing 'FUNCTION throwIf(1)'. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)"), false)
	f(false, engineException("Code: 395. DB::Exception: Code: 1001, type: filesystem_error, No space left on device. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)"), false)
	f(true, engineException("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 5, strerror: Input/output error. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)"), false)
	f(true, nil, false)
}
