package embedded

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A web page can send GET requests to any address, so a GET must not write files either.
func testFilesOfQueries(t *testing.T, e *Engine) {
	for _, query := range []string{
		"SELECT 1 INTO OUTFILE '%s'",
		"(SELECT 1) INTO OUTFILE '%s'",
		"SELECT 1 // '\n INTO OUTFILE '%s'",
		"SELECT 1 // (\n INTO OUTFILE '%s'",
		"SELECT ‘(’ INTO OUTFILE '%s'",
		"SELECT 1 /* /* */ ( */ INTO OUTFILE '%s'",
		"SELECT 1 AS a$b$ INTO OUTFILE '%s' -- $b$",
		"EXPLAIN SELECT 1 INTO /**/ OUTFILE '%s'",
		"INSERT INTO formats FROM INFILE '%s' FORMAT CSV",
	} {
		file := filepath.Join(t.TempDir(), "out")
		query = fmt.Sprintf(query, file)
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			a := ask(t, e, method, "", "query", query)
			if a.status != http.StatusNotImplemented || !strings.Contains(a.body, "INTO OUTFILE") {
				t.Errorf("%s %s: status %d, %s", method, query, a.status, a.body)
			}
		}
		if _, err := os.Stat(file); err == nil {
			t.Errorf("%s: the file is there", query)
		}
	}
}

// A name that an attacker made to resolve to 127.0.0.1 is still the attacker's: its pages are of another site.
func testHosts(t *testing.T, e *Engine) {
	f := func(want int, host, origin string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+e.Addr()+"/", strings.NewReader("SELECT 1"))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		equal(t, host+" from "+origin, resp.StatusCode, want)
	}
	for _, host := range []string{e.Addr(), "127.0.0.1", "127.1.2.3:80", "localhost", "LOCALHOST:1", "[::1]", "[::1]:8123", "[::ffff:127.0.0.1]"} {
		f(http.StatusOK, host, "")
	}
	for _, host := range []string{"evil.example", "evil.example:8123", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[fe80::1]:1", "2130706433", "a@127.0.0.1", ":8123"} {
		f(http.StatusForbidden, host, "")
	}
	f(http.StatusForbidden, "evil.example:8123", "http://evil.example:8123")
	f(http.StatusForbidden, e.Addr(), "http://evil.example")
	f(http.StatusOK, e.Addr(), "http://"+e.Addr())
}

