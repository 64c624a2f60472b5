package deploy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"

	"tidegate/internal/errs"
)

// Affinity says where the requests of a script carry what tells one client, or one
// object, from another: the key by which they are given a version, where the client
// sends none of its own. The first rule that finds a value gives the key. The zero
// Affinity is not valid: a script without rules has none.
type Affinity struct {
	Rules []AffinityRule `json:"rules"`
}

// AffinityRule is one place to look for a key. Source says which of Name, Segment and
// Prefix it has.
type AffinityRule struct {
	Source AffinitySource `json:"source"`
	// Name is that of the header, in any case, or of the cookie or the query parameter.
	Name string `json:"name,omitempty"`
	// Segment is the number of the path's segment that is the key, from 1.
	Segment int `json:"segment,omitempty"`
	// Prefix is a path of whole segments, such as /rooms/; the one after it is the key.
	Prefix string `json:"prefix,omitempty"`
	// Forward says whether the key goes on to the version, as
	// Cloudflare-Workers-Version-Key. Nil is no, and with Set: if the gateway made it.
	Forward *bool `json:"forward,omitempty"`
	// Set has the gateway give a cookie to clients that have none. Nil sets none.
	Set *AffinityCookieAttributes `json:"set,omitempty"`

	// unknown is why the rule says more than this program understands, and text the rule
	// as it was read then; both are empty for others.
	unknown, text string
}

// UnmarshalJSON also takes a rule with members that it does not know, from a newer
// control plane, but Validate refuses that: half of a rule may do the opposite of the
// whole.
func (r *AffinityRule) UnmarshalJSON(text []byte) error {
	type plain AffinityRule // without this method
	var p plain
	if err := json.Unmarshal(text, &p); err != nil {
		return err
	}
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err := strict.Decode(new(plain)); err != nil {
		p.unknown, p.text = strings.TrimPrefix(err.Error(), "json: "), string(text)
	}
	*r = AffinityRule(p)
	return nil
}

// MarshalJSON writes a rule with unknown members as it was read: a gateway that starts
// from its snapshot on disk must not take it for a shorter one.
func (r AffinityRule) MarshalJSON() ([]byte, error) {
	if r.text != "" {
		return []byte(r.text), nil
	}
	type plain AffinityRule // without this method
	return json.Marshal(plain(r))
}

// AffinitySource is a part of a request.
type AffinitySource string

// The parts of a request that may hold a key.
const (
	AffinityHeader   AffinitySource = "header"
	AffinityCookie   AffinitySource = "cookie"
	AffinityQuery    AffinitySource = "query"
	AffinityClientIP AffinitySource = "client_ip"
	AffinityPath     AffinitySource = "path"
)

// Bounds of rules. Each of them may be tried for every request.
const (
	AffinityRulesMax   = 10
	affinityTextMax    = 256
	affinitySegmentMax = 100
)

// affinityHeadersRefused are headers that cannot give a key, and why.
var affinityHeadersRefused = map[string]string{
	"host":                                 "all requests of a route may have the same one: it tells no clients apart",
	"cookie":                               `it changes whenever any cookie does: use the source "cookie" with the name of one`,
	"connection":                           "it is about one connection",
	"keep-alive":                           "it is about one connection",
	"proxy-connection":                     "it is about one connection",
	"te":                                   "it is about one connection",
	"trailer":                              "it is about one connection",
	"transfer-encoding":                    "it is about one connection",
	"upgrade":                              "it is about one connection",
	"cloudflare-workers-version-key":       "it gives the key by itself, before any rule",
	"cloudflare-workers-version-overrides": "it names a version by itself, before any rule",
}

// Validate returns an invalid *errs.Error that names the first member with a bad
// value.
func (a *Affinity) Validate() error {
	if len(a.Rules) == 0 || len(a.Rules) > AffinityRulesMax {
		return errs.New(errs.Invalid, 0, "rules has %d entries: it must have 1 to %d (to have none, delete the script's affinity)", len(a.Rules), AffinityRulesMax).At("/rules")
	}
	for i := range a.Rules {
		if member, why := a.Rules[i].check(); why != "" {
			return badRule(i, member, why)
		}
		for j := range i {
			if a.Rules[i].same(&a.Rules[j]) {
				return badRule(i, "", fmt.Sprintf("is the same as rules[%d]: it would never be reached", j))
			}
		}
		if a.Rules[i].Set != nil && i < len(a.Rules)-1 {
			return badRule(i, "set", "gives every client a key, so that the rules after it would never be reached: put this one last")
		}
	}
	return nil
}

func badRule(i int, member, why string) error {
	name, pointer := fmt.Sprintf("rules[%d]", i), fmt.Sprintf("/rules/%d", i)
	if member != "" {
		name, pointer = name+"."+member, pointer+memberPointer(member)
	}
	return errs.New(errs.Invalid, 0, "%s %s", name, why).At(pointer)
}

