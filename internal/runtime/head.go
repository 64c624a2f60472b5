package runtime

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"

	"tidegate/internal/lines"
)

// answer is a response and what belongs to it, in one piece of memory.
type answer struct {
	resp   http.Response
	body   responseBody
	coding [1]string // resp.TransferEncoding
	head   []byte    // of listHead
}

// listedAnswer is an answer with room for the lines of its header.
type listedAnswer struct {
	answer
	names, values [12]string // most have no more
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

// parseHead reads the head of a response, up to and with its empty line, if it is
// written as RFC 9112 wants it and holds nothing rare. What it makes of it is what
// http.ReadResponse would, which is there for all others: a head that it does not take
// may still be a good one. It writes names in canonical form into head, and keeps nothing of it.
func parseHead(head []byte, method string) *answer {
	room := &listedAnswer{}
	list, a := lines.Header{Names: room.names[:0], Values: room.values[:0]}, &room.answer
	if !a.parse(head, &list, func() string { return string(head) }) || !a.frame(&list, method) { // the one copy; all strings are parts of it
		return nil
	}
	a.resp.Header = headerOf(&list)
	if a.resp.ProtoMinor == 1 && httpguts.HeaderValuesContainsToken(a.resp.Header["Connection"], "close") {
		delete(a.resp.Header, "Connection")
	}
	if a.coding[0] != "" {
		delete(a.resp.Header, "Transfer-Encoding")
		if !a.announced() {
			return nil
		}
	}
	if pragma(&list) {
		a.resp.Header["Cache-Control"] = []string{"no-cache"} // RFC 9111, section 5.4, as net/http reads it
	}
	return a
}

// listHead is parseHead with the header in x.Response and none in the response; a nil
// answer says that the head is for parseHead. It leaves head as it is, and uses the memory
// of x: the connection may be another request's before anybody has read the list.
func listHead(head []byte, method string, x *lines.Exchange) *answer {
	a, _ := x.Memory.(*answer)
	if a == nil {
		a = &answer{}
		x.Memory = a
	}
	*a = answer{head: append(a.head[:0], head...)}
	x.Response.Reset()
	if !a.parse(a.head, &x.Response, func() string { return lines.View(a.head) }) || a.resp.StatusCode < 200 || pragma(&x.Response) {
		return nil
	}
	for i, name := range x.Response.Names {
		switch name {
		case "Trailer":
			return nil // it belongs elsewhere
		case "Connection": // which may name others that go no further
			if v := x.Response.Values[i]; !strings.EqualFold(v, "keep-alive") && !strings.EqualFold(v, "close") {
				return nil
			}
		}
	}
	if !a.frame(&x.Response, method) {
		return nil
	}
	return a
}

// headerOf returns the list as a map, which has the list's values.
func headerOf(list *lines.Header) http.Header {
	header := make(http.Header, len(list.Names))
	for i, name := range list.Names {
		if before := header[name]; before != nil {
			header[name] = append(before, list.Values[i])
			continue
		}
		header[name] = list.Values[i : i+1 : i+1]
	}
	return header
}

// pragma reports whether a header asks caches for something in an old way only.
func pragma(list *lines.Header) bool {
	p := list.Lines("Pragma")
	return p != nil && p[0] == "no-cache" && list.Lines("Cache-Control") == nil
}

// field is where a header field is in a head: its name up to colon, its value.
type field struct{ name, colon, value, end int }

// parse reads the status line and the fields. text returns the head as a string, once it has the
// names as they shall be.
func (a *answer) parse(head []byte, list *lines.Header, text func() string) bool {
	at := a.statusLine(head)
	if at == 0 {
		return false
	}
	var most [16]field
	fields := most[:0]
	for head[at] != '\r' {
		f, next := parseField(head, at)
		if next == 0 {
			return false
		}
		fields, at = append(fields, f), next
	}
	if at+2 != len(head) {
		return false
	}
	all := text()
	a.resp.Status = all[len("HTTP/1.1 "):strings.IndexByte(all, '\r')]
	for _, f := range fields {
		list.Add(all[f.name:f.colon], all[f.value:f.end])
	}
	a.body.resp, a.resp.Body = &a.resp, &a.body
	return true
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
	if len(reason) > 0 && reason[0] != ' ' || !lines.ValidValue(reason) {
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
	i += lines.CanonicalName(head[i:]) // no further than the line's end
	if head[i] != ':' {
		return f, 0
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
	if !lines.ValidValue(head[f.value:f.end]) {
		return f, 0
	}
	return f, end + 1
}

// frame finds out where the body ends (RFC 9112, section 6.3). It refuses all that
// leaves a doubt, or is rare.
func (a *answer) frame(list *lines.Header, method string) bool {
	resp := &a.resp
	length, ok := contentLength(list.Lines("Content-Length"))
	codings := list.Lines("Transfer-Encoding")
	chunked := codings != nil
	if !ok || chunked && (length >= 0 || len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || resp.ProtoMinor == 0) {
		return false
	}
	connection := list.Lines("Connection")
	resp.Close = resp.ProtoMinor == 0
	if connection != nil {
		resp.Close = httpguts.HeaderValuesContainsToken(connection, "close") ||
			resp.ProtoMinor == 0 && !httpguts.HeaderValuesContainsToken(connection, "keep-alive")
	}
	if chunked {
		a.coding[0] = "chunked"
		resp.TransferEncoding = a.coding[:]
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
