package embedded

import "strings"

// statement is the little that has to be known of a query's text before the engine parses it: where the rows
// of an INSERT begin, because the engine takes them apart from the statement, and which format was named.
type statement struct {
	insert bool   // an INSERT whose rows are in format and begin at data
	head   string // of an insert: the text before FORMAT or VALUES
	data   int    // of an insert: the offset of the first byte of rows
	format string // named by FORMAT or VALUES; "" if none is
	file   bool   // INTO OUTFILE or FROM INFILE: files of this machine
}

// parseStatement reads text up to the rows of an INSERT, or to its end. It accepts more than SQL; what it
// hands on as the statement is parsed by the engine, which refuses the rest.
func parseStatement(text string) statement {
	s := scanner{text: text}
	first := s.next()
	insert := first.is("INSERT")
	if insert {
		first = s.skipTarget()
	} else {
		first = s.next()
	}

	var st statement
	depth := 0
	for t := first; t.kind != tokenEnd; t = s.next() {
		switch {
		case t.kind == tokenOpen:
			depth++
		case t.kind == tokenClose:
			depth--
		case depth != 0:
		case t.is("INTO") && s.peek().is("OUTFILE"), t.is("FROM") && s.peek().is("INFILE"):
			st.file = true
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
	for t.kind == tokenWord || t.kind == tokenQuoted {
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

type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenQuoted
	tokenOpen  // ( [ {
	tokenClose // ) ] }
	tokenOther // any other single byte
)

type token struct {
	kind       tokenKind
	text       string
	start, end int
}

// is reports whether t is the keyword, in any case.
func (t token) is(keyword string) bool {
	return t.kind == tokenWord && strings.EqualFold(t.text, keyword)
}

// scanner splits text into tokens as ClickHouse's lexer does, as far as quotes, comments and brackets go.
type scanner struct {
	text string
	at   int
}

func (s *scanner) peek() token {
	ahead := *s
	return ahead.next()
}

func (s *scanner) next() token {
	s.skipBlanks()
	start := s.at
	if start >= len(s.text) {
		return token{kind: tokenEnd, start: start, end: start}
	}
	kind := tokenOther
	switch c := s.text[start]; {
	case isWordByte(c):
		kind = tokenWord
		for s.at < len(s.text) && isWordByte(s.text[s.at]) {
			s.at++
		}
	case c == '\'' || c == '"' || c == '`':
		kind = tokenQuoted
		s.skipQuoted(c)
	case c == '$' && s.skipHeredoc():
		kind = tokenQuoted
	default:
		s.at++
		if strings.IndexByte("([{", c) >= 0 {
			kind = tokenOpen
		} else if strings.IndexByte(")]}", c) >= 0 {
			kind = tokenClose
		}
	}
	return token{kind: kind, text: s.text[start:s.at], start: start, end: s.at}
}

// skipBlanks moves past white space and comments: --, # followed by a blank or !, and /* */, which nest
// neither here nor in ClickHouse.
func (s *scanner) skipBlanks() {
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		switch {
		case strings.IndexByte(" \t\n\r\f\v\x00", rest[0]) >= 0:
			s.at++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			s.skipPast("\n", 2)
		case strings.HasPrefix(rest, "/*"):
			s.skipPast("*/", 2)
		default:
			return
		}
	}
}

// skipQuoted moves past a quoted token. A backslash escapes the next byte; a doubled quote reads as two
// quoted tokens in a row, which makes no difference here.
func (s *scanner) skipQuoted(quote byte) {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case quote:
			s.at++
			return
		}
	}
	s.at = len(s.text)
}

// skipHeredoc moves past $tag$ ... $tag$ and reports whether there was one.
func (s *scanner) skipHeredoc() bool {
	rest := s.text[s.at:]
	tagEnd := 1
	for tagEnd < len(rest) && isWordByte(rest[tagEnd]) {
		tagEnd++
	}
	if tagEnd >= len(rest) || rest[tagEnd] != '$' {
		return false
	}
	tag := rest[:tagEnd+1]
	if !strings.Contains(rest[len(tag):], tag) {
		return false
	}
	s.skipPast(tag, len(tag))
	return true
}

// skipPast moves past the next mark that begins at least from bytes ahead, or to the end.
func (s *scanner) skipPast(mark string, from int) {
	if i := strings.Index(s.text[s.at+from:], mark); i >= 0 {
		s.at += from + i + len(mark)
	} else {
		s.at = len(s.text)
	}
}

func isWordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
