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
	return AppendString(b, s)
}

func appendInt(b []byte, n int64) []byte { return strconv.AppendInt(b, n, 10) }

func appendFloat(b []byte, f float64) []byte { return strconv.AppendFloat(b, f, 'f', -1, 64) }

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
