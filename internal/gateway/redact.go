package gateway

import (
	"net/url"
	pathpkg "path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"tidegate/internal/deploy"
)

// redactor takes out of an event what a script's rules name (deploy.Redaction). It
// knows strings; redact_event.go knows where they are. A nil redactor takes nothing
// out. It is immutable.
//
// A text may hold a secret in a form that its rule does not match: percent-encoded,
// with \u escapes, in full-width letters, with characters of no width in between. So
// rules are also tried on what a text stands for (plain), and where only that matches,
// the text goes as a whole: nobody could say which part of it to take out.
type redactor struct {
	rules      *deploy.Redaction // that it was compiled from
	headers    map[string]bool   // lower case
	parameters map[string]bool
	paths      [][]string
	matchers   []func(text string) [][]int // each returns [begin, end) pairs
	all        bool                        // a rule is not known here: take everything out
}

// compileRedaction returns nil for no rules, and before's redactor if its rules are
// the same. A rule that this gateway does not understand, from a newer control plane,
// must not let through what it is to keep back: then no text leaves.
func compileRedaction(next *deploy.SnapshotScript, before *script, warn func(string, ...any)) *redactor {
	rules := next.Redaction
	if rules == nil || rules.Empty() {
		return nil
	}
	if before != nil && before.redaction != nil && before.redaction.rules.Equal(rules) {
		return before.redaction
	}
	red := &redactor{rules: rules, headers: map[string]bool{}, parameters: map[string]bool{}}
	for _, name := range rules.Headers {
		red.headers[strings.ToLower(name)] = true
	}
	for _, name := range rules.QueryParameters {
		red.parameters[name] = true
	}
	for _, path := range rules.Paths {
		red.paths = append(red.paths, strings.Split(path, "/"))
	}
	for _, pattern := range rules.Patterns {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			warn("script %s/%s: the redaction pattern %q is not understood, so its events lose all text: %v", next.AccountID, next.Name, pattern, err)
			red.all = true
			continue
		}
		red.matchers = append(red.matchers, func(text string) [][]int { return compiled.FindAllStringIndex(text, -1) })
	}
	for _, name := range rules.BuiltIns {
		matcher := builtInMatchers[name]
		if matcher == nil {
			warn("script %s/%s: the redaction rule %q is not known to this gateway, so its events lose all text: upgrade it", next.AccountID, next.Name, name)
			red.all = true
			continue
		}
		red.matchers = append(red.matchers, matcher)
	}
	for _, kind := range rules.Unknown {
		warn("script %s/%s: redaction rules of the kind %q are not known to this gateway, so its events lose all text: upgrade it", next.AccountID, next.Name, kind)
		red.all = true
	}
	return red
}

// find returns the parts of a text that are to be taken out, in order, as [begin, end)
// pairs. Each pattern looks at the text as it is, and at each piece of it that the
// patterns before leave: a match in the whole text may begin in another's part, and end
// before a secret does that the pieces show. Neither has what takes the place of a part:
// patterns that match a letter of it each would multiply it. What overlaps or touches is
// one part, so what comes out has at most nine bytes for one of the text, and eight more.
//
// To ^, $ and \b a piece ends where a text does. That takes out more rather than less, and
// not all: a pattern looks at each piece once, so ^a does not eat its way through a row of them.
func (red *redactor) find(text string) [][]int {
	var found, gone [][]int // gone is what one pattern after another takes out
	for _, find := range red.matchers {
		var taken [][]int
		begin := 0
		for _, part := range gone {
			taken = search(taken, find, text, begin, part[0])
			begin = part[1]
		}
		taken = search(taken, find, text, begin, len(text))
		if len(gone) > 0 {
			found = search(found, find, text, 0, len(text))
		}
		found = append(found, taken...)
		gone = union(append(gone, taken...))
	}
	return union(found)
}

// search adds what a pattern matches in a piece of a text.
func search(found [][]int, find func(string) [][]int, text string, begin, end int) [][]int {
	for _, m := range find(text[begin:end]) {
		m[0], m[1] = m[0]+begin, m[1]+begin
		if !takenOut(text, m) {
			found = append(found, m)
		}
	}
	return found
}

// union sorts parts, and makes one of those that overlap or touch.
func union(found [][]int) [][]int {
	if len(found) < 2 {
		return found
	}
	slices.SortFunc(found, func(a, b []int) int { return a[0] - b[0] })
	parts := found[:1]
	for _, m := range found[1:] {
		if last := parts[len(parts)-1]; m[0] <= last[1] {
			last[1] = max(last[1], m[1])
		} else {
			parts = append(parts, m)
		}
	}
	return parts
}

// takenOut reports whether a match is of nothing but what stands for what was taken out.
func takenOut(text string, m []int) bool {
	return m[1]-m[0] <= len(redacted) && strings.Contains(text[max(0, m[1]-len(redacted)):min(len(text), m[0]+len(redacted))], redacted)
}

// matches reports whether any pattern finds something: pieces are left only where one has.
func (red *redactor) matches(text string) bool {
	for _, find := range red.matchers {
		if slices.ContainsFunc(find(text), func(m []int) bool { return !takenOut(text, m) }) {
			return true
		}
	}
	return false
}

// text takes what the patterns match out of a text.
func (red *redactor) text(s string) string {
	if s == "" {
		return s
	}
	if red.all {
		return redacted
	}
	out := red.replace(s)
	// A match that ends where an encoded character begins has left the rest of the secret.
	if p := plain(s); p != s && red.replace(p) != plain(out) {
		return redacted
	}
	if p := plain(out); p != out && red.matches(p) {
		return redacted
	}
	return out
}

