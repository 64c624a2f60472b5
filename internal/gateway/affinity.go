package gateway

import (
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"tidegate/internal/deploy"
)

// affinityRule is a rule made ready for requests.
type affinityRule struct {
	source   deploy.AffinitySource
	number   int      // among the script's rules, from 1
	name     string   // of a header in canonical form; of a cookie or a query parameter as it is
	before   int      // segments of the path before the one that is the key
	segments []string // what those must be; empty for anything
	forward  forwarding
	issuer   *issuer // sets the cookie where there is none; nil does not
}

// forwarding says which keys of a rule go on to the version.
type forwarding int

const (
	forwardNone forwarding = iota
	forwardMade            // those that a gateway has made, which mean nothing
	forwardAll
)

func forwardingOf(r *deploy.AffinityRule) forwarding {
	switch {
	case r.Forward == nil && r.Set != nil:
		return forwardMade
	case r.Forward != nil && *r.Forward:
		return forwardAll
	}
	return forwardNone
}

// compileAffinity leaves out a rule that it cannot follow, such as one of a newer
// control plane, with a warning: the others go on.
func compileAffinity(sc *deploy.SnapshotScript, warn func(string, ...any)) (list []affinityRule) {
	for i := range sc.Affinity {
		r := &sc.Affinity[i]
		if err := r.Validate(); err != nil {
			warn("script %s/%s: affinity rule %d is left out: %v", sc.AccountID, sc.Name, i+1, err)
			continue
		}
		rule := affinityRule{source: r.Source, number: i + 1, name: r.Name, before: r.Segment - 1, forward: forwardingOf(r)}
		if r.Source == deploy.AffinityHeader {
			rule.name = http.CanonicalHeaderKey(r.Name)
		}
		if r.Prefix == "/" {
			rule.before = 0
		} else if r.Prefix != "" {
			rule.segments = strings.Split(r.Prefix[1:len(r.Prefix)-1], "/")
			rule.before = len(rule.segments)
		}
		if r.Set != nil {
			rule.issuer = newIssuer(r)
		}
		list = append(list, rule)
	}
	return list
}

// facts are what a request says of its version, and what becomes of its key.
type facts struct {
	deploy.Facts
	forward bool // the key goes on to the version as Cloudflare-Workers-Version-Key
	made    bool // the key is new: the client is to have it as a cookie
}

// factsOf returns what a request of the public wants of a script: by the headers that
// say so, and without a key of its own by the script's rules. target is the request's
// path and query as the client wrote them, empty where it has none.
//
// A derived key goes no further unless its rule forwards it, to no backend, event, span
// or log, since it may be the value of a cookie.
func factsOf(q asked, sc *script, target, clientIP string) facts {
	f := callFacts(q, sc, target, clientIP)
	if f.Key != "" || len(sc.affinity) == 0 {
		return f
	}
	rule := &sc.affinity[len(sc.affinity)-1] // Validate: no other one sets a cookie
	if rule.issuer == nil || !sc.drawn && rule.forward == forwardNone || !rule.issuer.mayIssue(q, target) {
		return f
	}
	f.Key, f.Rule, f.made, f.forward = newKey(), rule.number, true, rule.forward != forwardNone
	return f
}

// callFacts is factsOf for a call through a service binding, which is asked again, by
// the callee's rules and with what the calling Worker passes on. The answer is the
// Worker's, not a client's, so no cookie is set.
func callFacts(q asked, sc *script, target, clientIP string) facts {
	f := facts{Facts: deploy.Facts{Override: overrideFor(q.header.Lines(headerOverrides), sc.Name)}}
	f.Key = firstLine(q.header, headerKey)
	if f.Key != "" {
		return f
	}
	for i := range sc.affinity {
		rule := &sc.affinity[i]
		if key := rule.key(q.header, target, clientIP); key != "" {
			f.Key, f.Rule = key, rule.number
			f.forward = rule.forward == forwardAll && forwardable(key) || rule.forward == forwardMade && isMade(key)
			break
		}
	}
	return f
}

// forwardable reports whether a key is the same after a way as a header's value.
func forwardable(key string) bool {
	for i := range len(key) {
		if key[i] < ' ' || key[i] > '~' {
			return false
		}
	}
	return key[0] != ' ' && key[len(key)-1] != ' '
}

// key returns what the rule finds, or "". It allocates only to decode a value with
// percent-encoding.
func (rule *affinityRule) key(h headers, target, clientIP string) string {
	switch rule.source {
	case deploy.AffinityHeader:
		return firstLine(h, rule.name)
	case deploy.AffinityCookie:
		return cookieValue(h.Lines("Cookie"), rule.name)
	case deploy.AffinityQuery:
		_, query, _ := strings.Cut(target, "?")
		return queryValue(query, rule.name)
	case deploy.AffinityClientIP:
		return clientIP
	case deploy.AffinityPath:
		path, _, _ := strings.Cut(target, "?")
		return rule.segment(path)
	}
	return ""
}

// segment returns the segment of the path that is the key. Percent-encoding makes no
// difference, be it in the key or before it.
func (rule *affinityRule) segment(path string) string {
	path, ok := strings.CutPrefix(path, "/")
	for i := 0; ok && i < rule.before; i++ {
		var segment string
		segment, path, ok = strings.Cut(path, "/")
		if len(rule.segments) > 0 && !decodesTo(segment, rule.segments[i], false) {
			return ""
		}
	}
	if !ok {
		return ""
	}
	id, _, _ := strings.Cut(path, "/")
	if decoded, err := url.PathUnescape(id); err == nil {
		return decoded
	}
	return id
}

// cookieValue returns the value of the first cookie of the name, "" for none. What
// is a cookie is read as net/http reads it, without making a list of them.
func cookieValue(lines []string, name string) string {
	for _, line := range lines {
		for line != "" {
			var part string
			part, line, _ = strings.Cut(line, ";")
			key, value, _ := strings.Cut(textproto.TrimString(part), "=")
			if textproto.TrimString(key) != name {
				continue
			}
			if n := len(value); n > 1 && value[0] == '"' && value[n-1] == '"' {
				value = value[1 : n-1]
			}
			if validCookieValue(value) {
				return value
			}
		}
	}
	return ""
}

func validCookieValue(value string) bool {
	for i := range len(value) {
		if c := value[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false // a semicolon has ended the value already
		}
	}
	return true
}

// queryValue returns the value of the first parameter of the name, "" for none. What
// is a parameter is read as url.ParseQuery reads it, without making a map of them.
func queryValue(query, name string) string {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if strings.IndexByte(pair, ';') >= 0 {
			continue
		}
		key, value, _ := strings.Cut(pair, "=")
		if !decodesTo(key, name, true) {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return value
		}
	}
	return ""
}

// decodesTo reports whether text is plain in percent-encoding, in which a plus stands
// for a space if spaces is set. Broken encoding is nothing at all.
func decodesTo(text, plain string, spaces bool) bool {
	n := 0
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case c == '%':
			if i+2 >= len(text) {
				return false
			}
			high, ok1 := hexDigit(text[i+1])
			low, ok2 := hexDigit(text[i+2])
			if !ok1 || !ok2 {
				return false
			}
			c = high<<4 | low
			i += 2
		case c == '+' && spaces:
			c = ' '
		}
		if n >= len(plain) || plain[n] != c {
			return false
		}
		n++
	}
	return n == len(plain)
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
