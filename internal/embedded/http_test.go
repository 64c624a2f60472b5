package embedded

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
)

// One engine serves all the tests of the interface: what one leaves behind must not show in another.
func TestHTTPInterface(t *testing.T) {
	e := startEngine(t, t.TempDir())
	for name, test := range map[string]func(*testing.T, *Engine){
		"GET and POST":             testGetAndPost,
		"inserts in any format":    testInsertFormats,
		"inserts are binary safe":  testInsertBinary,
		"truncated insert":         testTruncatedInsert,
		"settings and databases":   testIsolation,
		"query parameters":         testParameters,
		"formats and headers":      testFormats,
		"compressed blocks":        testCompressedBlocks,
		"gzip":                     testGzip,
		"errors":                   testErrors,
		"failure in mid-stream":    testFailureInMidStream,
		"files of queries":         testFilesOfQueries,
		"hosts":                    testHosts,
		"large results":            testLargeResults,
		"the engine's own reading": testSummary,
	} {
		t.Run(name, func(t *testing.T) { test(t, e) })
	}
}

func testGetAndPost(t *testing.T, e *Engine) {
	for _, path := range []string{"/", "/ping"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.Addr()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Body.Close() != nil {
			t.Fatal(err)
		}
		equal(t, path, string(body), "Ok.\n")
	}
	equal(t, "GET", ask(t, e, http.MethodGet, "", "query", "SELECT 1").body, "1\n")
	equal(t, "query in the address of a POST", ask(t, e, http.MethodPost, "", "query", "SELECT 2").body, "2\n")
	equal(t, "query in the body", ask(t, e, http.MethodPost, "SELECT 3").body, "3\n")
	equal(t, "query in both", ask(t, e, http.MethodPost, "+ 2", "query", "SELECT 2 -- two").body, "4\n")
	equal(t, "nothing to answer", mustAsk(t, e, "CREATE TABLE got (a Int8) ENGINE = Memory"), "")
	equal(t, "not a SELECT", mustAsk(t, e, "SHOW TABLES LIKE 'got'"), "got")
	equal(t, "GET is for reading", ask(t, e, http.MethodGet, "", "query", "DROP TABLE got").header.Get("X-ClickHouse-Exception-Code"), "164")
	equal(t, "GET does not insert", ask(t, e, http.MethodGet, "", "query", "INSERT INTO got VALUES (1)").header.Get("X-ClickHouse-Exception-Code"), "164")
	mustAsk(t, e, "DROP TABLE got")
}

func testInsertFormats(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE TABLE formats (a Int32, b String DEFAULT 'none') ENGINE = MergeTree ORDER BY a")
	f := func(query, body string) {
		t.Helper()
		mustAsk(t, e, "TRUNCATE TABLE formats")
		if a := ask(t, e, http.MethodPost, body, "query", query); a.status != http.StatusOK || a.body != "" {
			t.Fatalf("%s: %d %s", query, a.status, a.body)
		}
		equal(t, query+" then "+body, mustAsk(t, e, "SELECT groupArray((a, b)) FROM (SELECT * FROM formats ORDER BY a)"), "[(1,'x'),(2,'none')]")
	}
	f("INSERT INTO formats FORMAT CSV", "1,x\n2,none\n")
	f("INSERT INTO formats FORMAT JSONEachRow", `{"a":1,"b":"x"}{"a":2}`)
	f("INSERT INTO formats FORMAT TSV", "1\tx\n2\tnone\n")
	f("INSERT INTO formats VALUES", "(1,'x'),(3 - 1, lower('NONE'))")
	f("INSERT INTO formats FORMAT Values (1,'x'),", "(2,'none')")
	f("INSERT INTO formats (a, b) SETTINGS input_format_csv_skip_first_lines = 1 FORMAT CSV", "a,b\n1,x\n2,none\n")
	f("", "INSERT INTO formats FORMAT CSV\n1,x\n2,none\n")
	f("", "INSERT INTO formats VALUES (1,'x'), (2,'none')")
	f("INSERT INTO formats SELECT number + 1, ['x', 'none'][number + 1] FROM numbers(2)", "")
	mustAsk(t, e, "DROP TABLE formats")
}