// memberPointer is the JSON pointer of a member such as set.path.
func memberPointer(member string) string { return "/" + strings.ReplaceAll(member, ".", "/") }

// Validate is that of Affinity, for a rule that stands alone.
func (r *AffinityRule) Validate() error {
	switch member, why := r.check(); {
	case why == "":
		return nil
	case member == "":
		return errs.New(errs.Invalid, 0, "the rule %s", why)
	default:
		return errs.New(errs.Invalid, 0, "%s %s", member, why).At(memberPointer(member))
	}
}

// check returns the first member with a bad value, empty for the rule as a whole, and
// what is wrong with it; why is empty for a good rule.
func (r *AffinityRule) check() (member, why string) {
	named := r.Source == AffinityHeader || r.Source == AffinityCookie || r.Source == AffinityQuery
	switch {
	case r.unknown != "":
		return "", fmt.Sprintf("has a member that is not known here, and is not followed in part: %s", r.unknown)
	case !named && r.Source != AffinityClientIP && r.Source != AffinityPath:
		return "source", fmt.Sprintf("is %.60q: it must be %q, %q, %q, %q or %q", r.Source,
			AffinityHeader, AffinityCookie, AffinityQuery, AffinityClientIP, AffinityPath)
	case !named && r.Name != "":
		return "name", fmt.Sprintf("does not go with the source %q", r.Source)
	case r.Source != AffinityPath && r.Segment != 0:
		return "segment", fmt.Sprintf("does not go with the source %q", r.Source)
	case r.Source != AffinityPath && r.Prefix != "":
		return "prefix", fmt.Sprintf("does not go with the source %q", r.Source)
	case r.Source != AffinityCookie && r.Set != nil:
		return "set", fmt.Sprintf("does not go with the source %q: the gateway gives out cookies only", r.Source)
	case named:
		if why := r.checkName(); why != "" || r.Set == nil {
			return "name", why
		}
		return r.checkSet()
	case r.Source == AffinityPath:
		return r.checkPath()
	}
	return "", ""
}

func (r *AffinityRule) checkName() (why string) {
	switch {
	case r.Name == "":
		return fmt.Sprintf("is missing: it must be that of a %s", r.Source)
	case len(r.Name) > affinityTextMax:
		return fmt.Sprintf("has %d bytes: at most %d are allowed", len(r.Name), affinityTextMax)
	case r.Source == AffinityQuery:
		if strings.ContainsFunc(r.Name, unicode.IsControl) {
			return fmt.Sprintf("is %.60q: it must have no control characters", r.Name)
		}
		return ""
	case strings.ContainsFunc(r.Name, notInToken):
		return fmt.Sprintf("is %.60q: the name of a %s has letters, digits and !#$%%&'*+-.^_`|~ only", r.Name, r.Source)
	case r.Source == AffinityHeader:
		if refused := affinityHeadersRefused[strings.ToLower(r.Name)]; refused != "" {
			return fmt.Sprintf("is %q, which cannot give a key: %s", r.Name, refused)
		}
	}
	return ""
}

// notInToken is true for what a token of RFC 9110, section 5.6.2, does not hold.
func notInToken(c rune) bool {
	return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

func (r *AffinityRule) checkPath() (member, why string) {
	switch {
	case r.Segment != 0 && r.Prefix != "":
		return "prefix", "is there beside segment: a rule has one of the two"
	case r.Segment == 0 && r.Prefix == "":
		return "segment", "is missing: a rule of the path has a segment, or a prefix"
	case r.Segment < 0 || r.Segment > affinitySegmentMax:
		return "segment", fmt.Sprintf("is %d: it must be from 1 to %d", r.Segment, affinitySegmentMax)
	case r.Prefix == "":
		return "", ""
	case len(r.Prefix) > affinityTextMax:
		return "prefix", fmt.Sprintf("has %d bytes: at most %d are allowed", len(r.Prefix), affinityTextMax)
	case r.Prefix[0] != '/' || r.Prefix[len(r.Prefix)-1] != '/':
		return "prefix", fmt.Sprintf("is %.60q: it must begin and end with a slash, such as /rooms/", r.Prefix)
	case strings.ContainsAny(r.Prefix, "?#%*") || strings.ContainsFunc(r.Prefix, unicode.IsControl):
		return "prefix", fmt.Sprintf("is %.60q: it must be a plain path, without ?, #, *, control characters and percent-encoding", r.Prefix)
	}
	return "", ""
}

// same reports whether both look at the same place.
func (r *AffinityRule) same(other *AffinityRule) bool {
	if r.Source == AffinityHeader && other.Source == AffinityHeader {
		return strings.EqualFold(r.Name, other.Name)
	}
	return r.Source == other.Source && r.Name == other.Name && r.Segment == other.Segment && r.Prefix == other.Prefix
}
