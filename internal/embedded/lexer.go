package embedded

import (
	"strings"
	"unicode/utf8"
)

type tokenKind int

const (
	tokenEnd    tokenKind = iota
	tokenWord             // a keyword or a bare name
	tokenName             // a name in quotes
	tokenString           // also a heredoc
	tokenNumber
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

// scanner splits text into tokens where ClickHouse's lexer does (src/Parsers/Lexer.cpp), so that what it takes
// for a comment or a string is one to the engine, too. A test compares the two on random texts. It differs in
// two things that have no such effect: operators of several characters are one token for each byte, and where
// the engine finds an error, which ends the query, it goes on.
type scanner struct {
	text string
	at   int

	// What a dot or a digit begins depends on the token before it: x.1.1 is not x and 1.1.
	afterDot, afterValue bool
}

func (s *scanner) peek() token {
	ahead := *s
	return ahead.next()
}

func (s *scanner) next() token {
	s.skipBlanks()
	start, kind := s.at, tokenEnd
	if start < len(s.text) {
		kind = s.skipToken()
	}
	t := token{kind: kind, text: s.text[start:s.at], start: start, end: s.at}
	s.afterDot = t.text == "." && kind == tokenOther
	s.afterValue = kind == tokenWord || kind == tokenName || kind == tokenNumber || t.text == ")" || t.text == "]"
	return t
}

func (s *scanner) skipToken() tokenKind {
	rest := s.text[s.at:]
	switch c := rest[0]; {
	case isDigit(c):
		return s.skipNumber()
	case c == '.' && s.at > 0 && (s.afterValue || len(rest) == 1 || !isDigit(rest[1])):
		s.at++
		return tokenOther
	case c == '.':
		s.at++
		s.skipDigits(isDigit, true)
		s.skipExponent("eE")
		return tokenNumber
	case c == '\'':
		s.skipQuoted(c)
		return tokenString
	case c == '"' || c == '`':
		s.skipQuoted(c)
		return tokenName
	case strings.HasPrefix(rest, "‘") && len(rest) > 5: // quotes that know no escapes
		s.skipPast("’", 3)
		return tokenString
	case strings.HasPrefix(rest, "“") && len(rest) > 5:
		s.skipPast("”", 3)
		return tokenName
	case c == '$' && s.skipHeredoc():
		return tokenString
	case len(rest) > 2 && rest[1] == '\'' && strings.IndexByte("xXbB", c) >= 0:
		s.skipBytes()
		return tokenString
	case strings.HasPrefix(rest, `\G`): // ends a statement in the client
		s.at += 2
		return tokenOther
	case isWordByte(c) || c == '$' && len(rest) > 1 && isWordByte(rest[1]):
		for s.at < len(s.text) && (isWordByte(s.text[s.at]) || s.text[s.at] == '$') {
			s.at++
		}
		return tokenWord
	}
	s.at++
	switch {
	case strings.IndexByte("([{", rest[0]) >= 0:
		return tokenOpen
	case strings.IndexByte(")]}", rest[0]) >= 0:
		return tokenClose
	}
	return tokenOther
}

// skipBlanks moves past white space and comments: -- and // and, before a blank or !, #, to the end of the
// line, and /* */, which nest.
func (s *scanner) skipBlanks() {
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		switch {
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			s.skipPast("\n", 2)
		case strings.HasPrefix(rest, "/*"):
			s.skipComment()
		default:
			r, size := utf8.DecodeRuneInString(rest)
			if !isBlank(r) {
				return
			}
			s.at += size
		}
	}
}

func (s *scanner) skipComment() {
	for depth := 0; s.at < len(s.text); {
		switch rest := s.text[s.at:]; {
		case strings.HasPrefix(rest, "/*"):
			s.at += 2
			depth++
		case strings.HasPrefix(rest, "*/"):
			s.at += 2
			if depth--; depth == 0 {
				return
			}
		default:
			s.at++
		}
	}
}