func testInsertBinary(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE TABLE bin (s String) ENGINE = Memory")
	// More than what is read of a body to find the statement, and full of what must not be taken for SQL.
	nasty := "\x00'`\"\\\n\n;-- FORMAT CSV\r\n/*"
	row := strings.Repeat(nasty, 100_000)
	var rows bytes.Buffer
	for n := len(row); ; n >>= 7 { // RowBinary: the length, seven bits a byte
		if n < 0x80 {
			rows.WriteByte(byte(n))
			break
		}
		rows.WriteByte(byte(n) | 0x80)
	}
	rows.WriteString(row)
	equal(t, "insert", ask(t, e, http.MethodPost, "INSERT INTO bin FORMAT RowBinary\n"+rows.String()).body, "")
	equal(t, "insert", ask(t, e, http.MethodPost, rows.String(), "query", "INSERT INTO bin FORMAT RowBinary").body, "")
	got := ask(t, e, http.MethodPost, "SELECT s FROM bin FORMAT RowBinary")
	if got.body != rows.String()+rows.String() {
		t.Errorf("read back %d bytes, want the %d that were written", len(got.body), 2*rows.Len())
	}
	mustAsk(t, e, "DROP TABLE bin")
}

// A client that dies while it sends must not leave a part of its rows.
func testTruncatedInsert(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE TABLE cut (s String) ENGINE = MergeTree ORDER BY s")
	rows, write := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		_, err := tryAsk(t.Context(), e, http.MethodPost, rows, nil, "query", "INSERT INTO cut FORMAT CSV")
		sent <- err
	}()
	for range 1000 {
		if _, err := io.WriteString(write, strings.Repeat("x\n", 1000)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the insert runs", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "1"
	})
	if err := write.CloseWithError(errors.New("the client dies")); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err == nil {
		t.Error("the cut insert was answered")
	}
	eventually(t, "the insert has ended", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query_kind = 'Insert'") == "0"
	})
	equal(t, "rows", mustAsk(t, e, "SELECT count() FROM cut"), "0")

	whole := blockOf(t, compress.LZ4, "x\n")
	a, err := tryAsk(t.Context(), e, http.MethodPost, bytes.NewReader(whole[:len(whole)-1]), nil, "query", "INSERT INTO cut FORMAT CSV", "decompress", "1")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "half a compressed block", a.status, http.StatusBadRequest)
	equal(t, "rows", mustAsk(t, e, "SELECT count() FROM cut"), "0")
	mustAsk(t, e, "DROP TABLE cut")
}

func testIsolation(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE DATABASE one")
	mustAsk(t, e, "CREATE DATABASE two")
	var requests sync.WaitGroup
	for i := range 40 {
		requests.Go(func() {
			db, threads := []string{"default", "one", "two"}[i%3], fmt.Sprint(1+i%5)
			a, err := tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("SELECT currentDatabase(), getSetting('max_threads'), getSetting('max_block_size')"), nil, "database", db, "max_threads", threads)
			if err != nil {
				t.Error(err)
			}
			equal(t, "a concurrent request", a.body, db+"\t"+threads+"\t65409\n")
		})
	}
	requests.Wait()
	equal(t, "in the statement", mustAsk(t, e, "SELECT getSetting('max_threads') SETTINGS max_threads = 7"), "7")
	a, err := tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("SELECT currentDatabase()"), http.Header{"X-Clickhouse-Database": {"two"}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "database by header", a.body, "two\n")
	mustAsk(t, e, "USE one")
	mustAsk(t, e, "SET max_threads = 9")
	equal(t, "after USE and SET", mustAsk(t, e, "SELECT currentDatabase(), getSetting('max_threads') = 9"), "default\t0")
	equal(t, "after a failure", ask(t, e, http.MethodPost, "SELECT throwIf(number = 3) FROM numbers(10)").status, http.StatusInternalServerError)
	equal(t, "after a failure", mustAsk(t, e, "SELECT 'clean'"), "clean")
	mustAsk(t, e, "DROP DATABASE one")
	mustAsk(t, e, "DROP DATABASE two")
}

func testParameters(t *testing.T, e *Engine) {
	equal(t, "string", mustAsk(t, e, "SELECT {s:String}, {n:UInt8} + 1, {a:Array(String)}", "param_s", `a'b\\c\td`, "param_n", "4", "param_a", "['x','y']"), `a\'b\\c\td`+"\t5\t['x','y']")
	mustAsk(t, e, "CREATE TABLE params (a Int32) ENGINE = Memory")
	equal(t, "identifier of an insert", ask(t, e, http.MethodPost, "5\n", "query", "INSERT INTO {t:Identifier} FORMAT CSV", "param_t", "params").body, "")
	equal(t, "insert", mustAsk(t, e, "SELECT * FROM {t:Identifier}", "param_t", "params"), "5")
	mustAsk(t, e, "DROP TABLE params")
}

