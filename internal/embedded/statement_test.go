package embedded

import (
	"strings"
	"testing"
)

func TestParseStatementFindsTheRowsOfAnInsert(t *testing.T) {
	f := func(text, head, format, rows string) {
		t.Helper()
		st := parseStatement(text)
		if !st.insert || st.head != head || st.format != format || text[st.data:] != rows {
			t.Errorf("%q: got insert=%t head=%q format=%q rows=%q", text, st.insert, st.head, st.format, text[st.data:])
		}
	}
	f("INSERT INTO t FORMAT CSV\n1,2\n", "INSERT INTO t ", "CSV", "1,2\n")
	f("insert into t format Native\n\n\x00\x01", "insert into t ", "Native", "\n\x00\x01")
	f("INSERT INTO t FORMAT CSV ; \r\n1", "INSERT INTO t ", "CSV", "1")
	f("INSERT INTO t FORMAT JSONEachRow {\"a\":1}", "INSERT INTO t ", "JSONEachRow", "{\"a\":1}")
	f("INSERT INTO t VALUES (1, 'FORMAT')", "INSERT INTO t ", "Values", " (1, 'FORMAT')")
	f("INSERT INTO t(a,b)VALUES(1)", "INSERT INTO t(a,b)", "Values", "(1)")
	f("INSERT INTO d.t (a, `format`) SETTINGS x = 'FORMAT y', y = 2 FORMAT CSV\n", "INSERT INTO d.t (a, `format`) SETTINGS x = 'FORMAT y', y = 2 ", "CSV", "")
	f("INSERT INTO values VALUES (1)", "INSERT INTO values ", "Values", " (1)")
	f("INSERT INTO format.values FORMAT CSV\n1", "INSERT INTO format.values ", "CSV", "1")
	f("INSERT INTO `a``b\\`c` FORMAT CSV\n1", "INSERT INTO `a``b\\`c` ", "CSV", "1")
	f("INSERT t FORMAT CSV\n1", "INSERT t ", "CSV", "1")
	f("INSERT INTO TABLE FUNCTION null('a String') FORMAT CSV\n1", "INSERT INTO TABLE FUNCTION null('a String') ", "CSV", "1")
	f("INSERT INTO {t:Identifier} FORMAT CSV\n1", "INSERT INTO {t:Identifier} ", "CSV", "1")
	f("-- SELECT\n/* x */ # y\nINSERT INTO t /* FORMAT TSV */ -- VALUES\nFORMAT CSV\n1", "-- SELECT\n/* x */ # y\nINSERT INTO t /* FORMAT TSV */ -- VALUES\n", "CSV", "1")
	f("INSERT INTO t // FORMAT TSV (\nFORMAT CSV\n1", "INSERT INTO t // FORMAT TSV (\n", "CSV", "1")
	f("INSERT INTO t /* /* */ FORMAT TSV */ FORMAT CSV\n1", "INSERT INTO t /* /* */ FORMAT TSV */ ", "CSV", "1")
	f("INSERT INTO t (“a'”) FORMAT CSV\n1", "INSERT INTO t (“a'”) ", "CSV", "1")
	f("INSERT INTO “values” VALUES (‘)’)", "INSERT INTO “values” ", "Values", " (‘)’)")
	f("INSERT INTO t SETTINGS a = ‘ FORMAT TSV ’ FORMAT CSV\n1", "INSERT INTO t SETTINGS a = ‘ FORMAT TSV ’ ", "CSV", "1")
	f("INSERT INTO t$x$ FORMAT CSV\n$x$ FORMAT TSV", "INSERT INTO t$x$ ", "CSV", "$x$ FORMAT TSV")
	f("INSERT INTO t\u3000FORMAT CSV\n1", "INSERT INTO t\u3000", "CSV", "1")
	f("INSERT INTO t SETTINGS a = $x$ FORMAT '$x$ FORMAT CSV\n1", "INSERT INTO t SETTINGS a = $x$ FORMAT '$x$ ", "CSV", "1")
}

