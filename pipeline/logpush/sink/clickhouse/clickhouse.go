// Package clickhouse is the destination for a table of any ClickHouse server: one
// INSERT a batch, over ClickHouse's HTTP interface.
//
//	clickhouse://<host>:<port>/<database>/<table>?[user=...&password=...][&transport=https|http]
//	  [&setting_<name>=<value>]
//
// The batch goes as it is, compressed, in the format that the job's output_type has a
// name for: JSONEachRow for ndjson, CSV for csv. The insert carries the batch's id as
// its deduplication token, so a table that remembers tokens (a replicated one, or one
// with non_replicated_deduplication_window) has a repeated batch once.
package clickhouse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
)

// Options of every ClickHouse destination.
type Options struct {
	Egress egress.Policy
}

type sink struct {
	client   *http.Client
	base     url.URL
	settings url.Values
	header   http.Header
	into     string // INSERT INTO `database`.`table`
}

// silence of ClickHouse during an insert, which views can make long, lasts up to so many
// times what other destinations may take: a minute. An insert that is given up goes on
// there, and comes again.
const silence = 6

var settingName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// New returns the sink of a clickhouse:// URL.
func New(u *url.URL, options Options) (logpush.Sink, error) {
	query := u.Query()
	transport := query.Get("transport")
	if transport == "" {
		transport = "https"
	}
	if err := options.Egress.CheckScheme(transport); err != nil {
		return nil, fmt.Errorf("the parameter transport: %w", err)
	}
	database, table, ok := strings.Cut(strings.Trim(u.Path, "/"), "/")
	if !ok || database == "" || table == "" || strings.ContainsAny(u.Path, "{}") || strings.Contains(table, "/") || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("write clickhouse://<host>:<port>/<database>/<table>, with user and password as parameters")
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), map[string]string{"https": "8443", "http": "8123"}[transport])
	}
	s := &sink{
		client: options.Egress.Slower(silence).Client(), base: url.URL{Scheme: transport, Host: host, Path: "/"}, settings: url.Values{}, header: http.Header{},
		into: "INSERT INTO " + quoteName(database) + "." + quoteName(table),
	}
	for name, values := range query {
		setting, isSetting := strings.CutPrefix(name, "setting_")
		switch {
		case len(values) > 1:
			return nil, fmt.Errorf("the parameter %q is given twice", name)
		case isSetting && !settingName.MatchString(setting):
			return nil, fmt.Errorf("the parameter %q does not name a setting", name)
		case isSetting && slices.Contains(ours, setting):
			return nil, fmt.Errorf("setting_%s cannot be set: delivery sets it itself", setting)
		case isSetting:
			s.settings.Set(setting, values[0])
		case name == "user":
			s.header.Set("X-ClickHouse-User", values[0])
		case name == "password":
			s.header.Set("X-ClickHouse-Key", values[0])
		case name != "transport":
			return nil, fmt.Errorf("the parameter %q is not known for clickhouse: possible are user, password, transport and setting_<name>", name)
		}
	}
	return s, nil
}

// ours cannot be set by a destination_conf: with async inserts that are not waited
// for, a batch would count as taken that nobody has.
var ours = []string{"query", "database", "insert_deduplication_token", "insert_deduplicate", "wait_for_async_insert", "async_insert"}

func quoteName(name string) string {
	return "`" + strings.NewReplacer("\\", "\\\\", "`", "\\`").Replace(name) + "`"
}

// Traits implements logpush.Traiter.
func (s *sink) Traits() logpush.Traits { return logpush.Traits{} }

// Put implements logpush.Sink.
func (s *sink) Put(ctx context.Context, o logpush.Object) error {
	return s.insert(ctx, o.ContentType, o.BatchID, o.Body)
}

// Test implements logpush.Tester: an insert of no rows needs the same table and the
// same grants, and leaves nothing.
func (s *sink) Test(ctx context.Context) error { return s.insert(ctx, "application/x-ndjson", "", nil) }

