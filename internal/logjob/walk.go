package logjob

import "bytes"

// The functions of this file walk values of a Record: their JSON is valid and has
// no white space, so nothing is checked again.

// anyAt reports whether test is true of what names lead to in value. On the way and
// at the end, of a list any element will do; null is nothing. Of a repeated member the
// last counts.
func anyAt(value []byte, names []string, test func([]byte) bool) bool {
	switch {
	case value[0] == '[':
		for at := 1; value[at] != ']'; {
			end := skip(value, at)
			if anyAt(value[at:end], names, test) {
				return true
			}
			at = comma(value, end)
		}
		return false
	case len(names) == 0:
		return value[0] != 'n' && test(value)
	case value[0] != '{':
		return false
	}
	var found []byte
	for at := 1; value[at] != '}'; {
		colon := skipString(value, at)
		end := skip(value, colon+1)
		if isName(value[at+1:colon-1], names[0]) {
			found = value[colon+1 : end]
		}
		at = comma(value, end)
	}
	return found != nil && anyAt(found, names[1:], test)
}

func isName(text []byte, name string) bool {
	return string(text) == name ||
		bytes.IndexByte(text, '\\') >= 0 && string(appendUnescaped(nil, text)) == name
}

// comma returns the place after the comma at a value's end, if there is one.
func comma(data []byte, at int) int {
	if data[at] == ',' {
		at++
	}
	return at
}

// skip returns the end of the value that begins at data[at].
func skip(data []byte, at int) int {
	depth := 0
	for at < len(data) {
		switch data[at] {
		case '"':
			at = skipString(data, at)
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		case ',', ':':
			at++
			continue // a value follows
		default: // a number or a word
			for at < len(data) && data[at] != ',' && data[at] != '}' && data[at] != ']' {
				at++
			}
		}
		if depth == 0 {
			break
		}
	}
	return at
}

// skipString returns the end of the string whose first quote is data[at].
func skipString(data []byte, at int) int {
	for at++; ; at++ {
		at += bytes.IndexByte(data[at:], '"')
		backslashes := 0
		for data[at-1-backslashes] == '\\' {
			backslashes++
		}
		if backslashes%2 == 0 {
			return at + 1
		}
	}
}
