package gateway

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"unicode/utf8"

	"tidegate/schema"
)

// clientIP is the client's address, which is a header to those who read events.
func (red *redactor) clientIP(ip string) string {
	if ip == "" || red.header("cf-connecting-ip", ip) == ip {
		return ip
	}
	return ""
}

// invocation redacts what the runtime has told of an invocation.
func (red *redactor) invocation(inv *schema.Invocation) {
	if red == nil {
		return
	}
	for i := range inv.Exceptions {
		e := &inv.Exceptions[i]
		e.Name, e.Message, e.Stack = red.text(e.Name), red.text(e.Message), red.text(e.Stack)
		if len(red.matchers) == 0 {
			continue
		}
		// What was cut may have lost the end that a rule needs.
		if strings.HasSuffix(e.Message, schema.ExceptionTruncated) {
			e.Name, e.Message = redacted, redacted+schema.ExceptionTruncated
		}
		if utf8.RuneCountInString(e.Stack) >= schema.StackRunesMax {
			e.Stack = redacted
		}
	}
	for i := range inv.Logs {
		red.log(&inv.Logs[i])
	}
	if len(inv.Event) > 0 {
		inv.Event = red.json(inv.Event, true)
	}
}

// log redacts one console call. What it says may be spread over its arguments, as in
// console.log("Bearer", token), which people see in one line.
func (red *redactor) log(l *schema.Log) {
	if n := len(l.Message); n > 0 && len(red.matchers) > 0 && bytes.HasSuffix(l.Message[n-1], []byte(schema.LogTruncated+`"`)) {
		for i := range l.Message { // the end that a rule needs may be missing
			l.Message[i] = redactedJSON
		}
		l.Message[n-1] = json.RawMessage(`"` + redacted + schema.LogTruncated + `"`)
		return
	}
	for i, m := range l.Message {
		l.Message[i] = red.json(m, false)
	}
	if len(l.Message) < 2 || red.all {
		return
	}
	var line strings.Builder
	ends := make([]int, len(l.Message))
	for i, m := range l.Message {
		var text string
		if json.Unmarshal(m, &text) != nil {
			text = string(m)
		}
		if i > 0 {
			line.WriteByte(' ')
		}
		line.WriteString(plain(text))
		ends[i] = line.Len()
	}
	i, begin := 0, 0 // the first argument that does not end before the part at hand
	for _, part := range red.find(line.String()) {
		for i < len(ends) && begin < part[1] {
			if part[0] < ends[i] {
				l.Message[i] = redactedJSON
			}
			if ends[i] > part[1] {
				break // the next part may be in it, too
			}
			begin = ends[i] + 1
			i++
		}
	}
}

var redactedJSON = json.RawMessage(`"` + redacted + `"`)

// json redacts the strings and numbers of a JSON value, names of members included,
// and keeps its shape. In an event, what members with names of headers hold goes, and
// URLs are read as such. Text that is no JSON goes as a whole.
func (red *redactor) json(value json.RawMessage, event bool) json.RawMessage {
	if red.all && !event {
		return redactedJSON
	}
	if !json.Valid(value) {
		return redactedJSON
	}
	var out []byte // nil until something was taken out
	name := ""     // of the member at hand
	copied := 0
	put := func(begin, end int, text string) {
		out = schema.AppendString(append(out, value[copied:begin]...), text)
		copied = end
	}
	for i := 0; i < len(value); {
		end := tokenEnd(value, i)
		token := value[i:end]
		switch {
		case token[0] == '"':
			var text string
			if json.Unmarshal(token, &text) != nil {
				put(i, end, redacted) // a valid value has no such string
				break
			}
			rest := bytes.TrimLeft(value[end:], " \t\r\n")
			isName := len(rest) > 0 && rest[0] == ':'
			if clean := red.member(name, text, event, isName); clean != text {
				put(i, end, clean)
			}
			if isName {
				name = text
			} else {
				name = ""
			}
		case token[0] == '-' || token[0] >= '0' && token[0] <= '9':
			if red.matches(string(token)) {
				put(i, end, redacted)
			}
		}
		i = end
	}
	if out == nil {
		return value
	}
	return slices.Clip(append(out, value[copied:]...))
}

// member redacts a string of a JSON value: the name of a member, or the value of the
// member name.
func (red *redactor) member(name, text string, event, isName bool) string {
	switch {
	case isName && event && red.all:
		return text // the shape of an event is no secret
	case isName:
		return red.text(text)
	case event && name == "RayID":
		return text
	case event && strings.EqualFold(name, "url"):
		return red.url(text)
	case event:
		return red.header(name, text)
	}
	return red.text(text)
}

// tokenEnd returns where the string, number or other piece that begins at i ends.
func tokenEnd(value []byte, i int) int {
	if value[i] != '"' {
		end := i + 1
		for number := strings.IndexByte("-0123456789", value[i]) >= 0; number && end < len(value) && strings.IndexByte("+-.0123456789eE", value[end]) >= 0; {
			end++
		}
		return end
	}
	for end := i + 1; end < len(value); end++ {
		switch value[end] {
		case '\\':
			end++
		case '"':
			return end + 1
		}
	}
	return len(value)
}
