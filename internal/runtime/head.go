package runtime

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// answer is a response and what belongs to it, in one piece of memory.
type answer struct {
	resp   http.Response
	body   responseBody
	values [12]string // of the header; most have no more
	coding [1]string  // resp.TransferEncoding
}

// framing says where a response's body ends (RFC 9112, section 6.3).
type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	untilClose
	byNetHTTP // a body of http.ReadResponse
)

// field is where a header field is in a head: its name up to colon, its value.
type field struct{ name, colon, value, end int }

// parseHead reads the head of a response, up to and with its empty line, if it is
// written as RFC 9112 wants it and holds nothing rare. What it makes of it is what
// http.ReadResponse would, which is there for all others: a head that it does not take
// may still be a good one. It writes names in canonical form into head.
func parseHead(head []byte, method string) *answer {
	a := &answer{}
	at := a.statusLine(head)
	if at == 0 {
		return nil
	}
	var most [16]field
	fields := most[:0]
	for head[at] != '\r' {
		f, next := parseField(head, at)
		if next == 0 {
			return nil
		}
		fields, at = append(fields, f), next
	}
	if at+2 != len(head) {
		return nil
	}
	text := string(head) // the one copy; all strings are parts of it
	a.resp.Status = text[len("HTTP/1.1 "):strings.IndexByte(text, '\r')]
	values := a.values[:]
	if len(fields) > len(values) {
		values = make([]string, len(fields))
	}
	header := make(http.Header, len(fields))
	for i, f := range fields {
		name, value := text[f.name:f.colon], text[f.value:f.end]
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		values[i] = value
		header[name] = values[i : i+1 : i+1]
	}
	a.resp.Header = header
	if !a.frame(method) {
		return nil
	}
	a.body.resp, a.resp.Body = &a.resp, &a.body
	return a
}

// statusLine returns where the header begins, or 0.
func (a *answer) statusLine(head []byte) int {
	end := bytes.IndexByte(head, '\n')
	if end < len("HTTP/1.1 200\r") || head[end-1] != '\r' {
		return 0
	}
	line := head[:end-1]
	switch string(line[:len("HTTP/1.1 ")]) {
	case "HTTP/1.1 ":
		a.resp.Proto, a.resp.ProtoMinor = "HTTP/1.1", 1
	case "HTTP/1.0 ":
		a.resp.Proto = "HTTP/1.0"
	default:
		return 0
	}
	a.resp.ProtoMajor = 1
	reason := line[len("HTTP/1.1 200"):]
	if len(reason) > 0 && reason[0] != ' ' || !validValue(reason) {
		return 0
	}
	for _, c := range line[len("HTTP/1.1 "):len("HTTP/1.1 200")] {
		if c < '0' || c > '9' {
			return 0
		}
		a.resp.StatusCode = a.resp.StatusCode*10 + int(c-'0')
	}
	if a.resp.StatusCode < 100 {
		return 0
	}
	return end + 1
}

// parseField reads the line that begins at i, and returns where the next one begins,
// or 0 if it is not a name, a colon and a value with nothing that does not belong
// there. Names become canonical as in net/http.
func parseField(head []byte, i int) (f field, next int) {
	f.name = i
	word := 1 // its first letter is upper case, the others are lower
	for ; head[i] != ':'; i++ {
		c := headerCase[word][head[i]]
		if c == 0 { // which each line has at its end
			return f, 0
		}
		head[i], word = c, 0
		if c == '-' {
			word = 1
		}
	}
	f.colon = i
	end := bytes.IndexByte(head[i:], '\n') + i
	if f.colon == f.name || head[end-1] != '\r' {
		return f, 0
	}
	f.value, f.end = i+1, end-1
	for f.value < f.end && (head[f.value] == ' ' || head[f.value] == '\t') {
		f.value++
	}
	for f.value < f.end && (head[f.end-1] == ' ' || head[f.end-1] == '\t') {
		f.end--
	}
	if !validValue(head[f.value:f.end]) {
		return f, 0
	}
	return f, end + 1
}

// frame finds out where the body ends (RFC 9112, section 6.3). It refuses all that
// leaves a doubt, or is rare.
func (a *answer) frame(method string) bool {
	resp, h := &a.resp, a.resp.Header
	length, ok := contentLength(h["Content-Length"])
	codings := h["Transfer-Encoding"]
	chunked := codings != nil
	if !ok || chunked && (length >= 0 || len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || resp.ProtoMinor == 0) {
		return false
	}
	if connection := h["Connection"]; connection != nil {
		resp.Close = httpguts.HeaderValuesContainsToken(connection, "close")
		if resp.ProtoMinor == 0 {
			resp.Close = resp.Close || !httpguts.HeaderValuesContainsToken(connection, "keep-alive")
		} else if resp.Close {
			delete(h, "Connection")
		}
	} else {
		resp.Close = resp.ProtoMinor == 0
	}
	if p := h["Pragma"]; p != nil && p[0] == "no-cache" && h["Cache-Control"] == nil {
		h["Cache-Control"] = []string{"no-cache"} // RFC 9111, section 5.4, as net/http reads it
	}
	if chunked {
		delete(h, "Transfer-Encoding")
		a.coding[0] = "chunked"
		resp.TransferEncoding = a.coding[:]
		if !a.announced() {
			return false
		}
	}
	bodiless := resp.StatusCode < 200 || resp.StatusCode == http.StatusNoContent
	switch {
	case bodiless && (chunked || length > 0):
		return false
	case method == http.MethodHead:
		resp.ContentLength = length
	case bodiless, resp.StatusCode == http.StatusNotModified:
		return !chunked
	case chunked:
		resp.ContentLength, a.body.framing = -1, byChunks
	case length < 0:
		resp.ContentLength, resp.Close, a.body.framing = -1, true, untilClose
	case length > 0:
		resp.ContentLength, a.body.framing, a.body.left = length, byLength, length
	}
	return true
}

// announced moves the names of trailers from the header to where they will come. It
// refuses those that would change the framing.
func (a *answer) announced() bool {
	lists := a.resp.Header["Trailer"]
	delete(a.resp.Header, "Trailer")
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			switch name = http.CanonicalHeaderKey(textproto.TrimString(name)); name {
			case "":
				continue
			case "Transfer-Encoding", "Trailer", "Content-Length":
				return false
			}
			if a.resp.Trailer == nil {
				a.resp.Trailer = http.Header{}
			}
			a.resp.Trailer[name] = nil
		}
	}
	return true
}

// contentLength returns -1 if there is none. It takes one field that is nothing but
// digits.
func contentLength(values []string) (n int64, ok bool) {
	if values == nil {
		return -1, true
	}
	text := values[0]
	if len(values) > 1 || text == "" || len(text) > 18 { // which a number of 64 bits has room for
		return 0, false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(text[i]-'0')
	}
	return n, true
}
