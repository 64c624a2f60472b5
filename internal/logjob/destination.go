package logjob

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// ParseDestination splits a destination_conf, scheme://authority/path?parameters.
// Its error never repeats the value, which holds credentials.
func ParseDestination(conf string) (*url.URL, error) {
	const pointer = "/destination_conf"
	switch {
	case conf == "":
		return nil, badValue(pointer, "destination_conf is missing")
	case len(conf) > maxOptionBytes:
		return nil, badValue(pointer, "destination_conf has %d bytes, more than the %d allowed", len(conf), maxOptionBytes)
	}
	u, err := url.Parse(conf)
	if err != nil || u.Scheme == "" || u.Opaque != "" || !strings.Contains(conf, "://") {
		return nil, badValue(pointer, "destination_conf is not a URL of the form scheme://authority/path?parameters "+
			"with URL-encoded parameters")
	}
	if u.Fragment != "" {
		return nil, badValue(pointer, "destination_conf has a fragment; write %%23 for a # that belongs to a parameter")
	}
	if _, err := url.ParseQuery(u.RawQuery); err != nil {
		return nil, badValue(pointer, "the parameters of destination_conf are not URL-encoded")
	}
	return u, nil
}

const masked = "***"

// secretName matches the names of parameters whose values are credentials.
var secretName = regexp.MustCompile(`(?i)^header_|secret|password|passwd|token|credential|signature|^sig$|api[-_]?key|access-key-id|auth|^key$`)

// MaskDestination returns conf with its credentials hidden, for logs, error
// messages and people: user info, header_* and every parameter that is named
// like a secret; of access-key-id the first four characters stay, so that a
// person can tell keys apart. Of http and https only scheme, host and the number
// of parameters stay: any part of a webhook's URL may be what lets one in. What
// cannot be parsed is hidden whole.
func MaskDestination(conf string) string {
	u, err := ParseDestination(conf)
	if err != nil {
		scheme, _, found := strings.Cut(conf, "://")
		if !found || len(scheme) > 20 {
			return masked
		}
		return scheme + "://" + masked
	}
	if isHTTP(u) {
		return maskHTTP(u)
	}
	base, query, hasQuery := strings.Cut(conf, "?")
	if u.User != nil {
		_, rest, _ := strings.Cut(base, "://")
		authority, _, _ := strings.Cut(rest, "/")
		base = u.Scheme + "://" + masked + "@" + u.Host + rest[len(authority):]
	}
	if u.Scheme == "sumo" { // the path is the credential
		base = u.Scheme + "://" + u.Host + "/" + masked
	}
	if !hasQuery {
		return base
	}
	params := strings.Split(query, "&")
	for i, p := range params {
		rawName, rawValue, _ := strings.Cut(p, "=")
		name, _ := url.QueryUnescape(rawName)
		if !secretName.MatchString(name) {
			continue
		}
		keep := ""
		if name == "access-key-id" && len(rawValue) > 8 {
			keep = rawValue[:4]
		}
		params[i] = rawName + "=" + keep + masked
	}
	return base + "?" + strings.Join(params, "&")
}

func isHTTP(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" }

// maskHTTP keeps the host of an HTTP URL: https://***@h.example:8443/*** (2 parameters).
func maskHTTP(u *url.URL) string {
	text := u.Scheme + "://"
	if u.User != nil {
		text += masked + "@"
	}
	text += u.Host
	if u.Path != "" && u.Path != "/" {
		text += "/" + masked
	}
	switch n := len(u.Query()); n {
	case 0:
	case 1:
		text += " (1 parameter)"
	default:
		text += fmt.Sprintf(" (%d parameters)", n)
	}
	return text
}

// rawDate finds {DATE} in a path as it was written.
var rawDate = regexp.MustCompile(`(?i:\{|%7b)DATE(?i:\}|%7d)`)

// Redactor returns a replacer that hides the credentials of conf wherever they
// turn up, such as in a destination's answer that repeats a header.
func Redactor(conf string) *strings.Replacer {
	u, err := ParseDestination(conf)
	if err != nil {
		return strings.NewReplacer()
	}
	var pairs []string
	hide := func(secret string) {
		if len(secret) >= 4 { // shorter ones would punch holes into ordinary words
			pairs = append(pairs, secret, masked)
		}
	}
	if password, ok := u.User.Password(); ok {
		hide(password)
	} else {
		hide(u.User.Username()) // a token, as many services take one
	}
	if u.Scheme == "sumo" || isHTTP(u) {
		for part := range strings.SplitSeq(u.Path, "{DATE}") { // which a request has filled in
			hide(part)
			hide((&url.URL{Path: part}).EscapedPath())
		}
		for _, part := range rawDate.Split(u.RawPath, -1) {
			hide(part)
		}
		hide(u.EscapedPath())
	}
	for name, values := range u.Query() {
		if !secretName.MatchString(name) || strings.EqualFold(name, "header_Content-Type") {
			continue
		}
		for _, v := range values {
			hide(v)
			hide(url.QueryEscape(v))
			if _, token, found := strings.Cut(v, " "); found { // "Bearer TOKEN"
				hide(token)
			}
		}
	}
	return strings.NewReplacer(pairs...)
}
