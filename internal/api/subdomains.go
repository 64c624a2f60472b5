package api

import (
	"regexp"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Cloudflare's codes of the question whether a subdomain is free.
const (
	codeSubdomainTaken = 10031
	codeSubdomainFree  = 10032
)

// subdomainName is a DNS label, as wrangler checks it too.
var subdomainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func checkSubdomain(name string) *errs.Error {
	if subdomainName.MatchString(name) {
		return nil
	}
	return errs.New(errs.Invalid, 0, "subdomain %q must have 1 to 63 lower-case letters, digits and dashes, with no dash at its ends", shown(name))
}

type subdomainView struct {
	Subdomain string `json:"subdomain"`
}

func (s *Server) getSubdomain(r *request) (any, error) {
	a, err := s.deps.Accounts.Account(r.ctx, r.account)
	return subdomainView{a.Subdomain}, err
}

func (s *Server) putSubdomain(r *request) (any, error) {
	var body subdomainView
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if err := checkSubdomain(body.Subdomain); err != nil {
		return nil, err.At("/subdomain")
	}
	return body, s.deps.Accounts.SetSubdomain(r.ctx, r.account, body.Subdomain)
}

// findSubdomain answers with an error whether a name is free or taken, as upstream
// does; only the caller's own name is a success.
func (s *Server) findSubdomain(r *request) (any, error) {
	name := r.param("name")
	if err := checkSubdomain(name); err != nil {
		return nil, err
	}
	owner, err := s.deps.Accounts.SubdomainOwner(r.ctx, name)
	switch {
	case errs.KindOf(err) == errs.NotFound:
		return nil, errs.New(errs.NotFound, codeSubdomainFree, "subdomain %q is free", name)
	case err != nil:
		return nil, err
	case owner.ID != r.account:
		return nil, errs.New(errs.Conflict, codeSubdomainTaken, "subdomain %q is taken: choose another one", name)
	}
	return subdomainView{name}, nil
}

type hostsView struct {
	Enabled         bool `json:"enabled"`
	PreviewsEnabled bool `json:"previews_enabled"`
}

func viewHosts(h deploy.Hosts) hostsView { return hostsView{!h.Disabled, !h.PreviewsDisabled} }

func (s *Server) getScriptSubdomain(r *request) (any, error) {
	hosts, err := s.deps.Triggers.Hosts(r.ctx, r.account, r.script())
	return viewHosts(hosts), err
}

const (
	// apiDateHeader chooses the semantics of the switches of a script's hosts.
	apiDateHeader = "Cloudflare-Workers-Script-Api-Date"
	// previewsFollowSince this date a request that does not name previews_enabled
	// sets it to enabled; before, it leaves it alone.
	previewsFollowSince = "2025-08-01"
)

func (s *Server) postScriptSubdomain(r *request) (any, error) {
	var body struct {
		Enabled         *bool `json:"enabled"`
		PreviewsEnabled *bool `json:"previews_enabled"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Enabled == nil {
		return nil, errs.New(errs.Invalid, 0, "enabled is missing: say true or false").At("/enabled")
	}
	date := r.gin.GetHeader(apiDateHeader)
	if _, err := time.Parse(time.DateOnly, date); err != nil && date != "" {
		return nil, errs.New(errs.Invalid, 0, "%s is %q: it must be a date such as %s", apiDateHeader, shown(date), previewsFollowSince)
	}
	if body.PreviewsEnabled == nil && date >= previewsFollowSince {
		body.PreviewsEnabled = body.Enabled
	}
	return s.updateHosts(r, deploy.HostsUpdate{Enabled: body.Enabled, PreviewsEnabled: body.PreviewsEnabled})
}

// deleteScriptSubdomain switches all of the script's own hosts off.
func (s *Server) deleteScriptSubdomain(r *request) (any, error) {
	off := false
	return s.updateHosts(r, deploy.HostsUpdate{Enabled: &off, PreviewsEnabled: &off})
}

func (s *Server) updateHosts(r *request, u deploy.HostsUpdate) (any, error) {
	hosts, err := s.deps.Triggers.UpdateHosts(r.ctx, r.account, r.script(), u)
	return viewHosts(hosts), err
}
