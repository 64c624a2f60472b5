package embedded

import "testing"

func TestFailuresOfAFullDisk(t *testing.T) {
	f := func(text string, want bool) {
		t.Helper()
		equal(t, text, outOfSpace(engineException(text)), want)
	}
	f("Code: 1001, type: std::filesystem::filesystem_error, e.what() = filesystem error: in create_directories: No space left on device", true)
	f("std::exception. Code: 1001, type: std::__1::__fs::filesystem::filesystem_error, e.what() = filesystem error: in rename: No space left on device", true)
	f("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 28, strerror: No space left on device. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)", true)
	// Refused before anything was written.
	f("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space. (NOT_ENOUGH_SPACE)", false)
	// Words of a statement, and other troubles of files, say nothing of the disk.
	f("Code: 395. DB::Exception: No space left on device: while executing 'FUNCTION throwIf(1)'. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)", false)
	f("Code: 395. DB::Exception: Code: 1001, type: filesystem_error, No space left on device. (FUNCTION_THROW_IF_VALUE_IS_NON_ZERO)", false)
	f("Code: 75. DB::Exception: Cannot write to file /d/store/data.bin, errno: 5, strerror: Input/output error. (CANNOT_WRITE_TO_FILE_DESCRIPTOR)", false)
}
