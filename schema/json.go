package schema

import (
	"bytes"
	"encoding/json"
	"strconv"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD, as encoding/json writes them; '<', '>' and '&' are left alone, because
// no event ends up inside HTML.
func AppendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		if i += plainBytes(s[i:]); i == len(s) {
			break
		}
		c := s[i]
		if c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			b = append(b, s[start:i]...)
			b = appendEscaped(b, c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size == 1 {
			b = append(b, s[start:i]...)
			b = append(b, "\uFFFD"...)
			i++
			start = i
			continue
		}
		i += size
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// plainBytes returns how many bytes, in words of eight, s begins with that are themselves in a
// JSON string. The last word may overlap the one before it. Subtracting sets the top bit of
// a byte that is smaller, or 0; those that had it set before are masked.
func plainBytes(s string) (n int) {
	const each, top = 0x0101010101010101, 0x8080808080808080
	for n < len(s) && len(s) >= 8 {
		at := min(n, len(s)-8)
		w := s[at : at+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		quote, escape := x^each*'"', x^each*'\\' // are 0 where there was one
		if ((x-each*' ')|(quote-each)&^quote|(escape-each)&^escape|x)&top != 0 {
			break
		}
		n = at + 8
	}
	return n
}

func appendEscaped(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
}

// appendMember appends a literal prefix that ends in the member's name and colon, then s.
func appendMember(b []byte, prefix, s string) []byte {
	b = append(b, prefix...)
	if s == "" {
		return append(b, '"', '"')
	}
	return AppendString(b, s)
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

// appendFloat appends f in its shortest form, without an exponent.
func appendFloat(b []byte, f float64) []byte {
	n := int64(f * 1000)
	if f < 0 || f >= 1e9 || float64(n)/1000 != f {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	// Fast path - so many digits are enough to name a number, so the shortest form is the
	// one with three of them after the point, less zeros at the end.
	b = strconv.AppendInt(b, n/1000, 10)
	if n %= 1000; n == 0 {
		return b
	}
	b = append(b, '.', byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
	for b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	return b
}

func appendList[T any](b []byte, list []T, item func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = item(b, v)
	}
	return append(b, ']')
}

func appendException(b []byte, e Exception) []byte {
	b = appendMember(b, `{"Name":`, e.Name)
	b = appendMember(b, `,"Message":`, e.Message)
	b = append(b, `,"TimestampMs":`...)
	b = appendInt(b, e.TimestampMs)
	if e.Stack != "" {
		b = appendMember(b, `,"Stack":`, e.Stack)
	}
	return append(b, '}')
}

func appendLog(b []byte, l Log) []byte {
	b = appendMember(b, `{"Level":`, l.Level)
	b = append(b, `,"Message":`...)
	b = appendList(b, l.Message, AppendRaw)
	b = append(b, `,"TimestampMs":`...)
	b = appendInt(b, l.TimestampMs)
	return append(b, '}')
}

// AppendRaw appends JSON on one line. What is no valid JSON becomes a string of
// the same bytes: one argument of a Worker's console call must neither break the
// event around it nor get lost.
func AppendRaw(b []byte, raw json.RawMessage) []byte {
	line := bytes.NewBuffer(b)
	if err := json.Compact(line, raw); err != nil {
		return AppendString(b, string(raw))
	}
	return line.Bytes()
}
