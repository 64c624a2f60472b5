package gateway

import (
	"strings"

	"github.com/dunglas/httpsfv"
)

// Request headers that choose a version, in canonical form.
const (
	headerOverrides = "Cloudflare-Workers-Version-Overrides"
	headerKey       = "Cloudflare-Workers-Version-Key"
)

// overrideFor returns the version id that the override header asks for script,
// or "". The header is a Dictionary of RFC 8941 from script names to version ids.
// What is not well-formed is ignored without an error, as upstream does, yet not
// before it has been read leniently: script names may begin with a digit and
// people forget the quotes, neither of which the RFC allows.
func overrideFor(values []string, script string) string {
	if len(values) == 0 {
		return "" // fast path: hardly a request has one
	}
	dict, err := httpsfv.UnmarshalDictionary(values)
	if err != nil {
		return lenientOverrideFor(values, script)
	}
	member, ok := dict.Get(script)
	if !ok {
		return ""
	}
	item, ok := member.(httpsfv.Item)
	if !ok {
		return ""
	}
	switch id := item.Value.(type) {
	case string:
		return id
	case httpsfv.Token:
		return string(id)
	}
	return ""
}

// lenientOverrideFor reads name=value or name="value" members between commas,
// parameters ignored. The last member of a name wins, as in the RFC. Version ids
// hold no commas and no escapes, so neither is looked for.
func lenientOverrideFor(values []string, script string) string {
	id := ""
	for _, value := range values {
		for member := range strings.SplitSeq(value, ",") {
			name, rest, ok := strings.Cut(member, "=")
			if !ok || !strings.EqualFold(strings.Trim(name, " \t\""), script) {
				continue
			}
			rest, _, _ = strings.Cut(rest, ";")
			id = strings.Trim(rest, " \t\"'")
		}
	}
	return id
}