func testFormats(t *testing.T, e *Engine) {
	f := func(want, contentType, format string, params ...string) {
		t.Helper()
		a := ask(t, e, http.MethodPost, "", params...)
		equal(t, params[1], strings.TrimSpace(a.body), want)
		equal(t, "Content-Type", a.header.Get("Content-Type"), contentType)
		equal(t, "X-ClickHouse-Format", a.header.Get("X-ClickHouse-Format"), format)
	}
	f("1", "text/tab-separated-values; charset=UTF-8", "TabSeparated", "query", "SELECT 1 AS a")
	f(`{"a":1}`, "application/x-ndjson; charset=UTF-8", "JSONEachRow", "query", "SELECT 1 AS a", "default_format", "JSONEachRow")
	f(`"a"`+"\n1", "text/csv; charset=UTF-8; header=present", "CSVWithNames", "query", "SELECT 1 AS a FORMAT CSVWithNames", "default_format", "JSON")
	a := ask(t, e, http.MethodPost, "SELECT 1", "query_id", "mine")
	equal(t, "X-ClickHouse-Query-Id", a.header.Get("X-ClickHouse-Query-Id"), "mine")
	equal(t, "X-ClickHouse-Timezone", a.header.Get("X-ClickHouse-Timezone"), mustAsk(t, e, "SELECT timezone()"))
	equal(t, "X-ClickHouse-Server-Display-Name", a.header.Get("X-ClickHouse-Server-Display-Name"), mustAsk(t, e, "SELECT displayName()"))

	// A format with a frame around its rows is one document, however many blocks the rows came in.
	var doc struct {
		Rows int
		Data []json.RawMessage
	}
	if err := json.Unmarshal([]byte(mustAsk(t, e, "SELECT number FROM numbers(200000) FORMAT JSON")), &doc); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", len(doc.Data), 200_000)
	equal(t, "rows", doc.Rows, 200_000)
	equal(t, "names once", strings.Count(mustAsk(t, e, "SELECT number AS n FROM numbers(200000) FORMAT TSVWithNames"), "n"), 1)
}

func blockOf(t *testing.T, method compress.Method, text string) []byte {
	t.Helper()
	w := compress.NewWriter(compress.LevelZero, method)
	if err := w.Compress([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(w.Data)
}

func testCompressedBlocks(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE TABLE blocks (a Int32) ENGINE = Memory")
	for _, method := range []compress.Method{compress.LZ4, compress.ZSTD, compress.None} {
		body := append(blockOf(t, method, "1\n2\n"), blockOf(t, method, "3\n")...)
		a, err := tryAsk(t.Context(), e, http.MethodPost, bytes.NewReader(body), nil, "query", "INSERT INTO blocks FORMAT CSV", "decompress", "1")
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "insert", a.body, "")
		// The last block was once read twice.
		equal(t, "rows", mustAsk(t, e, "SELECT count(), sum(a) FROM blocks"), "3\t6")
		mustAsk(t, e, "TRUNCATE TABLE blocks")
	}
	for _, method := range []string{"LZ4", "ZSTD"} {
		a := ask(t, e, http.MethodPost, "SELECT number FROM numbers(500000)", "compress", "1", "network_compression_method", method)
		plain, err := io.ReadAll(&blockReader{blocks: compress.NewReader(strings.NewReader(a.body)), source: &countingReader{}})
		if err != nil {
			t.Fatal(err)
		}
		equal(t, method+" rows", bytes.Count(plain, []byte("\n")), 500_000)
	}
	mustAsk(t, e, "DROP TABLE blocks")
}

func testGzip(t *testing.T, e *Engine) {
	var body bytes.Buffer
	z := gzip.NewWriter(&body)
	if _, err := io.WriteString(z, "SELECT number FROM numbers(400000)"); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	a, err := tryAsk(t.Context(), e, http.MethodPost, &body, http.Header{"Content-Encoding": {"gzip"}, "Accept-Encoding": {"br, gzip;q=0.5"}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "Content-Encoding", a.header.Get("Content-Encoding"), "gzip")
	unzip, err := gzip.NewReader(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(unzip)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", bytes.Count(plain, []byte("\n")), 400_000)

	for _, refused := range []http.Header{{"Accept-Encoding": {"gzip;q=0"}}, {"Accept-Encoding": {"br"}}} {
		a, err := tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("SELECT 1"), refused)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "unasked", a.body, "1\n")
	}
	a, err = tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("SELECT 1"), http.Header{"Accept-Encoding": {"gzip"}}, "enable_http_compression", "0")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "switched off", a.body, "1\n")
}

