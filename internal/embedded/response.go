package embedded

import (
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/gzip"
)

const (
	// heldBackBytes of a result are kept until the query ends or they are full. Until then a failure is
	// answered with its status and code; after that, by breaking the response off.
	heldBackBytes = 1 << 20
	// compressedBlockBytes is the size of a compressed block before compression, ClickHouse's own default.
	compressedBlockBytes = 1 << 20
	// sendTimeout is how long a client may refuse to read, as ClickHouse's http_send_timeout.
	sendTimeout = 30 * time.Second
)

// streamable are the formats of which two results, one after the other, are one result: only these can be
// passed on piece by piece.
var streamable = map[string]bool{
	"Native": true, "RowBinary": true, "TabSeparated": true, "TSV": true, "TabSeparatedRaw": true, "TSVRaw": true, "Raw": true,
	"CSV": true, "JSONEachRow": true, "JSONLines": true, "NDJSON": true, "JSONCompactEachRow": true, "RawBLOB": true, "LineAsString": true, "TSKV": true,
}

var contentTypes = map[string]string{
	"TabSeparated": "text/tab-separated-values; charset=UTF-8", "TSV": "text/tab-separated-values; charset=UTF-8",
	"CSV": "text/csv; charset=UTF-8; header=absent", "CSVWithNames": "text/csv; charset=UTF-8; header=present",
	"JSON": "application/json; charset=UTF-8", "JSONCompact": "application/json; charset=UTF-8",
	"JSONEachRow": "application/x-ndjson; charset=UTF-8",
	"Native":      "application/octet-stream", "RowBinary": "application/octet-stream", "Parquet": "application/octet-stream",
}

// response writes a query's result or failure, with the headers that ClickHouse sends.
type response struct {
	w       http.ResponseWriter
	q       *request
	started time.Time

	native *nativeEncoder   // nil: results are passed on as they are
	blocks *compress.Writer // nil: not compressed by ClickHouse's own scheme
	held   []byte           // what is held back
	out    io.Writer        // set once the headers are out
	gzip   *gzip.Writer     // on the way to out; may be nil
	tag    string           // marks the text of a failure after the headers
}

func newResponse(w http.ResponseWriter, q *request, server serverInfo) *response {
	r := &response{w: w, q: q, started: time.Now(), tag: strings.ToLower(rand.Text()[:16])}
	if q.nativeRevision > 0 {
		r.native = &nativeEncoder{revision: q.nativeRevision, server: server.context}
	}
	if q.compress {
		r.blocks = compress.NewWriter(compress.LevelZero, q.compressMethod)
	}
	header := w.Header()
	header.Set("Content-Type", firstOf(contentTypes[q.format], "text/plain; charset=UTF-8"))
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("X-ClickHouse-Format", q.format)
	header.Set("X-ClickHouse-Query-Id", firstOf(q.queryID, strings.ToLower(rand.Text())))
	header.Set("X-ClickHouse-Server-Display-Name", server.displayName)
	header.Set("X-ClickHouse-Timezone", server.context.Timezone.String())
	header.Set("X-ClickHouse-Exception-Tag", r.tag)
	return r
}

// piece takes the next piece of the result and the numbers so far.
func (r *response) piece(data []byte, so stats) error {
	if r.native != nil {
		var err error
		if data, err = r.native.encode(data); err != nil {
			return err
		}
	}
	if r.blocks == nil {
		return r.write(data, so)
	}
	for len(data) > 0 {
		n := min(len(data), compressedBlockBytes)
		if err := r.blocks.Compress(data[:n]); err != nil {
			return fmt.Errorf("compress the result: %w", err)
		}
		if err := r.write(r.blocks.Data, so); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (r *response) write(data []byte, so stats) error {
	if r.out == nil {
		if len(r.held)+len(data) <= heldBackBytes {
			r.held = append(r.held, data...)
			return nil
		}
		if err := r.start(so, -1); err != nil {
			return err
		}
	}
	return r.send(data)
}

// start sends the headers and what was held back. length is that of the whole body, -1 if it is not known.
func (r *response) start(so stats, length int) error {
	header := r.w.Header()
	header.Set("X-ClickHouse-Summary", fmt.Sprintf(
		`{"read_rows":"%d","read_bytes":"%d","written_rows":"%d","written_bytes":"%d","total_rows_to_read":"0","result_rows":"%d","elapsed_ns":"%d"}`,
		so.readRows, so.readBytes, so.writtenRows, so.writtenBytes, so.resultRows, time.Since(r.started).Nanoseconds()))
	r.out = r.w
	switch {
	case length == 0: // nothing to compress, and clients look at the length
		header.Set("Content-Length", "0")
	case r.q.gzip:
		header.Set("Content-Encoding", "gzip")
		r.gzip = gzip.NewWriter(r.w)
		r.out = r.gzip
	case length > 0:
		header.Set("Content-Length", strconv.Itoa(length))
	}
	r.w.WriteHeader(http.StatusOK)
	held := r.held
	r.held = nil
	return r.send(held)
}

func (r *response) send(data []byte) error {
	if err := http.NewResponseController(r.w).SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := r.out.Write(data)
	return err
}

// finish ends a response whose query succeeded.
func (r *response) finish(so stats) error {
	if r.out == nil {
		if err := r.start(so, len(r.held)); err != nil {
			return err
		}
	}
	if r.gzip != nil {
		return r.gzip.Close()
	}
	return nil
}

// fail ends a response whose query failed. If a part of the result is out, the failure follows it in a frame
// that clients look for, and the connection is broken off so that no other client takes the part for the whole.
func (r *response) fail(ex *exception) {
	if r.out == nil {
		writeException(r.w, ex)
		return
	}
	frame := fmt.Sprintf("\r\n__exception__\r\n%[1]s\r\n%[2]s\n%[3]d %[1]s\r\n__exception__\r\n", r.tag, ex.Text, len(ex.Text)+1)
	_ = r.send([]byte(frame)) // the client may be gone; the connection ends either way
	if r.gzip != nil {
		_ = r.gzip.Close()
	}
	_ = http.NewResponseController(r.w).Flush()
	panic(http.ErrAbortHandler)
}

func writeException(w http.ResponseWriter, ex *exception) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=UTF-8")
	header.Set("X-ClickHouse-Exception-Code", strconv.Itoa(ex.Code))
	w.WriteHeader(ex.status())
	_, _ = io.WriteString(w, ex.Text+"\n") // a client that does not read its error has left
}
