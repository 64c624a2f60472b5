package logjob

import (
	"regexp"
	"strconv"
	"strings"

	"tidegate/schema"
)

// A template is what Logpush documents of Go's text/template: text,
// {{ .Field }}, {{ "constant" }} with either kind of Go string, and
// {{/* comment */}}. Everything else is refused.
type template []templatePart

// templatePart is a constant text, or a field when text is empty.
type templatePart struct {
	text  string
	field string
}

var (
	// Text ends where an action begins; there is no other escape than a constant.
	fieldAction = regexp.MustCompile(`^\{\{[ \t\r\n]*\.([A-Za-z_][A-Za-z0-9_]*)[ \t\r\n]*\}\}`)
	quoteAction = regexp.MustCompile(`^\{\{[ \t\r\n]*("(?:[^"\\\n]|\\.)*"|` + "`[^`]*`" + `)[ \t\r\n]*\}\}`)
	comment     = regexp.MustCompile(`(?s)^\{\{/\*.*?\*/`)
)

// parseTemplate splits a record_template; the empty text has no parts.
func parseTemplate(text string) (template, error) {
	const pointer = "/output_options/record_template"
	var parts template
	constant := ""
	flush := func() {
		if constant != "" {
			parts = append(parts, templatePart{text: constant})
			constant = ""
		}
	}
	for text != "" {
		before, _, found := strings.Cut(text, "{{")
		constant += before
		text = text[len(before):]
		if !found {
			break
		}
		if m := comment.FindString(text); m != "" && strings.HasPrefix(text[len(m):], "}}") {
			text = text[len(m)+len("}}"):]
		} else if m := fieldAction.FindStringSubmatch(text); m != nil {
			if _, ok := schema.FieldByName(m[1]); !ok {
				return nil, notAllowed(pointer, "field %q in record_template is not allowed: the dataset %s has no such field%s",
					shown(m[1]), schema.Dataset, meantField(m[1]))
			}
			flush()
			parts = append(parts, templatePart{field: m[1]})
			text = text[len(m[0]):]
		} else if m := quoteAction.FindStringSubmatch(text); m != nil {
			value, err := strconv.Unquote(m[1])
			if err != nil {
				return nil, badValue(pointer, "record_template has the bad constant %s", shown(m[1]))
			}
			constant += value
			text = text[len(m[0]):]
		} else {
			return nil, badValue(pointer, "record_template cannot be read at %q: only text, {{ .Field }}, "+
				`{{ "constant" }} and {{/* comment */}} are possible`, shown(text))
		}
	}
	flush()
	return parts, nil
}
