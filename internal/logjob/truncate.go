package logjob

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"

	"tidegate/schema"
)

// Logs and Exceptions of one record share a budget of characters, spent on all
// exception names first, then on all exception messages, then on log messages.
// What passes it is cut, marked once a kind, and later entries are dropped
// (Logpush documentation, "Workers trace events", limits).
const (
	textBudget          = 16_384 // characters
	exceptionsTruncated = "<<<Logpush: exception messages truncated>>>"
	logsTruncated       = "<<<Logpush: messages truncated>>>"
)

// Truncate cuts Exceptions and Logs down to the budget and reports whether
// anything had to go. Lists of another shape than the schema's are left alone.
func (r *Record) Truncate() bool {
	// Fast path - a text has never more characters than its JSON has bytes.
	if len(r.field(exceptionsField))+len(r.field(logsField)) <= textBudget {
		return false
	}
	var exceptions []schema.Exception
	var logs []schema.Log
	if !decode(r.field(exceptionsField), &exceptions) || !decode(r.field(logsField), &logs) {
		return false
	}
	left := textBudget
	exceptions, cutExceptions := truncateExceptions(exceptions, &left)
	logs, cutLogs := truncateLogs(logs, &left)
	if cutExceptions {
		r.replace(exceptionsField, encode(exceptions))
	}
	if cutLogs {
		r.replace(logsField, encode(logs))
	}
	return cutExceptions || cutLogs
}

// replace gives a field another value, behind a copy of the event: its bytes may
// be shared with others.
func (r *Record) replace(field int, raw []byte) {
	start := len(r.data)
	r.data = append(r.data[:start:start], raw...)
	r.fields[field] = span{uint32(start), uint32(len(r.data))}
}

func truncateExceptions(list []schema.Exception, left *int) ([]schema.Exception, bool) {
	cut := false
	for i := range list {
		if !spend(&list[i].Name, left) {
			list, cut = list[:i+1], true
			break
		}
	}
	for i := range list {
		if !spend(&list[i].Message, left) {
			list[i].Message += exceptionsTruncated
			return list[:i+1], true
		}
	}
	if cut { // no message was there to carry the mark
		list[len(list)-1].Message = exceptionsTruncated
	}
	return list, cut
}

func truncateLogs(list []schema.Log, left *int) ([]schema.Log, bool) {
	for i := range list {
		for j, argument := range list[i].Message {
			text := string(argument) // a number or an object counts as its JSON
			if s, ok := Unquote(argument); ok {
				text = string(s)
			}
			if !spend(&text, left) {
				list[i].Message[j] = schema.AppendString(nil, text+logsTruncated)
				list[i].Message = list[i].Message[:j+1]
				return list[:i+1], true
			}
		}
	}
	return list, false
}

// spend takes the characters of text from the budget; when they do not fit it
// cuts text to those that do, and returns false.
func spend(text *string, left *int) bool {
	n := utf8.RuneCountInString(*text)
	if n <= *left {
		*left -= n
		return true
	}
	end := 0
	for range *left {
		_, size := utf8.DecodeRuneInString((*text)[end:])
		end += size
	}
	*text, *left = (*text)[:end], 0
	return false
}

func decode(raw []byte, list any) bool {
	return raw == nil || json.Unmarshal(raw, list) == nil
}

// encode writes a list back; HTML characters stay as they are.
func encode(list any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(list); err != nil {
		// What decode returned can be encoded again; were it not so, an empty
		// list is the only valid answer within the budget.
		return []byte("[]")
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}