// skipQuoted moves past a quoted token. A backslash escapes the next byte; a doubled quote stands for itself.
func (s *scanner) skipQuoted(quote byte) {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case quote:
			s.at++
			if s.at == len(s.text) || s.text[s.at] != quote {
				return
			}
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

// skipBytes moves past a string of bytes in hexadecimal or binary, x'4f' or b'01'.
func (s *scanner) skipBytes() {
	valid := isHexDigit
	if c := s.text[s.at]; c == 'b' || c == 'B' {
		valid = func(c byte) bool { return c == '0' || c == '1' }
	}
	for s.at += 2; s.at < len(s.text) && valid(s.text[s.at]); s.at++ {
		continue
	}
	if s.at < len(s.text) && s.text[s.at] == '\'' {
		s.at++
	} else {
		s.at = len(s.text)
	}
}

// skipNumber moves past a number that begins with a digit, or a word that does.
func (s *scanner) skipNumber() tokenKind {
	start := s.at
	if s.afterDot { // a tuple's element
		s.skipDigits(isDigit, false)
	} else {
		digit, exponent, first := isDigit, "eE", false
		if rest := s.text[s.at:]; len(rest) > 2 && rest[0] == '0' {
			switch hex := rest[1] == 'x' || rest[1] == 'X'; {
			case hex && isHexDigit(rest[2]):
				digit, exponent, first = isHexDigit, "pP", true
				s.at += 2
			case (rest[1] == 'b' || rest[1] == 'B') && (rest[2] == '0' || rest[2] == '1'):
				first = true
				s.at += 2
			}
		}
		s.skipDigits(digit, first)
		if s.at < len(s.text) && s.text[s.at] == '.' {
			s.at++
			s.skipDigits(digit, true)
		}
		s.skipExponent(exponent)
	}
	if s.at == len(s.text) || !isWordByte(s.text[s.at]) {
		return tokenNumber
	}
	for s.at < len(s.text) && isWordByte(s.text[s.at]) {
		s.at++
	}
	for i := start; i < s.at; i++ {
		if !isWordByte(s.text[i]) {
			return tokenOther // an error to the engine
		}
	}
	return tokenWord
}

// skipDigits moves past digits and underscores between them. first says that none of the group went before.
func (s *scanner) skipDigits(digit func(byte) bool, first bool) {
	for ; s.at < len(s.text); s.at++ {
		c := s.text[s.at]
		between := c == '_' && !first && s.at+1 < len(s.text) && digit(s.text[s.at+1])
		if !digit(c) && !between {
			return
		}
		first = false
	}
}

// skipExponent moves past an exponent, of which the engine wants neither digits nor, at the end, the sign.
func (s *scanner) skipExponent(letters string) {
	if s.at+1 >= len(s.text) || strings.IndexByte(letters, s.text[s.at]) < 0 {
		return
	}
	s.at++
	if s.at+1 < len(s.text) && (s.text[s.at] == '-' || s.text[s.at] == '+') {
		s.at++
	}
	s.skipDigits(isDigit, true)
}

// skipPast moves past the next mark that begins at least from bytes ahead, or to the end.
func (s *scanner) skipPast(mark string, from int) {
	if i := strings.Index(s.text[s.at+from:], mark); i >= 0 {
		s.at += from + i + len(mark)
	} else {
		s.at = len(s.text)
	}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHexDigit(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

func isWordByte(c byte) bool { return c == '_' || isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'z' }

// isBlank is ClickHouse's idea of white space (skipWhitespacesUTF8), which is not Unicode's.
func isBlank(r rune) bool {
	switch r {
	case ' ', '\t', '\n', '\r', '\f', '\v', 0x85, 0xa0, 0x180e, 0x2028, 0x2029, 0x202f, 0x205f, 0x2060, 0x3000, 0xfeff:
		return true
	}
	return r >= 0x2000 && r <= 0x200d
}
