package embedded

import (
	"slices"
	"strings"
)

// statement is the little that has to be known of a query's text before the engine parses it: where the rows
// of an INSERT begin, because the engine takes them apart from the statement, and which format was named.
type statement struct {
	insert bool   // an INSERT whose rows are in format and begin at data
	head   string // of an insert: the text before FORMAT or VALUES
	data   int    // of an insert: the offset of the first byte of rows
	format string // named by FORMAT or VALUES; "" if none is
	file   bool   // INTO OUTFILE or FROM INFILE: files of this machine
	reads  bool   // a SELECT, which writes nothing
	alters bool   // what a table is, which the engine writes down in small files
}

// parseStatement reads text up to the rows of an INSERT, or to its end. It accepts more than SQL; what it
// hands on as the statement is parsed by the engine, which refuses the rest.
func parseStatement(text string) statement {
	s := scanner{text: text}
	first := s.next()
	insert := first.is("INSERT")
	reads := first.is("SELECT")
	alters := slices.ContainsFunc([]string{"CREATE", "REPLACE", "ALTER", "RENAME", "EXCHANGE", "ATTACH", "DETACH", "UNDROP", "UPDATE", "DELETE"}, first.is)
	if insert {
		first = s.skipTarget()
	} else {
		first = s.next()
	}

	st := statement{reads: reads, alters: alters}
	depth := 0
	for t := first; t.kind != tokenEnd; t = s.next() {
		switch {
		case t.kind == tokenOpen:
			depth++
		case t.kind == tokenClose:
			depth--
		case t.is("INTO") && s.peek().is("OUTFILE"), t.is("FROM") && s.peek().is("INFILE"):
			st.file = true
		case depth != 0:
		case t.is("SELECT"), t.is("WITH"):
			insert = false // rows come from a query; WITH before INSERT is one, too
		case insert && t.is("VALUES"):
			return statement{insert: true, head: text[:t.start], data: t.end, format: "Values", file: st.file}
		case t.is("FORMAT"):
			name := s.peek()
			if name.kind != tokenWord {
				continue
			}
			if insert {
				return statement{insert: true, head: text[:t.start], data: skipToRows(text, name.end), format: name.text, file: st.file}
			}
			// "SELECT format x FROM t" names a column: a format ends the query or goes before its settings.
			after := s
			after.next()
			if end := after.next(); end.kind == tokenEnd || end.text == ";" || end.is("SETTINGS") {
				st.format = name.text
			}
		}
	}
	return st
}

// skipTarget reads past what an INSERT writes to, whose name may be any word, and returns the token after it.
func (s *scanner) skipTarget() token {
	t := s.next()
	for _, word := range []string{"INTO", "TABLE", "FUNCTION"} {
		if t.is(word) {
			t = s.next()
		}
	}
	for t.kind == tokenWord || t.kind == tokenName {
		t = s.next()
		if t.text != "." {
			break
		}
		t = s.next()
	}
	return t
}

// skipToRows returns where rows begin after the name of their format: past blanks, one semicolon and one
// line break, as the engine's own parser has it. Further line breaks belong to the rows.
func skipToRows(text string, at int) int {
	blanks := func() {
		for at < len(text) && strings.IndexByte(" \t\f\v", text[at]) >= 0 {
			at++
		}
	}
	blanks()
	if strings.HasPrefix(text[at:], ";") {
		at++
		blanks()
	}
	if strings.HasPrefix(text[at:], "\r\n") {
		return at + 2
	}
	if strings.HasPrefix(text[at:], "\n") {
		return at + 1
	}
	return at
}