// What the grants refuse, with or without a sandbox.
func TestGrantsRefuseOtherMachinesAndFiles(t *testing.T) {
	e := startEngine(t, t.TempDir())
	mustAsk(t, e, "CREATE TABLE own (a Int8) ENGINE = MergeTree ORDER BY a")
	file := filepath.Join(t.TempDir(), "x")
	for _, query := range []string{
		"SELECT * FROM file('/etc/hostname', 'LineAsString')",
		"SELECT * FROM url('http://127.0.0.1:1/', 'LineAsString')",
		"SELECT * FROM remote('127.0.0.1:1', system.one)",
		"SELECT * FROM filesystem('/etc')",
		"INSERT INTO FUNCTION file('" + file + "', 'CSV', 'a Int8') SELECT 1",
		"CREATE TABLE x (l String) ENGINE = File(LineAsString, '" + file + "')",
		"CREATE TABLE x (l String) ENGINE = URL('http://127.0.0.1:1/', 'LineAsString')",
		"CREATE TABLE x (l String) ENGINE = MySQL('127.0.0.1:1', 'd', 't', 'u', 'p')",
		"CREATE TABLE x (l String) ENGINE = S3('http://127.0.0.1:1/bucket/x.csv', 'CSV')",
		"CREATE TABLE x (l String) ENGINE = Distributed('default', 'default', 'own')",
		"CREATE TABLE x (a Int8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')",
		"ALTER TABLE own MODIFY SETTING disk = disk(type = web, endpoint = 'http://127.0.0.1:1/')",
		"CREATE TEMPORARY TABLE x (l String) ENGINE = File(CSV)",
		"CREATE DATABASE x ENGINE = SQLite('" + file + "')",
		"CREATE DATABASE x ENGINE = Filesystem('/etc')",
		"CREATE DATABASE x ENGINE = MySQL('127.0.0.1:1', 'd', 'u', 'p')",
		"CREATE DATABASE x ENGINE = PostgreSQL('127.0.0.1:1', 'd', 'u', 'p')",
		"CREATE DATABASE x ENGINE = S3('http://127.0.0.1:1/bucket/')",
		"CREATE DICTIONARY x (k UInt64, v String) PRIMARY KEY k SOURCE(HTTP(url 'http://127.0.0.1:1/' format 'TSV')) LAYOUT(FLAT()) LIFETIME(0)",
		"CREATE DICTIONARY x (k UInt64, v String) PRIMARY KEY k SOURCE(FILE(path '/etc/passwd' format 'TSV')) LAYOUT(FLAT()) LIFETIME(0)",
		"CREATE NAMED COLLECTION x AS url = 'http://127.0.0.1:1/'",
		"CREATE FUNCTION x AS (a) -> a",
		"CREATE USER x",
		"GRANT READ ON URL TO default",
		"BACKUP TABLE own TO File('" + file + "')",
		"SYSTEM SHUTDOWN",
		"SYSTEM FLUSH LOGS",
		"SET log_comment = 'x'",
		"SELECT 1 SETTINGS log_comment = 'x'",
	} {
		a := ask(t, e, http.MethodPost, query)
		if code := a.header.Get("X-ClickHouse-Exception-Code"); code != "497" && code != "452" { // ACCESS_DENIED, SETTING_CONSTRAINT_VIOLATION
			t.Errorf("%s: status %d, %s", query, a.status, a.body)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("a file was written")
	}
}

func TestGrantsAllowWhatTablesNeed(t *testing.T) {
	e := startEngine(t, t.TempDir())
	for _, query := range []string{
		"CREATE DATABASE d",
		"CREATE DATABASE e ENGINE = Atomic",
		"CREATE TABLE d.t (a Int32, at DateTime) ENGINE = MergeTree PARTITION BY toDate(at) ORDER BY a TTL at + INTERVAL 1 DAY SETTINGS non_replicated_deduplication_window = 10",
		"CREATE TABLE d.replacing (a Int32, at DateTime) ENGINE = ReplacingMergeTree ORDER BY a",
		"CREATE TABLE d.aggregating (a Int32, n AggregateFunction(count)) ENGINE = AggregatingMergeTree ORDER BY a",
		"CREATE TABLE d.summing (a Int32) ENGINE = SummingMergeTree ORDER BY a",
		"CREATE TABLE d.memory (a Int32) ENGINE = Memory",
		"CREATE TABLE d.nothing (a Int32) ENGINE = Null",
		"CREATE TABLE d.set (a Int32) ENGINE = Set",
		"CREATE TABLE d.joined (a Int32) ENGINE = Join(ANY, LEFT, a)",
		"CREATE TABLE d.log (a Int32) ENGINE = Log",
		"CREATE TABLE d.tiny (a Int32) ENGINE = TinyLog",
		"CREATE VIEW d.v AS SELECT a FROM d.t",
		"CREATE MATERIALIZED VIEW d.m TO d.aggregating AS SELECT a, countState() AS n FROM d.t GROUP BY a",
		"CREATE MATERIALIZED VIEW d.own ENGINE = MergeTree ORDER BY a AS SELECT a FROM d.t",
		"CREATE TEMPORARY TABLE x (a Int8)",
		"CREATE OR REPLACE TABLE d.summing (a Int32) ENGINE = SummingMergeTree ORDER BY a",
		"INSERT INTO d.t SELECT number, now() FROM numbers(10)",
		"INSERT INTO d.t VALUES (1, now())",
		"INSERT INTO FUNCTION null('a Int8') VALUES (1)",
		"SELECT countMerge(n) FROM d.aggregating",
		"SELECT * FROM d.v AS v, d.own AS o, merge('d', '^own$') AS m, values('a Int8', 1) AS c LIMIT 1",
		"SELECT * FROM generateRandom('a Int8') LIMIT 1",
		"SELECT count() FROM system.tables",
		"SELECT count() FROM system.columns",
		"SELECT count() FROM system.parts",
		"SELECT count() FROM system.processes",
		"SELECT count() FROM system.metrics",
		"SELECT count() FROM information_schema.tables",
		"SELECT hostName(), version(), timezone(), currentUser()",
		"SHOW DATABASES",
		"SHOW CREATE TABLE d.t",
		"DESCRIBE d.t",
		"EXPLAIN SELECT * FROM d.t",
		"ALTER TABLE d.t ADD COLUMN b String",
		"ALTER TABLE d.t MODIFY TTL at + INTERVAL 2 DAY",
		"ALTER TABLE d.t DELETE WHERE a = 1 SETTINGS mutations_sync = 1",
		"ALTER TABLE d.t DROP PARTITION ID 'none'",
		"DELETE FROM d.t WHERE a = 2",
		"OPTIMIZE TABLE d.t FINAL",
		"CHECK TABLE d.t",
		"DETACH TABLE d.t",
		"ATTACH TABLE d.t",
		"EXCHANGE TABLES d.log AND d.memory",
		"RENAME TABLE d.t TO e.t",
		"TRUNCATE TABLE e.t",
		"KILL QUERY WHERE 0",
		"SET max_threads = 1",
		"DROP TABLE e.t SYNC",
		"DROP DATABASE d SYNC",
		"DROP DATABASE e SYNC",
	} {
		if a := ask(t, e, http.MethodPost, query); a.status != http.StatusOK {
			t.Errorf("%s: status %d, %s", query, a.status, a.body)
		}
	}
}
