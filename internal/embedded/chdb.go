package embedded

import (
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
)

// chdb is the part of libchdb's C interface (chdb.h) that is used here. Every pointer it hands out is memory
// of the library, released by the destroy function of its kind. The functions block, on an operating system
// thread of their own, and may be called from any thread.
type chdb struct {
	setSignalHandlersEnabled func(enabled int32)
	connect                  func(argc int32, argv **byte) *connection
	closeConn                func(*connection)

	query          func(conn connection, sql *byte, sqlLen uintptr, format *byte, formatLen uintptr) result
	streamQuery    func(conn connection, sql *byte, sqlLen uintptr, format *byte, formatLen uintptr) result
	streamFetch    func(conn connection, stream result) result
	streamCancel   func(conn connection, stream result)
	classify       func(conn connection, sql *byte, sqlLen uintptr, database *byte, databaseLen uintptr, out *analysis) int32
	destroyResult  func(result)
	resultBuffer   func(result) *byte
	resultLength   func(result) uintptr
	resultError    func(result) string
	resultRows     func(result) uint64 // rows in the result
	resultBytes    func(result) uint64
	storageRows    func(result) uint64 // rows read from tables
	storageBytes   func(result) uint64
	rowsWritten    func(result) uint64 // including what views wrote
	bytesWritten   func(result) uint64
	streamInsert   func(conn connection, sql *byte, sqlLen uintptr, format *byte, formatLen uintptr) insertStream
	streamAppend   func(stream insertStream, data *byte, dataLen uintptr) int32
	streamDone     func(insertStream) result
	insertCancel   func(insertStream)
	insertError    func(insertStream) string
	destroyInserts func(insertStream)
}

// Handles of the library. They point to its memory, never to Go's.
type (
	connection   unsafe.Pointer
	result       unsafe.Pointer
	insertStream unsafe.Pointer
)

// analysis is chdb_query_analysis_v1.
type analysis struct {
	structSize, statements, _, _ uint32 // then flags and class
}

// loadChdb loads the library into the process, for good. It keeps Go's signal handlers in place.
func loadChdb(path string) (*chdb, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load the ClickHouse engine library %s: %w; reinstall it with `make deps`", path, err)
	}
	c := &chdb{}
	for name, fn := range map[string]any{
		"chdb_set_signal_handlers_enabled": &c.setSignalHandlersEnabled,
		"chdb_connect":                     &c.connect,
		"chdb_close_conn":                  &c.closeConn,
		"chdb_query_n":                     &c.query,
		"chdb_stream_query_n":              &c.streamQuery,
		"chdb_stream_fetch_result":         &c.streamFetch,
		"chdb_stream_cancel_query":         &c.streamCancel,
		"chdb_classify_query_n":            &c.classify,
		"chdb_destroy_query_result":        &c.destroyResult,
		"chdb_result_buffer":               &c.resultBuffer,
		"chdb_result_length":               &c.resultLength,
		"chdb_result_error":                &c.resultError,
		"chdb_result_rows_read":            &c.resultRows,
		"chdb_result_bytes_read":           &c.resultBytes,
		"chdb_result_storage_rows_read":    &c.storageRows,
		"chdb_result_storage_bytes_read":   &c.storageBytes,
		"chdb_result_rows_written":         &c.rowsWritten,
		"chdb_result_bytes_written":        &c.bytesWritten,
		"chdb_stream_insert_n":             &c.streamInsert,
		"chdb_stream_append":               &c.streamAppend,
		"chdb_stream_done":                 &c.streamDone,
		"chdb_stream_cancel_insert":        &c.insertCancel,
		"chdb_stream_insert_error":         &c.insertError,
		"chdb_destroy_insert_stream":       &c.destroyInserts,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("the library %s does not have %s: it is not the version that this program was built for; install that with `make deps`: %w", path, name, err)
		}
		purego.RegisterFunc(fn, symbol)
	}
	c.setSignalHandlersEnabled(0)
	return c, nil
}

// open connects to the data directory, starting the engine in this process if this is the first connection.
// It returns nil if the engine refuses; it has then said why on standard error.
func (c *chdb) open(args ...string) *connection {
	args = append([]string{"chdb"}, args...)
	argv := make([]*byte, len(args))
	for i, arg := range args {
		argv[i] = &append([]byte(arg), 0)[0]
	}
	conn := c.connect(int32(len(argv)), &argv[0]) // #nosec G115 -- a handful
	runtime.KeepAlive(argv)
	return conn
}

// bytes returns the result's data, which is the library's memory: it is gone with the result.
func (c *chdb) bytes(r result) []byte {
	return unsafe.Slice(c.resultBuffer(r), c.resultLength(r))
}

// text gives a C function a string as pointer and length; an empty one has a pointer, too.
func text(s string) (*byte, uintptr) {
	if s == "" {
		return &[]byte{0}[0], 0
	}
	return unsafe.StringData(s), uintptr(len(s))
}