func TestParseStatementLeavesOthersWhole(t *testing.T) {
	f := func(text, format string, file bool) {
		t.Helper()
		if got, want := parseStatement(text), (statement{format: format, file: file, reads: strings.HasPrefix(text, "SELECT")}); got != want {
			t.Errorf("%q: got %+v, want %+v", text, got, want)
		}
	}
	f("SELECT 1", "", false)
	f("SELECT 1 FORMAT JSON", "JSON", false)
	f("SELECT 1 format JSON;", "JSON", false)
	f("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON", false)
	f("SELECT (SELECT 1 FORMAT JSON)", "", false)
	f("SELECT format FROM t", "", false)
	f("SELECT format f FROM t", "", false)
	f("SELECT ' FORMAT CSV'", "", false)
	f("SELECT 1 -- FORMAT CSV", "", false)
	f("INSERT INTO t SELECT 1", "", false)
	f("INSERT INTO t (a) SELECT 'VALUES' FORMAT CSV", "CSV", false)
	f("INSERT INTO t WITH x AS (SELECT 1) SELECT * FROM x", "", false)
	f("INSERT INTO t (SELECT 1)", "", false)
	f("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "", false)
	f("SELECT 1 INTO OUTFILE 'x' FORMAT CSV", "CSV", true)
	f("(SELECT 1 INTO OUTFILE 'x')", "", true)
	f("SELECT 1 // '\n INTO OUTFILE 'x'", "", true)
	f("SELECT 1 // (\n INTO OUTFILE 'x'", "", true)
	f("SELECT ‘(’ INTO OUTFILE 'x'", "", true)
	f("SELECT ‘it''s\\’ INTO OUTFILE 'x'", "", true)
	f("SELECT 1 AS “'” INTO OUTFILE 'x'", "", true)
	f("SELECT 1 /* /* */ ( */ INTO OUTFILE 'x'", "", true)
	f("SELECT 1 /* /* */ ' */ INTO OUTFILE 'x'", "", true)
	f("SELECT 1 AS a$b$ INTO OUTFILE 'x' -- $b$", "", true)
	f("SELECT 1 AS 1e5e-- '\n INTO OUTFILE 'x'", "", true)
	f("SELECT (1 AS a, 2 AS b).1e-- '\n INTO OUTFILE 'x'", "", true)
	f("SELECT 1 INTO\u00a0/* */// x\n\u2060OUTFILE 'x'", "", true)
	f("SELECT 1 // INTO OUTFILE 'x'", "", false)
	f("SELECT 1 /* /* */ INTO OUTFILE 'x' */", "", false)
	f("SELECT ‘ INTO OUTFILE ’", "", false)
	f("SELECT 'unclosed", "", false)
	f("/* unclosed", "", false)
	f("", "", false)

	if st := parseStatement("INSERT INTO t FROM INFILE 'x' FORMAT CSV"); !st.file {
		t.Errorf("INFILE: got %+v", st)
	}
}

func TestParseStatementTellsWhatItMayWrite(t *testing.T) {
	f := func(text string, reads, alters bool) {
		t.Helper()
		got := parseStatement(text)
		equal(t, text+": reads", got.reads, reads)
		equal(t, text+": alters", got.alters, alters)
	}
	f("-- ALTER\nselect 1", true, false)
	f("WITH 1 AS a SELECT a", false, false) // or INSERT
	f("INSERT INTO t SELECT 1", false, false)
	f("OPTIMIZE TABLE t", false, false)
	f("alter TABLE t DELETE WHERE 1", false, true)
	f("/* SELECT */ CREATE TABLE t (a Int8) ENGINE = Memory", false, true)
	f("DELETE FROM t WHERE 1", false, true)
	f("REPLACE TABLE t (a Int8) ENGINE = Memory", false, true)
	f("DETACH TABLE t PERMANENTLY", false, true) // a file tells
	f("UNDROP TABLE t", false, true)
	f("DROP TABLE t", false, false) // makes room
}

// Whatever the text, the parts that are handed on are parts of it: nothing is lost between the statement and
// its rows but the format's name and one line break.
func FuzzParseStatement(f *testing.F) {
	f.Add("INSERT INTO t (a) SETTINGS b = 'c' FORMAT CSV\n1,2")
	f.Add("INSERT INTO `x`.y VALUES (1, $a$b$a$), ('\\'')")
	f.Add("SELECT \"a\" FROM b WHERE c = ')' -- FORMAT x\n FORMAT JSON;")
	f.Add("/* a */ INSERT # b\n INTO FUNCTION f(1, [2], {3:String}) FORMAT Native \r\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		st := parseStatement(text)
		if !st.insert {
			if st.head != "" || st.data != 0 {
				t.Fatalf("%q: not an insert, but %+v", text, st)
			}
			return
		}
		if !strings.HasPrefix(text, st.head) || st.data < len(st.head) || st.data > len(text) {
			t.Fatalf("%q: %+v", text, st)
		}
		// What is handed to the engine is an INSERT that has no rows and names no format.
		if again := parseStatement(st.head); again.insert || again.format != "" {
			t.Fatalf("%q: the statement %q is not its own: %+v", text, st.head, again)
		}
	})
}
