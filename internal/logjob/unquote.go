package logjob

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Unquote returns the text of a valid JSON string, and false for any other value.
// It copies only where the string has escapes.
func Unquote(raw []byte) ([]byte, bool) {
	text, escaped, ok := inside(raw)
	if ok && escaped {
		text = appendUnescaped(nil, text)
	}
	return text, ok
}

// inside returns what is between the quotes of a valid JSON string, whether it
// has escapes, and false for any other value.
func inside(raw []byte) (text []byte, escaped, ok bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return nil, false, false
	}
	text = raw[1 : len(raw)-1]
	return text, bytes.IndexByte(text, '\\') >= 0, true
}

// appendUnescaped appends what the inside of a valid JSON string stands for. Half
// of a surrogate pair becomes U+FFFD, as in encoding/json.
func appendUnescaped(b, text []byte) []byte {
	for {
		i := bytes.IndexByte(text, '\\')
		if i < 0 {
			return append(b, text...)
		}
		b = append(b, text[:i]...)
		c := text[i+1]
		text = text[i+2:]
		switch c {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r := hexRune(text)
			text = text[4:]
			if utf16.IsSurrogate(r) {
				if pair := secondHalf(r, text); pair != utf8.RuneError {
					r, text = pair, text[6:]
				}
			}
			b = utf8.AppendRune(b, r)
			continue
		}
		b = append(b, c)
	}
}

func secondHalf(first rune, text []byte) rune {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return utf8.RuneError
	}
	return utf16.DecodeRune(first, hexRune(text[2:]))
}

// hexRune reads four hexadecimal digits, which a scanner has seen.
func hexRune(text []byte) rune {
	n, _ := strconv.ParseUint(string(text[:4]), 16, 16)
	return rune(n)
}