func (red *redactor) replace(s string) string {
	found := red.find(s)
	if len(found) == 0 {
		return s
	}
	var b strings.Builder
	last := 0
	for _, m := range found {
		b.WriteString(s[last:m[0]])
		b.WriteString(redacted)
		last = m[1]
	}
	b.WriteString(s[last:])
	return b.String()
}

// header is the value of a header, whose name may be in any case.
func (red *redactor) header(name, value string) string {
	name = strings.ToLower(name)
	switch {
	case red.all || red.headers[name]:
		return redacted
	case name == "referer" || name == "location" || name == "origin":
		return red.url(value)
	}
	return red.text(value)
}

// url takes parameters, segments of the path and what patterns match out of a URL or
// a target.
func (red *redactor) url(u string) string {
	base, rest := "", u
	if i := strings.Index(u, "://"); i >= 0 && !strings.ContainsAny(u[:i], "/?#") {
		host := i + len("://")
		end := strings.IndexAny(u[host:], "/?#")
		if end < 0 {
			end = len(u) - host
		}
		base, rest = u[:host+end], u[host+end:]
	}
	if red.all {
		return base + "/" + redacted
	}
	path, query, asked := strings.Cut(rest, "?")
	path = red.segments(path)
	if asked {
		path += "?" + red.query(query)
	}
	out := red.replace(base + path)
	if p := plain(out); p != out && red.matches(p) {
		// What is left matches in its host, or across the borders of its parts only.
		return red.text(base) + "/" + redacted
	}
	return out
}

// segments takes out whole segments.
func (red *redactor) segments(path string) string {
	if path == "" {
		return path
	}
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if p := plain(part); p != part && red.matches(p) {
			parts[i] = redacted
		}
	}
	for _, rule := range red.paths {
		if !pathMatches(rule, parts) {
			// Many servers take this path for another spelling of one that matches.
			if pathMatches(rule, strings.Split(pathpkg.Clean(plain(path)), "/")) {
				return "/" + redacted
			}
			continue
		}
		for i, segment := range rule {
			if segment == "*" && parts[i] != "" {
				parts[i] = redacted
			}
		}
	}
	return strings.Join(parts, "/")
}

// pathMatches compares segments as what they stand for.
func pathMatches(rule, parts []string) bool {
	if len(parts) < len(rule) {
		return false
	}
	for i, segment := range rule {
		if segment != "*" && segment != parts[i] && segment != plain(parts[i]) {
			return false
		}
	}
	return true
}

// query takes out the values of parameters. Names are compared as what they stand
// for. Some programs take a semicolon for a border, and others for a part of the value.
func (red *redactor) query(query string) string {
	parts := strings.Split(query, "&")
	for i, part := range parts {
		if name, ruled := red.ruled(part); ruled {
			parts[i] = name + "=" + redacted
			continue
		}
		pieces := strings.Split(part, ";")
		for j, piece := range pieces {
			pieces[j] = red.pair(piece)
		}
		parts[i] = strings.Join(pieces, ";")
	}
	return strings.Join(parts, "&")
}

// ruled reports whether a rule names the parameter.
func (red *redactor) ruled(pair string) (name string, ruled bool) {
	name, _, has := strings.Cut(pair, "=")
	return name, has && (red.parameters[name] || red.parameters[plain(unplus(name))])
}

func (red *redactor) pair(pair string) string {
	name, ruled := red.ruled(pair)
	p := plain(unplus(pair))
	switch {
	case !ruled && (p == pair || !red.matches(p)):
		return pair
	case red.matches(plain(unplus(name))) || name == pair:
		return redacted
	}
	return name + "=" + redacted
}

func unplus(s string) string { return strings.ReplaceAll(s, "+", " ") }

// plainRounds bounds how often something may be encoded in itself.
const plainRounds = 4

var unicodeEscape = regexp.MustCompile(`\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2}`)

// plain returns what a text stands for: without percent-encoding and \u escapes,
// however often it was encoded, letters and digits in their plain forms, and without
// characters that cannot be seen. Most texts are plain, and cost one look.
func plain(s string) string {
	if isPlain(s) {
		return s
	}
	for range plainRounds {
		next := s
		if strings.Contains(next, "%") {
			next = unescapePercent(next)
		}
		if strings.Contains(next, `\`) {
			next = unicodeEscape.ReplaceAllStringFunc(next, func(escape string) string {
				r, err := strconv.ParseUint(escape[2:], 16, 32)
				if err != nil {
					return escape
				}
				return string(rune(r))
			})
		}
		if !ascii(next) {
			next = norm.NFKC.String(strings.Map(visible, next))
		}
		if next == s {
			break
		}
		s = next
	}
	return s
}

// isPlain is true of texts that stand for themselves.
func isPlain(s string) bool { return !strings.ContainsAny(s, `%\`) && ascii(s) }

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// visible drops what takes no room, such as a zero-width space or a soft hyphen.
func visible(r rune) rune {
	if unicode.Is(unicode.Cf, r) {
		return -1
	}
	return r
}

// unescapePercent undoes what it can: a bad escape stands for itself.
func unescapePercent(s string) string {
	if whole, err := url.PathUnescape(s); err == nil {
		return whole
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(v))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
