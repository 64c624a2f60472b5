package embedded

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ClickHouse/ch-go/compress"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// maxQueryBytes bounds the text of a query, without the rows of an INSERT. The engine's own limit,
// max_query_size, is a quarter of it by default.
const maxQueryBytes = 1 << 20

// request is what a client asked, taken from the address, the headers and the body.
type request struct {
	database string
	settings []setting
	queryID  string // echoed; the engine names its queries itself
	readonly bool   // GET, which must not change anything

	statement
	text string    // the statement: all of it, or of an insert up to its rows
	rows io.Reader // of an insert

	format         string          // of the result
	nativeRevision uint64          // to rewrite Native results for; 0 leaves them
	compress       bool            // into ClickHouse's own compressed blocks
	compressMethod compress.Method // of these blocks
	gzip           bool            // the response as a whole
	whole          bool            // wait for the end of the query before answering
}

// Parameters that belong to the interface. Every other one is a setting of the query.
var interfaceParameters = map[string]bool{
	"query": true, "database": true, "default_format": true, "query_id": true, "client_protocol_version": true,
	"compress": true, "decompress": true, "wait_end_of_query": true, "buffer_size": true,
	"user": true, "password": true, "quota_key": true, "stacktrace": true, "session_id": true, "session_timeout": true, "session_check": true, "role": true,
	"log_comment": true, // the engine's sessions are told apart by it
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

// readRequest reads a query from an HTTP request, of an INSERT all but its rows. Its errors are exceptions.
func readRequest(r *http.Request) (*request, error) {
	params := r.URL.Query()
	if err := authenticate(r, params); err != nil {
		return nil, err
	}
	if params.Get("session_id") != "" || params.Get("role") != "" {
		return nil, newException(codeNotImplemented, "NOT_IMPLEMENTED", "the embedded engine has no sessions (session_id) and no roles (role): every request stands alone")
	}
	if mediaType := r.Header.Get("Content-Type"); strings.HasPrefix(mediaType, "multipart/") {
		return nil, newException(codeNotImplemented, "NOT_IMPLEMENTED", "the embedded engine takes no external tables (Content-Type %s)", mediaType)
	}

	q := &request{
		database: firstOf(params.Get("database"), r.Header.Get("X-ClickHouse-Database")),
		queryID:  params.Get("query_id"),
		readonly: r.Method == http.MethodGet || r.Method == http.MethodHead,
		compress: isOn(params.Get("compress")),
		gzip:     acceptsGzip(r.Header.Get("Accept-Encoding")) && params.Get("enable_http_compression") != "0",
		whole:    isOn(params.Get("wait_end_of_query")),
	}
	if strings.EqualFold(params.Get("network_compression_method"), "ZSTD") {
		q.compressMethod = compress.ZSTD
	}
	if err := q.readSettings(params); err != nil {
		return nil, err
	}
	body, err := decodedBody(r, isOn(params.Get("decompress")))
	if err != nil {
		return nil, err
	}
	if err := q.readStatement(params.Get("query"), body); err != nil {
		return nil, err
	}

	q.format = firstOf(q.statement.format, r.Header.Get("X-ClickHouse-Format"), params.Get("default_format"), "TabSeparated")
	if v := params.Get("client_protocol_version"); v != "" && q.format == "Native" {
		if q.nativeRevision, err = strconv.ParseUint(v, 10, 32); err != nil {
			return nil, newException(codeBadArguments, "BAD_ARGUMENTS", "client_protocol_version is %q, which is not a number", v)
		}
	}
	return q, nil
}

// authenticate lets in the user "default" without a password, as a fresh ClickHouse server does, so that a
// client that was set up for another server finds out.
func authenticate(r *http.Request, params url.Values) error {
	basicUser, basicPassword, _ := r.BasicAuth()
	user := firstOf(params.Get("user"), r.Header.Get("X-ClickHouse-User"), basicUser, "default")
	password := firstOf(params.Get("password"), r.Header.Get("X-ClickHouse-Key"), basicPassword)
	if user != "default" || password != "" {
		return newException(codeAuthenticationFailed, "AUTHENTICATION_FAILED", "%s: the embedded engine knows the user default without a password only", user)
	}
	return nil
}

func (q *request) readSettings(params url.Values) error {
	for _, name := range slices.Sorted(maps.Keys(params)) {
		if interfaceParameters[name] {
			continue
		}
		if !settingName.MatchString(name) {
			return newException(115, "UNKNOWN_SETTING", "%q is not the name of a setting", name)
		}
		q.settings = append(q.settings, setting{name, params.Get(name)})
	}
	if q.readonly {
		// 2: settings may still be changed, as ClickHouse has it for GET.
		q.settings = append(q.settings, setting{"readonly", "2"})
	}
	return nil
}

// readStatement takes the statement from the address and the body, whose texts are one, on two lines.
func (q *request) readStatement(query string, body io.Reader) error {
	begin, err := io.ReadAll(io.LimitReader(body, maxQueryBytes+1))
	if err != nil {
		return newException(codeBadArguments, "BAD_ARGUMENTS", "cannot read the request body: %s", err)
	}
	if query != "" && len(begin) > 0 {
		query += "\n"
	}
	text := query + string(begin)
	if q.statement = parseStatement(text); q.file {
		return newException(codeNotImplemented, "NOT_IMPLEMENTED", "INTO OUTFILE and FROM INFILE are not for the HTTP interface: read the response, send the rows")
	}
	if q.insert {
		q.text, q.rows = q.head, io.MultiReader(strings.NewReader(text[q.data:]), body)
		return nil
	}
	if len(begin) > maxQueryBytes {
		return newException(codeSyntaxError, "SYNTAX_ERROR", "the query is longer than %d bytes", maxQueryBytes)
	}
	if strings.TrimSpace(text) == "" {
		return newException(codeSyntaxError, "SYNTAX_ERROR", "Empty query")
	}
	q.text = text
	return nil
}

// decodedBody undoes Content-Encoding and ClickHouse's own compression.
func decodedBody(r *http.Request, blocks bool) (io.Reader, error) {
	var body io.Reader = r.Body
	var err error
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		body, err = gzip.NewReader(body)
	case "deflate":
		body, err = zlib.NewReader(body)
	case "zstd":
		var z *zstd.Decoder
		if z, err = zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(256<<20)); err == nil {
			body = z.IOReadCloser()
		}
	default:
		return nil, newException(codeNotImplemented, "NOT_IMPLEMENTED", "Content-Encoding %s is not supported; use gzip, deflate or zstd", encoding)
	}
	if err != nil {
		return nil, newException(codeBadArguments, "BAD_ARGUMENTS", "cannot decode the request body: %s", err)
	}
	if blocks {
		counted := &countingReader{r: body}
		body = &blockReader{blocks: compress.NewReader(counted), source: counted}
	}
	return body, nil
}

// blockReader reads ClickHouse's compressed blocks, whose end is the end of source between two blocks. The
// library reports the end of source within a block in the same way, and, asked again after either, begins the
// last block once more.
type blockReader struct {
	blocks *compress.Reader
	source *countingReader
	err    error // how it ended
}

func (b *blockReader) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	before := b.source.n
	n, err := b.blocks.Read(p)
	switch {
	case errors.Is(err, io.EOF) && b.source.n == before:
		b.err = io.EOF
	case errors.Is(err, io.EOF):
		b.err = io.ErrUnexpectedEOF
	case err != nil:
		b.err = fmt.Errorf("decompress: %w", err)
	}
	return n, b.err
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// acceptsGzip reads an Accept-Encoding header as far as gzip goes.
func acceptsGzip(header string) bool {
	for part := range strings.SplitSeq(header, ",") {
		coding, weight, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(weight), "q="), 64)
			return err != nil || q > 0
		}
	}
	return false
}

// isOn reads a switch in the address.
func isOn(value string) bool { return value == "1" || strings.EqualFold(value, "true") }

func firstOf(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
