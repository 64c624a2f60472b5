package embedded

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ClickHouse/ch-go/compress"
)

// What a client asks is handed on whole: the statement and its rows are the text of the address and of the body,
// one behind the other, and a refusal is an exception, which clients can read.
func FuzzReadRequest(f *testing.F) {
	f.Add("database=d&max_threads=1", "INSERT INTO t FORMAT CSV", "1,2\n", http.MethodPost, "")
	f.Add("client_protocol_version=54460&default_format=Native", "", "SELECT 1", http.MethodPost, "identity")
	f.Add("session_id=1", "SELECT 1", "", http.MethodGet, "gzip")
	f.Add("decompress=1", "INSERT INTO t FORMAT Native", "\x00", http.MethodPost, "zstd")
	f.Add("a b=1", "SELECT", "", http.MethodGet, "br")
	f.Fuzz(func(t *testing.T, params, query, body, method, encoding string) {
		if method != http.MethodGet {
			method = http.MethodPost
		}
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		r.URL.RawQuery = params + "&query=" + url.QueryEscape(query)
		r.Header.Set("Content-Encoding", encoding)
		q, err := readRequest(r)
		if err != nil {
			if _, told := errors.AsType[*exception](err); !told {
				t.Fatalf("refused with %T: %v", err, err)
			}
			return
		}
		if q.readonly != (method == http.MethodGet) {
			t.Fatalf("%s: read-only is %v", method, q.readonly)
		}
		if encoding != "" && encoding != "identity" || isOn(r.URL.Query().Get("decompress")) || r.URL.Query().Get("query") != query {
			return // the body is another's, which FuzzBlocks looks at, or params had a statement first
		}
		whole := query + body
		if query != "" && body != "" {
			whole = query + "\n" + body
		}
		if !q.insert {
			if q.text != whole {
				t.Fatalf("%q became the statement %q", whole, q.text)
			}
			return
		}
		rows, err := io.ReadAll(q.rows)
		if err != nil || !strings.HasPrefix(whole, q.text) || !strings.HasSuffix(whole, string(rows)) || string(rows) != whole[q.data:] {
			t.Fatalf("%q became %q with the rows %q, %v", whole, q.text, rows, err)
		}
	})
}

// Blocks that are whole give their content; blocks that are cut or changed anywhere give an error and never a
// shorter text, which would be a part of an insert that passes for all of it.
func FuzzBlocks(f *testing.F) {
	f.Add([]byte("some rows"), []byte("more rows"), 30, byte(1))
	f.Add([]byte(""), []byte("x"), 0, byte(0))
	f.Add(bytes.Repeat([]byte("row "), 100), []byte{}, 17, byte(0x80))
	f.Fuzz(func(t *testing.T, first, second []byte, at int, flip byte) {
		var sent []byte
		ends := map[int][]byte{0: nil} // what the blocks before an end of one hold
		var text []byte
		for i, part := range [][]byte{first, second} {
			if len(part) == 0 {
				continue
			}
			w := compress.NewWriter(compress.LevelZero, []compress.Method{compress.LZ4, compress.ZSTD}[i])
			if err := w.Compress(part); err != nil {
				t.Fatal(err)
			}
			sent, text = append(sent, w.Data...), append(text, part...)
			ends[len(sent)] = bytes.Clone(text)
		}
		read := func(sent []byte) ([]byte, error) {
			counted := &countingReader{r: bytes.NewReader(sent)}
			return io.ReadAll(&blockReader{blocks: compress.NewReader(counted), source: counted})
		}
		if got, err := read(sent); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("whole blocks gave %q, %v, not %q", got, err, text)
		}
		if len(sent) == 0 {
			return
		}
		at = int(uint(at) % uint(len(sent))) // #nosec G115 -- any place will do
		got, err := read(sent[:at])
		if want, whole := ends[at]; whole != (err == nil) || whole && !bytes.Equal(got, want) {
			t.Fatalf("cut at %d of %d: %q, %v", at, len(sent), got, err)
		}
		if flip != 0 {
			sent[at] ^= flip
			if got, err := read(sent); err == nil {
				t.Fatalf("changed at %d of %d, and still %q", at, len(sent), got)
			}
		}
	})
}

// A kill may leave any bytes at the end of a log. Its repair leaves whole records, adds what is forgotten, and has
// nothing left to do when the next kill comes. Whatever else is in the folder is left alone.
func FuzzRepairTable(f *testing.F) {
	f.Add([]byte("1\t20261127_1_1_0\ttoken\n"), "deduplication_log_01.txt")
	f.Add([]byte("1\t20261127_1_1_0\ttoken\n1\t20261127_2_2_0\tother\n2\t2026"), "1")
	f.Add([]byte("1\t20261127_9_9_0_5\ttoken\n\n"), "lost+found")
	f.Add([]byte("1\t_\ta"), "")
	f.Fuzz(func(t *testing.T, log []byte, other string) {
		table := t.TempDir()
		folder := filepath.Join(table, "deduplication_logs")
		name := filepath.Join(folder, "deduplication_log_1.txt")
		if err := errors.Join(os.Mkdir(folder, 0o700), os.Mkdir(filepath.Join(table, "20261127_1_1_0"), 0o700), os.WriteFile(name, log, 0o600)); err != nil {
			t.Fatal(err)
		}
		if number, ok := strings.CutPrefix(other, "deduplication_log_"); ok && len(number) > 4 && number[0] != '0' {
			return // another log
		}
		if filepath.Base(other) == other && os.WriteFile(filepath.Join(folder, other), log, 0o600) == nil {
			defer func() {
				if left, err := os.ReadFile(filepath.Join(folder, other)); err != nil || !bytes.Equal(left, log) { // #nosec G304 -- written above
					t.Errorf("%q became %q, %v", other, left, err)
				}
			}()
		}
		whole := log[:bytes.LastIndexByte(log, '\n')+1]
		forgotten, err := repairTable(folder)
		got, errRead := os.ReadFile(name) // #nosec G304 -- written above
		if errRead != nil || !bytes.HasPrefix(got, whole) {
			t.Fatalf("%q became %q, %v", log, got, errRead)
		}
		if added := len(got) - len(whole); (added > 0) != (forgotten > 0) || added > 0 && err != nil {
			t.Fatalf("%q became %q, and %d blocks were forgotten, %v", log, got, forgotten, err)
		}
		if err != nil {
			return
		}
		again, err := repairTable(folder)
		if err != nil || again != 0 {
			t.Fatalf("%q was repaired as %q, and then %d blocks were forgotten, %v", log, got, again, err)
		}
	})
}