func testErrors(t *testing.T, e *Engine) {
	f := func(status int, code, text, query string, params ...string) {
		t.Helper()
		a := ask(t, e, http.MethodPost, query, params...)
		if a.status != status || a.header.Get("X-ClickHouse-Exception-Code") != code || !strings.HasPrefix(a.body, "Code: "+code+". DB::Exception: ") || !strings.Contains(a.body, text) {
			t.Errorf("%s %v: status %d, code %s: %s", query, params, a.status, a.header.Get("X-ClickHouse-Exception-Code"), a.body)
		}
	}
	f(400, "62", "Syntax error", "SELEKT 1")
	f(400, "62", "Empty query", " ")
	f(400, "62", "Multi-statements are not allowed", "SELECT 1; SELECT 2")
	f(400, "62", "Multi-statements are not allowed", "SELECT 1; SELECT 2", "default_format", "JSON")
	f(400, "62", "longer than", "SELECT '"+strings.Repeat("x", maxQueryBytes)+"'")
	f(404, "60", "nosuch", "SELECT * FROM nosuch")
	f(404, "60", "nosuch", "INSERT INTO nosuch FORMAT CSV\n1")
	f(404, "81", "nosuch", "SELECT 1", "database", "nosuch")
	f(404, "115", "nosuch", "SELECT 1", "nosuch", "1")
	f(404, "115", "a b", "SELECT 1", "a b", "1")
	f(404, "73", "Nosuch", "SELECT 1 FORMAT Nosuch")
	f(500, "395", "throwIf", "SELECT throwIf(1)")
	f(408, "159", "Timeout exceeded", "SELECT count() FROM numbers(1e12) WHERE NOT ignore(sipHash64(number))", "max_execution_time", "0.2")
	f(400, "27", "", "INSERT INTO FUNCTION null('a Int8') FORMAT JSONEachRow\n{\"a\":x}")
	f(501, "48", "session", "SELECT 1", "session_id", "x")
	f(501, "48", "OUTFILE", "SELECT 1 INTO OUTFILE '/tmp/x'")
	f(403, "516", "someone", "SELECT 1", "user", "someone")
	f(403, "516", "password", "SELECT 1", "password", "x")
	f(500, "396", "", "SELECT repeat(materialize('x'), 100000) FROM numbers(10000) SETTINGS max_block_size = 100 FORMAT JSON")
}

func testFailureInMidStream(t *testing.T, e *Engine) {
	a, err := tryAsk(t.Context(), e, http.MethodPost, strings.NewReader("SELECT throwIf(number = 5000000) FROM numbers(10000000)"), nil)
	if err == nil {
		t.Fatal("a part of a result was passed off as the whole")
	}
	tail := a.body[strings.LastIndex(a.body, "0\n")+2:]
	if !strings.HasPrefix(tail, "\r\n__exception__\r\n"+a.header.Get("X-ClickHouse-Exception-Tag")+"\r\nCode: 395. DB::Exception") {
		t.Errorf("the result ends with %q, want the exception", tail)
	}
	b := ask(t, e, http.MethodPost, "SELECT throwIf(number = 5000000) FROM numbers(10000000)", "wait_end_of_query", "1")
	equal(t, "having waited for the end", b.status, http.StatusInternalServerError)
}

// A result passes through in pieces: this one has no end.
func testLargeResults(t *testing.T, e *Engine) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.Addr()+"/", strings.NewReader("SELECT repeat(materialize('x'), 100000) FROM numbers(1e13) SETTINGS max_block_size = 10"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, resp.Body, 50<<20); err != nil {
		t.Error(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the query has ended with its client", func() bool {
		return mustAsk(t, e, "SELECT count() FROM system.processes WHERE query LIKE '%1e13%'") == "1"
	})
}

func testSummary(t *testing.T, e *Engine) {
	mustAsk(t, e, "CREATE TABLE summary (a Int32) ENGINE = MergeTree ORDER BY a")
	numbers := func(a answer) (n map[string]string) {
		if err := json.Unmarshal([]byte(a.header.Get("X-ClickHouse-Summary")), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	equal(t, "written_rows", numbers(ask(t, e, http.MethodPost, "INSERT INTO summary FORMAT CSV\n1\n2\n3\n"))["written_rows"], "3")
	n := numbers(ask(t, e, http.MethodPost, "SELECT * FROM summary WHERE a > 1"))
	equal(t, "read_rows", n["read_rows"], "3")
	equal(t, "result_rows", n["result_rows"], "2")
	mustAsk(t, e, "DROP TABLE summary")
}
