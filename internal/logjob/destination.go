package logjob

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"net/url"
	"regexp"
	"slices"
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
	if err != nil || u.Scheme == "" || u.Opaque != "" || !strings.HasPrefix(conf[len(u.Scheme):], "://") {
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

// wordMax is how long a word may be that a URL has as well. What is longer is hidden also
// where it stands alone.
const wordMax = 15

// Redactor returns a replacer that hides the credentials of conf wherever they
// turn up, such as in a destination's answer that repeats a header. Of http and https
// that is any part of the URL behind the host, as in MaskDestination.
func Redactor(conf string) *strings.Replacer {
	u, err := ParseDestination(conf)
	if err != nil {
		return strings.NewReplacer()
	}
	var secrets []string
	hide := func(texts ...string) {
		for _, secret := range texts {
			if len(secret) >= 4 { // shorter ones would punch holes into ordinary words
				secrets = append(secrets, secret)
			}
		}
	}
	password, ok := u.User.Password()
	if ok {
		hide(password)
	} else {
		hide(u.User.Username()) // a token, as many services take one
	}
	if u.User != nil {
		hide(base64.StdEncoding.EncodeToString([]byte(u.User.Username() + ":" + password))) // as either is sent
	}
	if u.Scheme == "sumo" || isHTTP(u) {
		for _, written := range []string{u.Path, (&url.URL{Path: u.Path}).EscapedPath(), u.RawPath} {
			for _, part := range rawDate.Split(written, -1) { // which a request has filled in
				hide(part)
				for segment := range strings.SplitSeq(part, "/") {
					if len(segment) > wordMax {
						hide(segment)
					}
				}
			}
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		rawName, raw, _ := strings.Cut(pair, "=")
		name, _ := url.QueryUnescape(rawName) // ParseDestination read both
		value, _ := url.QueryUnescape(raw)
		secret := secretName.MatchString(name) && !strings.EqualFold(name, "header_Content-Type")
		sent := isHTTP(u) && !strings.HasPrefix(name, "header_") // in the URL
		if secret || sent && len(value) > wordMax {
			hide(value, url.QueryEscape(value), raw)
		}
		if _, token, found := strings.Cut(value, " "); secret && found { // "Bearer TOKEN"
			hide(token)
		}
		switch {
		case sent && raw != "":
			hide(pair, name+"="+value)
		case sent && name != "": // a secret without a name
			hide("?"+pair, "&"+pair)
			if len(name) > wordMax {
				hide(name, rawName)
			}
		}
	}
	// The longest first: of one that begins as another does, the rest would stay.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	pairs := make([]string, 0, 2*len(secrets))
	for _, secret := range secrets {
		pairs = append(pairs, secret, masked)
	}
	return strings.NewReplacer(pairs...)
}
