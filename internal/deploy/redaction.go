package deploy

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"tidegate/internal/errs"
)

// Redaction says what a gateway takes out of trace events, beside what it always takes
// out, before anybody gets them. An account may have one for all of its scripts, and a
// script one that adds to it. The zero Redaction takes nothing out.
type Redaction struct {
	// Headers are names of request headers, in any case, whose values are taken out, and
	// QueryParameters those of parameters in URLs.
	Headers         []string `json:"headers,omitempty"`
	QueryParameters []string `json:"query_parameters,omitempty"`
	// Paths begin with a slash and have whole segments, such as /users/*/orders: of a URL
	// whose path begins so, the segments that stand where a * does are taken out.
	Paths []string `json:"paths,omitempty"`
	// Patterns are regular expressions in RE2's syntax, and BuiltIns names of what is known
	// here; what they match is taken out of URLs, header values, logs and exceptions.
	Patterns []string           `json:"patterns,omitempty"`
	BuiltIns []RedactionBuiltIn `json:"built_ins,omitempty"`
	// Unknown are the names of members that are none of these: kinds of rules of a newer
	// control plane. Who cannot keep a rule must not act as if there were none, so they
	// are noted, and passed on with a copy of the rules. Nobody can ask for them.
	Unknown []string `json:"unknown,omitempty"`
}

// UnmarshalJSON notes members that are not known.
func (r *Redaction) UnmarshalJSON(text []byte) error {
	type known Redaction // without this method
	var rules known
	if err := json.Unmarshal(text, &rules); err != nil {
		return err
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		// A name in other capitals is taken for the member, as encoding/json does.
		if !slices.ContainsFunc(redactionMembers, func(member string) bool { return strings.EqualFold(member, name) }) {
			rules.Unknown = join(rules.Unknown, []string{name})
		}
	}
	*r = Redaction(rules)
	return nil
}

// redactionMembers are the names of the members of a Redaction.
var redactionMembers = []string{"headers", "query_parameters", "paths", "patterns", "built_ins", "unknown"}

// RedactionBuiltIn is a kind of text that gateways recognise.
type RedactionBuiltIn string

// What gateways recognise.
const (
	RedactTokens      RedactionBuiltIn = "tokens"       // after Bearer, Basic or Token; JSON web tokens
	RedactEmails      RedactionBuiltIn = "emails"       // e-mail addresses
	RedactCreditCards RedactionBuiltIn = "credit_cards" // numbers of the large issuers whose check digit is right
	RedactLongIDs     RedactionBuiltIn = "long_ids"     // as Cloudflare takes them out of URLs for Tail Workers
)

// RedactionBuiltIns are all of them.
var RedactionBuiltIns = []RedactionBuiltIn{RedactTokens, RedactEmails, RedactCreditCards, RedactLongIDs}

// Bounds of one set of rules. Each pattern is tried on every text of an event.
const (
	redactionNamesMax    = 50
	redactionPathsMax    = 20
	redactionPatternsMax = 20
	redactionTextMax     = 256
)

// With returns the rules of both, those of r first.
func (r Redaction) With(other Redaction) Redaction {
	return Redaction{
		Headers: join(r.Headers, other.Headers), QueryParameters: join(r.QueryParameters, other.QueryParameters),
		Paths: join(r.Paths, other.Paths), Patterns: join(r.Patterns, other.Patterns), BuiltIns: join(r.BuiltIns, other.BuiltIns), Unknown: join(r.Unknown, other.Unknown),
	}
}

func join[T comparable](a, b []T) []T {
	var list []T
	for _, x := range slices.Concat(a, b) {
		if !slices.Contains(list, x) {
			list = append(list, x)
		}
	}
	return list
}

// Empty reports whether nothing is taken out.
func (r *Redaction) Empty() bool {
	return len(r.Headers)+len(r.QueryParameters)+len(r.Paths)+len(r.Patterns)+len(r.BuiltIns)+len(r.Unknown) == 0
}

