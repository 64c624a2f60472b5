package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

// expansion bounds what comes out: a byte may be one part, and have one of no bytes before it.
func expansion(in int) int { return (1+len(redacted))*in + 2*len(redacted) + 4 }

// FuzzRedact: whatever the rules are, exactly what patterns match, at once and one after
// another, is taken out, what comes out is bounded by what goes in and has no match that was there before, and JSON stays JSON
// of the same shape.
func FuzzRedact(f *testing.F) {
	for _, secret := range secrets {
		for _, write := range disguises {
			for _, s := range []string{write(secret.text), "https://a.example/x?y=" + write(secret.text) + "&z"} {
				f.Add(s, `SSN-\d{3}`, byte(15))
				f.Add(s, strings.Join(secret.rules.Patterns, "\n"), byte(1))
			}
		}
	}
	f.Add(`{"a":"\u0061@b.example","4111111111111111":4111111111111111}`, "", byte(15))
	f.Add(`["Bearer","abcdef123","","REDACTED"]`, "[A-Z]\n[A-Y]\n[A-X]", byte(1))
	f.Add("id=12344111111111111111 SSN-1234111111111111111", `id=\d{4}`+"\n"+`SSN-\d{3}`+"\n"+`\d{16}`, byte(15))
	f.Add("https://a.example/a/b;y=;y=?y=&y=&y", `\b`+"\n"+`\b|x`+"\na$", byte(0))
	f.Fuzz(func(t *testing.T, s, patterns string, builtIns byte) {
		rules := deploy.Redaction{Headers: []string{"x"}, QueryParameters: []string{"y"}, Paths: []string{"/a/*"}}
		if patterns != "" {
			rules.Patterns = strings.Split(patterns, "\n")
		}
		for i, name := range deploy.RedactionBuiltIns {
			if builtIns&(1<<i) != 0 {
				rules.BuiltIns = append(rules.BuiltIns, name)
			}
		}
		if len(s) > 1<<12 || rules.Validate() != nil {
			return
		}
		red := redactorOf(t, rules)
		if got, want := red.replace(s), taken(red, s); got != want {
			t.Errorf("%q became %q, want %q", s, got, want)
		}
		for what, out := range map[string]string{"text": red.text(s), "url": red.url(s), "header": red.header("y", s), "referer": red.header("referer", s)} {
			if len(out) > expansion(len(s)) {
				t.Errorf("%s: %q became %d bytes: %q", what, s, len(out), out)
			}
			wantNoMatch(t, red, out)
		}
		out := red.json(json.RawMessage(s), false)
		if !json.Valid(out) || len(out) > expansion(2*len(s)) { // JSON writes some bytes as several
			t.Errorf("%q became %q", s, out)
		}
		var value any
		if json.Unmarshal(out, &value) == nil {
			wantNoMatch(t, red, value)
		}
		var arguments []json.RawMessage
		if json.Unmarshal([]byte(s), &arguments) == nil {
			wantLine(t, red, arguments)
		}
	})
}

// taken is what replace makes of a text, a byte at a time: what each pattern matches in it,
// and what they take out one after another.
func taken(red *redactor, s string) string {
	gone, here := make([]bool, len(s)+1), make([]bool, len(s)+1) // the byte; nothing, before it
	// take takes a pattern's matches out of s[begin:end], and what the next ones match out of what is left.
	var take func(begin, end int, find func(string) [][]int, next ...func(string) [][]int)
	take = func(begin, end int, find func(string) [][]int, next ...func(string) [][]int) {
		left := begin
		for _, m := range find(s[begin:end]) {
			m = []int{begin + m[0], begin + m[1]}
			if takenOut(s, m) {
				continue
			}
			here[m[0]] = true
			for i := m[0]; i < m[1]; i++ {
				gone[i] = true
			}
			if len(next) > 0 {
				take(left, m[0], next[0], next[1:]...)
			}
			left = m[1]
		}
		if len(next) > 0 {
			take(left, end, next[0], next[1:]...)
		}
	}
	for i, find := range red.matchers {
		take(0, len(s), find)
		if i == 0 {
			take(0, len(s), find, red.matchers[1:]...)
		}
	}
	var b strings.Builder
	for i := 0; i <= len(s); i++ {
		if here[i] {
			b.WriteString(redacted)
			for i < len(s) && gone[i] {
				i++
			}
		}
		if i < len(s) {
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// wantLine compares a console call's arguments with what is taken out of each, and of the
// line of all.
func wantLine(t *testing.T, red *redactor, arguments []json.RawMessage) {
	t.Helper()
	l := schema.Log{Message: slices.Clone(arguments)}
	red.log(&l)
	var line string
	var ends []int
	each := make([]json.RawMessage, len(arguments))
	for i, m := range arguments {
		each[i] = red.json(m, false)
		var text string
		if json.Unmarshal(each[i], &text) != nil {
			text = string(each[i])
		}
		if i > 0 {
			line += " "
		}
		line += plain(text)
		ends = append(ends, len(line))
	}
	if n := len(arguments); n > 0 && strings.HasSuffix(string(arguments[n-1]), schema.LogTruncated+`"`) && len(red.matchers) > 0 {
		return // all is gone
	}
	if len(arguments) > 1 {
		for _, m := range red.find(line) {
			begin := 0
			for i, end := range ends {
				if m[0] < end && m[1] > begin {
					each[i] = redactedJSON
				}
				begin = end + 1
			}
		}
	}
	if got, want := fmt.Sprintf("%s", l.Message), fmt.Sprintf("%s", each); got != want {
		t.Errorf("the line of %s became %s, want %s", arguments, got, want)
	}
}

// wantNoMatch fails if a rule finds something in which nothing was put: what stands beside
// that may look like more than it was.
func wantNoMatch(t *testing.T, red *redactor, value any) {
	t.Helper()
	switch v := value.(type) {
	case string:
		for _, text := range []string{v, plain(v)} {
			for _, find := range red.matchers {
				for _, m := range find(text) {
					if !strings.Contains(text[max(0, m[0]-len(redacted)):min(len(text), m[1]+len(redacted))], redacted) {
						t.Errorf("%q is left in %q", text[m[0]:m[1]], text)
					}
				}
			}
		}
	case []any:
		for _, x := range v {
			wantNoMatch(t, red, x)
		}
	case map[string]any:
		for name, x := range v {
			wantNoMatch(t, red, name)
			wantNoMatch(t, red, x)
		}
	}
}
