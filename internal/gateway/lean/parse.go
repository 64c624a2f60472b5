package lean

import (
	"bytes"

	"tidegate/internal/lines"
)

// span is a part of a buffer, counted from the start of a request.
type span struct{ from, to int }

type field struct{ name, value span }

// head is a request's header as far as it has been read. Its parser accepts less
// than RFC 9112 allows: one spelling of everything, so that no other reader, ours or
// a version's, can see another message in the same bytes. What it does not accept
// it does not judge either: that is for net/http.
type head struct {
	next   int  // where the next line begins; after the end, the length of the header
	done   bool // the header is complete
	method span
	target span
	host   span
	fields []field // less Host
	length int64   // of the body
	close  bool    // the client wants the connection to end

	lengthSeen, connectionSeen, plainPath bool
	// special says that there is a field with a meaning for more than the version.
	special bool
}

func (h *head) reset() {
	fields := h.fields[:0]
	*h = head{fields: fields}
}

// advance reads the complete lines of b, which is all there is of a request, and writes the
// names of fields there in their canonical form.
// It reports whether the header is complete, or why it is not for us: as soon as a
// line shows it, because net/http would answer that line before the next one. Asked again
// without more bytes it gives the same answer.
func (h *head) advance(b []byte) (done bool, why reason) {
	for !h.done {
		rest := b[h.next:]
		if h.next == 0 && len(rest) > 0 && !isUpper(rest[0]) {
			return false, reasonLine // no request begins like that
		}
		i := bytes.IndexByte(rest, '\n')
		if i < 0 {
			return false, reasonNone
		}
		if i == 0 || rest[i-1] != '\r' {
			return false, reasonField // a bare LF
		}
		line, from := rest[:i-1], h.next
		switch {
		case from == 0:
			why = h.requestLine(line)
		case len(line) > 0:
			why = h.fieldLine(line, from)
		case h.host == span{}:
			why = reasonField
		default:
			h.done = true
		}
		if why != reasonNone {
			return false, why
		}
		h.next += i + 1
	}
	return true, reasonNone
}

const (
	lineEnd     = " HTTP/1.1"
	prefaceLine = "PRI * HTTP/2.0" // of HTTP/2 (RFC 9113, section 3.4)
)

// requestLine accepts a method in capitals, a path, and this version of the protocol.
func (h *head) requestLine(line []byte) reason {
	if string(line) == prefaceLine {
		return reasonHTTP2
	}
	i := 0
	for i < len(line) && isUpper(line[i]) {
		i++
	}
	end := len(line) - len(lineEnd)
	if i == 0 || end <= i+1 || line[i] != ' ' || line[i+1] != '/' || string(line[end:]) != lineEnd || string(line[:i]) == "CONNECT" {
		return reasonLine
	}
	h.method, h.target = span{0, i}, span{i + 1, end}
	h.plainPath = true
	path := true
	for _, c := range line[i+1 : end] {
		switch kind := targetKind[c]; {
		case kind == noTarget:
			return reasonLine
		case c == '?':
			path = false
		case kind == escapedInPath && path:
			h.plainPath = false
		}
	}
	return reasonNone
}

// fieldLine accepts a token, a colon, and a value of visible ASCII with blanks
// within. A folded line begins with a blank, which is no token.
func (h *head) fieldLine(line []byte, from int) reason {
	i := lines.CanonicalName(line)
	if i == 0 || i == len(line) || line[i] != ':' {
		return reasonField
	}
	start, end := i+1, len(line)
	for start < end && isBlank(line[start]) {
		start++
	}
	for end > start && isBlank(line[end-1]) {
		end--
	}
	name, value := line[:i], line[start:end]
	if len(value) == 0 || !lines.PlainValue(value) {
		return reasonField
	}
	at := span{from + start, from + end}
	if string(name) == "Host" {
		return h.setHost(value, at)
	}
	if why := h.meaning(name, value); why != reasonNone {
		return why
	}
	h.fields = append(h.fields, field{span{from, from + i}, at})
	return reasonNone
}

// meaning looks at the fields that say how the message or the connection goes on.
func (h *head) meaning(name, value []byte) reason {
	switch string(name) {
	case "Expect", "Trailer", "Transfer-Encoding":
		return reasonFraming
	case "Upgrade", "Http2-Settings":
		return reasonUpgrade
	case "Connection":
		return h.setConnection(value)
	case "Content-Length":
		return h.setLength(value)
	case "Te", "Pragma":
		h.special = true
	}
	return reasonNone
}

// setHost accepts a name or an address, with a port or not.
func (h *head) setHost(value []byte, at span) reason {
	if h.host != (span{}) {
		return reasonField
	}
	for _, c := range value {
		if !isAlnum(c) && c != '.' && c != '-' && c != ':' && c != '_' && c != '[' && c != ']' {
			return reasonField
		}
	}
	h.host = at
	return reasonNone
}

func (h *head) setConnection(value []byte) reason {
	if h.connectionSeen {
		return reasonUpgrade
	}
	h.connectionSeen = true
	switch {
	case isNamed(value, "close"):
		h.close = true
	case !isNamed(value, "keep-alive"):
		return reasonUpgrade
	}
	return reasonNone
}

// lengthDigitsMax keeps a length within an int64.
const lengthDigitsMax = 18

// setLength accepts one number without a sign or zeros in front.
func (h *head) setLength(value []byte) reason {
	if h.lengthSeen || len(value) > lengthDigitsMax || len(value) > 1 && value[0] == '0' {
		return reasonFraming
	}
	h.lengthSeen = true
	for _, c := range value {
		if c < '0' || c > '9' {
			return reasonFraming
		}
		h.length = h.length*10 + int64(c-'0')
	}
	return reasonNone
}

// isNamed compares with a name in lower case, as field names are compared.
func isNamed(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isBlank(c byte) bool { return c == ' ' || c == '\t' }
func isAlnum(c byte) bool { return 'a' <= c && c <= 'z' || isUpper(c) || '0' <= c && c <= '9' }

// isToken has the characters of a token (RFC 9110, section 5.6.2).
var isToken = tableOf("!#$%&'*+-.^_`|~")

// Kinds of characters in a target.
const (
	noTarget      = iota // RFC 3986 has it not, and readers differ about it
	asIs                 // a path means it as it is
	escapedInPath        // net/url has its own ideas about it in a path
)

var targetKind = func() (kinds [256]uint8) {
	for c, ok := range tableOf("-._~/$&+,:;=@?") {
		if ok {
			kinds[c] = asIs
		}
	}
	for _, c := range "%!*'()" {
		kinds[c] = escapedInPath
	}
	return kinds
}()

func tableOf(others string) (table [256]bool) {
	for c := range 256 {
		table[c] = isAlnum(byte(c)) || bytes.IndexByte([]byte(others), byte(c)) >= 0
	}
	return table
}
