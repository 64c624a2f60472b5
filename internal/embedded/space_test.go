package embedded

import "testing"

func TestWritesThatTheSystemRefused(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		equal(t, text, writeRefused(engineException(text)), want)
	}
	f("Code: 1001, type: std::filesystem::filesystem_error, e.what() = filesystem error: in create_directories: No space left on device", true)
	f("std::exception. Code: 1001, type: std::__1::__fs::filesystem::filesystem_error, e.what() = filesystem error: in rename: No space left on device", true)
	f("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)", true)
	// Refused before anything was written.
	f("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", false)
	f("Code: 1001. DB::Exception: std::__1::filesystem::filesystem_error: filesystem error: in create_directories: Disk quota exceeded [\"/d/store/x\"]. (STD_EXCEPTION)", true)
	f("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 5, strerror: Input/output error. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)", true)
	f("Code: 204. DB::ErrnoException: Cannot fsync /d/store/data.bin: , errno: 122, strerror: Disk quota exceeded. (CANNOT_FSYNC)", true)
	f("Code: 76. DB::ErrnoException: Cannot open file /d/store/data.bin: , errno: 30, strerror: Read-only file system. (CANNOT_OPEN_FILE)", true)
	// Words of a statement, and files that it has no business with, say nothing of the disk.
	f("Code: 395. DB::Exception: No space left on device: while executing 'FUNCTION throwIf(1)'. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)", false)
	f("Code: 395. DB::Exception: Code: 1001, type: filesystem_error, No space left on device. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)", false)
	f("Code: 76. DB::ErrnoException: Cannot open file /etc/shadow: , errno: 13, strerror: Permission denied: In scope SELECT file('/etc/shadow'). (CANNOT_OPEN_FILE)", false)
	f("Code: 1001. DB::Exception: std::__1::filesystem::filesystem_error: filesystem error: in create_directories: Permission denied [\"/etc/x\"]. (STD_EXCEPTION)", false)
}

// A block whose part was refused is remembered, so the engine must end; a statement that only reads has left nothing.
func TestOnlyStatementsThatWriteAreHalfDone(t *testing.T) {
	full := engineException("Code: 75. DB::Exception: Cannot write to file /d/tmp/sort.bin, errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)")
	w := newWrites(nil, "")
	equal(t, "a read's failure", w.judge(true, full), error(full))
	equal(t, "ends after a read", w.bad.Load(), false)
	equal(t, "a write's failure", w.judge(false, full), error(full))
	equal(t, "ends after a write", w.bad.Load(), true)
}