// Equal reports whether both have the same rules in the same order.
func (r *Redaction) Equal(other *Redaction) bool {
	return slices.Equal(r.Headers, other.Headers) && slices.Equal(r.QueryParameters, other.QueryParameters) &&
		slices.Equal(r.Paths, other.Paths) && slices.Equal(r.Patterns, other.Patterns) && slices.Equal(r.BuiltIns, other.BuiltIns) &&
		slices.Equal(r.Unknown, other.Unknown)
}

// Validate returns an invalid *errs.Error that names the first member with a bad value.
func (r *Redaction) Validate() error {
	if r.Empty() {
		return errs.New(errs.Invalid, 0, "the redaction has no rule: name headers, query_parameters, paths, patterns or built_ins (to have none, delete it)")
	}
	if len(r.Unknown) > 0 {
		return errs.New(errs.Invalid, 0, "the redaction has %.60q, which is not known here: its members are headers, query_parameters, paths, patterns and built_ins", r.Unknown[0])
	}
	for _, err := range []error{
		eachRule("headers", r.Headers, redactionNamesMax, badHeaderName),
		eachRule("query_parameters", r.QueryParameters, redactionNamesMax, badParameterName),
		eachRule("paths", r.Paths, redactionPathsMax, badRedactionPath),
		eachRule("patterns", r.Patterns, redactionPatternsMax, badPattern),
		eachRule("built_ins", r.BuiltIns, len(RedactionBuiltIns), badBuiltIn),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

func eachRule[T ~string](member string, list []T, most int, bad func(string) string) error {
	if len(list) > most {
		return errs.New(errs.Invalid, 0, "%s has %d entries: at most %d are allowed", member, len(list), most).At("/" + member)
	}
	for i, x := range list {
		why := bad(string(x))
		switch {
		case x == "":
			why = "is empty"
		case len(x) > redactionTextMax:
			why = fmt.Sprintf("has %d bytes: at most %d are allowed", len(x), redactionTextMax)
		case slices.Index(list, x) < i:
			why = fmt.Sprintf("is the same as %s[%d]", member, slices.Index(list, x))
		}
		if why != "" {
			return errs.New(errs.Invalid, 0, "%s[%d] %s", member, i, why).At(fmt.Sprintf("/%s/%d", member, i))
		}
	}
	return nil
}

func badHeaderName(name string) string {
	if strings.ContainsFunc(name, notInToken) {
		return fmt.Sprintf("is %.60q: the name of a header has letters, digits and !#$%%&'*+-.^_`|~ only", name)
	}
	return ""
}

func badParameterName(name string) string {
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Sprintf("is %.60q: it must have no control characters", name)
	}
	return ""
}

func badRedactionPath(path string) string {
	switch {
	case path == "" || path[0] != '/':
		return fmt.Sprintf("is %.60q: it must begin with a slash, such as /users/*", path)
	case strings.ContainsAny(path, "?#%") || strings.ContainsFunc(path, unicode.IsControl):
		return fmt.Sprintf("is %.60q: it must be a plain path, without ?, #, control characters and percent-encoding", path)
	}
	stars := 0
	for segment := range strings.SplitSeq(path[1:], "/") {
		switch {
		case segment == "*":
			stars++
		case segment == "":
			return fmt.Sprintf("is %.60q: it must have no empty segment, also not at its end", path)
		case strings.Contains(segment, "*"):
			return fmt.Sprintf("is %.60q: a * stands for a whole segment", path)
		}
	}
	if stars == 0 {
		return fmt.Sprintf("is %.60q: it must have a * for each segment that is to be taken out", path)
	}
	return ""
}

func badPattern(pattern string) string {
	compiled, err := regexp.Compile(pattern)
	switch {
	case err != nil:
		return fmt.Sprintf("is no regular expression of RE2: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	case compiled.MatchString(""):
		return fmt.Sprintf("is %.60q, which matches the empty text, and so every place in every text", pattern)
	}
	return ""
}

func badBuiltIn(name string) string {
	if !slices.Contains(RedactionBuiltIns, RedactionBuiltIn(name)) {
		return fmt.Sprintf("is %.60q: it must be one of %q", name, RedactionBuiltIns)
	}
	return ""
}
