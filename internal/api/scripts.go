package api

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Bounds of what a script carries: every event repeats its tags.
const (
	tagsMax      = 8 // Cloudflare's bound
	tagCharsMax  = 63
	patternBytes = 500
)

type scriptView struct {
	ID         string      `json:"id"`
	Tag        string      `json:"tag"`
	CreatedOn  timestamp   `json:"created_on"`
	ModifiedOn timestamp   `json:"modified_on"`
	Logpush    bool        `json:"logpush"`
	Tags       []string    `json:"tags"`
	Routes     []routeView `json:"routes"`
	// MigrationTag is read here by older wranglers.
	MigrationTag string `json:"migration_tag,omitempty"`
}

type routeView struct {
	ID       string `json:"id"`
	Pattern  string `json:"pattern"`
	Script   string `json:"script"`
	ZoneID   string `json:"zone_id,omitempty"` // none for a route of every host
	ZoneName string `json:"zone_name,omitempty"`
}

func viewRoute(accountID, pattern, script string) routeView {
	view := routeView{ID: routeID(accountID, pattern), Pattern: pattern, Script: script}
	if name, ok := routeZone(pattern); ok {
		view.ZoneID, view.ZoneName = zoneID(accountID, name), name
	}
	return view
}

func viewScript(s deploy.Script) scriptView {
	return scriptView{
		ID: s.Name, Tag: s.Tag, CreatedOn: timestamp(s.CreatedOn), ModifiedOn: timestamp(s.ModifiedOn),
		Logpush: s.Logpush.Enabled(), Tags: orEmpty(s.Tags), Routes: viewRoutes(s), MigrationTag: s.MigrationTag,
	}
}

func viewRoutes(s deploy.Script) []routeView {
	return views(s.Routes, func(pattern string) routeView { return viewRoute(s.AccountID, pattern, s.Name) })
}

// orEmpty keeps null out of an answer.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func validTag(tag string) bool {
	return tag != "" && utf8.RuneCountInString(tag) <= tagCharsMax && !strings.ContainsFunc(tag, unicode.IsControl)
}

func (s *Server) listScripts(r *request) (any, error) {
	wanted, err := tagFilter(r.gin.Query("tags"))
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Scripts.Scripts(r.ctx, r.account)
	list = slices.DeleteFunc(list, func(script deploy.Script) bool {
		for tag, has := range wanted {
			if slices.Contains(script.Tags, tag) != has {
				return true
			}
		}
		return false
	})
	return views(list, viewScript), err
}

// tagFilter reads pairs such as team-a:yes,old:no: the tags that a script must have,
// and those that it must not have.
func tagFilter(text string) (map[string]bool, error) {
	wanted := make(map[string]bool)
	if text == "" {
		return wanted, nil
	}
	for pair := range strings.SplitSeq(text, ",") {
		colon := strings.LastIndexByte(pair, ':')
		if colon <= 0 || pair[colon+1:] != "yes" && pair[colon+1:] != "no" {
			return nil, errs.New(errs.Invalid, 0, "tags has %q: each part is a tag, a colon and yes or no", shown(pair))
		}
		wanted[pair[:colon]] = pair[colon+1:] == "yes"
	}
	return wanted, nil
}

func (s *Server) deleteScript(r *request) (any, error) {
	force, err := r.boolQuery("force")
	if err != nil {
		return nil, err
	}
	return idView{r.script()}, s.deps.Scripts.DeleteScript(r.ctx, r.account, r.script(), force)
}

func (s *Server) getRoutes(r *request) (any, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	return viewRoutes(script), err
}

func (s *Server) putRoutes(r *request) (any, error) {
	var body []routeBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body == nil {
		return nil, errs.New(errs.Invalid, 0, "the body is null: it must be an array")
	}
	if len(body) > deploy.RoutesMax {
		return nil, errs.New(errs.Invalid, 0, "the body has %d routes: at most %d are allowed", len(body), deploy.RoutesMax)
	}
	patterns := make([]string, len(body))
	seen := make(map[string]bool, len(body))
	for i, route := range body {
		pattern, err := route.check(fmt.Sprintf("/%d", i))
		if err != nil {
			return nil, err
		}
		if seen[pattern] {
			return nil, errs.New(errs.Invalid, 0, "route %q is repeated", pattern).At(fmt.Sprintf("/%d/pattern", i))
		}
		seen[pattern], patterns[i] = true, pattern
	}
	if err := s.deps.Scripts.SetRoutes(r.ctx, r.account, r.script(), patterns); err != nil {
		return nil, err
	}
	return s.getRoutes(r)
}

// routeBody is a route as wrangler's configuration has it.
type routeBody struct {
	Pattern      string  `json:"pattern"`
	ZoneID       *string `json:"zone_id"` // not looked at, see checkZoneName
	ZoneName     *string `json:"zone_name"`
	CustomDomain bool    `json:"custom_domain"`
}

// check returns the pattern in its one spelling; at is the pointer of the route.
func (b *routeBody) check(at string) (string, error) {
	if b.CustomDomain {
		return "", errs.New(errs.Invalid, 0, "custom_domain is true for %q: put custom domains to domains/records", shown(b.Pattern)).At(at + "/custom_domain")
	}
	pattern, err := checkRoute(b.Pattern)
	if err != nil {
		return "", atPointer(err, at+"/pattern")
	}
	route, err := deploy.ParseRoute(pattern)
	if err != nil {
		return "", err
	}
	if err := checkZoneName(b.ZoneName, route.Host); err != nil {
		return "", err.At(at + "/zone_name")
	}
	return pattern, nil
}

// checkRoute returns the pattern in its one spelling, so that one route is not two.
func checkRoute(pattern string) (string, error) {
	if len(pattern) > patternBytes || strings.ContainsFunc(pattern, unicode.IsControl) {
		return "", errs.New(errs.Invalid, 0, "route pattern %q must have at most %d bytes and no control characters", shown(pattern), patternBytes)
	}
	route, err := deploy.ParseRoute(pattern)
	if err != nil {
		return "", err
	}
	return route.String(), nil
}