func (s *sink) insert(ctx context.Context, contentType, batchID string, body []byte) error {
	format := " FORMAT JSONEachRow"
	if strings.HasPrefix(contentType, "text/csv") {
		format = " FORMAT CSV"
	}
	// A field without a column would be dropped in silence; who wants that, says so.
	query := url.Values{"query": {s.into + format}, "async_insert": {"0"}, "input_format_skip_unknown_fields": {"0"}}
	for name, values := range s.settings {
		query[name] = values
	}
	if batchID != "" {
		query.Set("insert_deduplication_token", "tidegate-"+batchID)
	}
	target := s.base
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil { // New let no such URL pass
		return &logpush.UploadError{Text: "the URL cannot be used", Permanent: true}
	}
	request.Header = s.header.Clone()
	request.Header.Set("User-Agent", "Tidegate-Logpush/1.0")
	if len(body) > 0 {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := s.client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return egress.Classify(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	// A failure after the answer began comes in its body, under status 200.
	code := response.Header.Get("X-ClickHouse-Exception-Code")
	failed := response.StatusCode != http.StatusOK || code != "" || bytes.Contains(text, []byte("DB::Exception"))
	switch {
	case !failed && err == nil && len(text) == 0:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case !failed && err != nil:
		return egress.Classify(err)
	case !failed: // of an insert there is nothing to say: a proxy's page would count as a batch that was taken
		return &logpush.UploadError{Text: "the answer is not one of an insert: " + logpush.TextOf(text)}
	}
	e := refusal(response.StatusCode, code, text)
	e.RetryAfter = logpush.RetryAfter(response.Header, time.Now()) // a proxy's, most likely
	return e
}

// contentCodes are ClickHouse's errors (src/Common/ErrorCodes.cpp) that blame the rows:
// they come again with the same rows, and other rows may pass.
var contentCodes = []int{
	6,   // CANNOT_PARSE_TEXT
	25,  // CANNOT_PARSE_ESCAPE_SEQUENCE
	26,  // CANNOT_PARSE_QUOTED_STRING
	27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
	33,  // CANNOT_READ_ALL_DATA
	38,  // CANNOT_PARSE_DATE
	41,  // CANNOT_PARSE_DATETIME
	53,  // TYPE_MISMATCH
	69,  // ARGUMENT_OUT_OF_BOUND
	72,  // CANNOT_PARSE_NUMBER
	117, // INCORRECT_DATA
	128, // TOO_LARGE_ARRAY_SIZE
	130, // CANNOT_READ_ARRAY_FROM_TEXT
	131, // TOO_LARGE_STRING_SIZE
	190, // SIZES_OF_ARRAYS_DONT_MATCH
	321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
	349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
	376, // CANNOT_PARSE_UUID
	407, // DECIMAL_OVERFLOW
	441, // CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
	467, // CANNOT_PARSE_BOOL
	469, // VIOLATED_CONSTRAINT
	691, // UNKNOWN_ELEMENT_OF_ENUM
	675, // CANNOT_PARSE_IPV4
	676, // CANNOT_PARSE_IPV6
}

// refusal classifies an answer. What the rows are blamed for is told as status 422,
// because ClickHouse has 400 or 500 for nearly everything.
func refusal(status int, code string, text []byte) *logpush.UploadError {
	e := &logpush.UploadError{Status: status, Text: logpush.TextOf(text)}
	// A column that is missing for all rows can be added while they wait. Further on in the text may stand what a row says.
	_, message, _ := bytes.Cut(text, []byte("DB::Exception: "))
	missingColumn := bytes.HasPrefix(message, []byte("Unknown field"))
	if n, err := strconv.Atoi(code); err == nil && slices.Contains(contentCodes, n) && !missingColumn {
		e.Status, e.Permanent = http.StatusUnprocessableEntity, true
		return e
	}
	e.Permanent = status/100 == 3 || status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusNotFound
	if status == http.StatusOK || status == http.StatusBadRequest {
		// No refusal of the batch, whatever the number says: a missing table or a
		// read-only server is mended while the batch waits.
		e.Status = http.StatusInternalServerError
	}
	return e
}
