package api

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Bounds of what a script carries: every event repeats its tags, and every
// gateway holds its routes.
const (
	tagsMax      = 8 // Cloudflare's bound
	tagCharsMax  = 63
	routesMax    = 100
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
}

type routeView struct {
	Pattern string `json:"pattern"`
	Script  string `json:"script"`
}

func viewScript(s deploy.Script) scriptView {
	return scriptView{
		ID: s.Name, Tag: s.Tag, CreatedOn: timestamp(s.CreatedOn), ModifiedOn: timestamp(s.ModifiedOn),
		Logpush: s.Logpush, Tags: orEmpty(s.Tags), Routes: viewRoutes(s),
	}
}

func viewRoutes(s deploy.Script) []routeView {
	return views(s.Routes, func(pattern string) routeView { return routeView{pattern, s.Name} })
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
	list, err := s.deps.Scripts.Scripts(r.ctx, r.account)
	return views(list, viewScript), err
}

func (s *Server) deleteScript(r *request) (any, error) {
	return idView{r.script()}, s.deps.Scripts.DeleteScript(r.ctx, r.account, r.script())
}

func (s *Server) getRoutes(r *request) (any, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	return viewRoutes(script), err
}

func (s *Server) putRoutes(r *request) (any, error) {
	var body []struct {
		Pattern string `json:"pattern"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body == nil {
		return nil, errs.New(errs.Invalid, 0, "the body is null: it must be an array")
	}
	if len(body) > routesMax {
		return nil, errs.New(errs.Invalid, 0, "the body has %d routes: at most %d are allowed", len(body), routesMax)
	}
	patterns := make([]string, len(body))
	seen := make(map[string]bool, len(body))
	for i, route := range body {
		pattern, err := checkRoute(route.Pattern, r.token)
		if err == nil && seen[pattern] {
			err = errs.New(errs.Invalid, 0, "route %q is repeated", pattern)
		}
		if err != nil {
			return nil, atPointer(err, fmt.Sprintf("/%d/pattern", i))
		}
		seen[pattern], patterns[i] = true, pattern
	}
	if err := s.deps.Scripts.SetRoutes(r.ctx, r.account, r.script(), patterns); err != nil {
		return nil, err
	}
	return s.getRoutes(r)
}

// checkRoute returns the pattern in its one spelling, so that one route is not two.
func checkRoute(pattern string, token control.Token) (string, error) {
	if len(pattern) > patternBytes || strings.ContainsFunc(pattern, unicode.IsControl) {
		return "", errs.New(errs.Invalid, 0, "route pattern %q must have at most %d bytes and no control characters", shown(pattern), patternBytes)
	}
	route, err := deploy.ParseRoute(pattern)
	if err != nil {
		return "", err
	}
	if route.EveryHost() && !token.Operator() {
		return "", errs.New(errs.Forbidden, 0, "route pattern %q matches every host, also those of other accounts: only the operator's token may set it", pattern)
	}
	return route.String(), nil
}
