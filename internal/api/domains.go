package api

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// noCertificate stands where clients require the id of a certificate, which is the
// operator's to make and has none here.
const noCertificate = "00000000-0000-0000-0000-000000000000"

type domainView struct {
	ID              string `json:"id,omitempty"` // none before it is attached
	CertificateID   string `json:"cert_id"`
	Hostname        string `json:"hostname"`
	Service         string `json:"service"`
	Environment     string `json:"environment"`
	ZoneID          string `json:"zone_id"`
	ZoneName        string `json:"zone_name"`
	Enabled         bool   `json:"enabled"`
	PreviewsEnabled bool   `json:"previews_enabled"`
}

func viewDomain(d deploy.Domain) domainView {
	zone := zoneName(d.Hostname)
	return domainView{
		ID: d.ID, CertificateID: noCertificate, Hostname: d.Hostname, Service: d.Script, Environment: production,
		ZoneID: zoneID(d.AccountID, zone), ZoneName: zone, Enabled: true,
	}
}

// hostName is labels of a name, which need not be one that DNS would sell.
var hostName = regexp.MustCompile(`^([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$`)

// checkHostname accepts the name of one host, in lower case.
func checkHostname(name string) *errs.Error {
	if len(name) <= 253 && hostName.MatchString(name) {
		return nil
	}
	return errs.New(errs.Invalid, 0, "hostname %q must be the name of one host, such as shop.example.com", shown(name))
}

// checkZoneName refuses a zone that a host is not in. Ids of zones are not looked
// at: a project's configuration may have those of Cloudflare.
func checkZoneName(zone *string, host string) *errs.Error {
	if zone == nil || *zone == "" {
		return nil
	}
	name := strings.ToLower(*zone)
	if host == name || strings.HasSuffix(host, "."+name) {
		return nil
	}
	return errs.New(errs.Invalid, 0, "zone_name %q is not the domain of host %q, or above it", shown(*zone), shown(host))
}

// listDomains filters by what is asked for, in any combination.
func (s *Server) listDomains(r *request) (any, error) {
	list, err := s.deps.Triggers.Domains(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	shown := []domainView{}
	for _, d := range list {
		view := viewDomain(d)
		matches := true
		for name, value := range map[string]string{
			"hostname": view.Hostname, "service": view.Service, "environment": view.Environment, "zone_id": view.ZoneID, "zone_name": view.ZoneName,
		} {
			wanted := r.gin.Query(name)
			matches = matches && (wanted == "" || wanted == value)
		}
		if matches {
			shown = append(shown, view)
		}
	}
	return shown, nil
}

func (s *Server) getDomain(r *request) (any, error) {
	list, err := s.deps.Triggers.Domains(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		if d.ID == r.param("id") {
			return viewDomain(d), nil
		}
	}
	return nil, errs.New(errs.NotFound, 0, "domain %q does not exist", shown(r.param("id")))
}

func (s *Server) attachDomain(r *request) (any, error) {
	var body struct {
		Hostname    string  `json:"hostname"`
		Service     string  `json:"service"`
		Environment *string `json:"environment"`
		ZoneID      *string `json:"zone_id"`
		ZoneName    *string `json:"zone_name"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Environment != nil && *body.Environment != production {
		return nil, errs.New(errs.Invalid, codeNoEnvironment, "environment %q does not exist: a script has only %s", shown(*body.Environment), production).At("/environment")
	}
	if body.Service == "" {
		return nil, errs.New(errs.Invalid, 0, "service is missing: name the script").At("/service")
	}
	hostname := strings.ToLower(body.Hostname)
	if err := checkHostname(hostname); err != nil {
		return nil, err.At("/hostname")
	}
	if err := checkZoneName(body.ZoneName, hostname); err != nil {
		return nil, err.At("/zone_name")
	}
	d, err := s.deps.Triggers.AttachDomain(r.ctx, r.account, body.Service, hostname)
	return viewDomain(d), err
}

func (s *Server) deleteDomain(r *request) (any, error) {
	return idView{r.param("id")}, s.deps.Triggers.DeleteDomain(r.ctx, r.account, r.param("id"))
}

// domainOrigin is a custom domain as wrangler asks for it.
type domainOrigin struct {
	Hostname        string  `json:"hostname"`
	ZoneID          *string `json:"zone_id"`
	ZoneName        *string `json:"zone_name"`
	Enabled         *bool   `json:"enabled"`
	PreviewsEnabled *bool   `json:"previews_enabled"`
}

// checkOrigins returns the host names; at is the pointer of the list.
func checkOrigins(origins []domainOrigin, at string) ([]string, error) {
	if len(origins) > deploy.RoutesMax {
		return nil, errs.New(errs.Invalid, 0, "there are %d domains: at most %d are allowed", len(origins), deploy.RoutesMax).At(at)
	}
	names := make([]string, 0, len(origins))
	for i, origin := range origins {
		here := fmt.Sprintf("%s/%d", at, i)
		name := strings.ToLower(origin.Hostname)
		if err := checkHostname(name); err != nil {
			return nil, err.At(here + "/hostname")
		}
		if err := checkZoneName(origin.ZoneName, name); err != nil {
			return nil, err.At(here + "/zone_name")
		}
		switch {
		case slices.Contains(names, name):
			return nil, errs.New(errs.Invalid, 0, "hostname %q is repeated", name).At(here + "/hostname")
		case origin.Enabled != nil && !*origin.Enabled:
			return nil, errs.New(errs.Invalid, 0, "enabled is false for %q: a domain that does not serve is not supported, leave it out", name).At(here + "/enabled")
		case origin.PreviewsEnabled != nil && *origin.PreviewsEnabled:
			return nil, errs.New(errs.Invalid, 0, "previews_enabled is true for %q: previews on custom domains are not supported", name).At(here + "/previews_enabled")
		}
		names = append(names, name)
	}
	return names, nil
}

type updatedDomain struct {
	domainView
	Modified bool `json:"modified"` // it would move to another script
}

// domainChangeset says what putScriptDomains would do. Nothing conflicts, because
// there is no DNS of ours.
func (s *Server) domainChangeset(r *request) (any, error) {
	replace, err := r.boolQuery("replace_state")
	if err != nil {
		return nil, err
	}
	var origins []domainOrigin
	if err := r.decode(&origins); err != nil {
		return nil, err
	}
	wanted, err := checkOrigins(origins, "")
	if err != nil {
		return nil, err
	}
	if _, err := s.deps.Scripts.Script(r.ctx, r.account, r.script()); err != nil {
		return nil, err
	}
	list, err := s.deps.Triggers.Domains(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	added, removed, updated := []domainView{}, []domainView{}, []updatedDomain{}
	known := make(map[string]bool, len(list))
	for _, d := range list {
		known[d.Hostname] = true
		switch {
		case slices.Contains(wanted, d.Hostname):
			updated = append(updated, updatedDomain{viewDomain(d), d.Script != r.script()})
		case replace && d.Script == r.script():
			removed = append(removed, viewDomain(d))
		}
	}
	for _, name := range wanted {
		if !known[name] {
			added = append(added, viewDomain(deploy.Domain{AccountID: r.account, Hostname: name, Script: r.script()}))
		}
	}
	return struct {
		Added       []domainView    `json:"added"`
		Removed     []domainView    `json:"removed"`
		Updated     []updatedDomain `json:"updated"`
		Conflicting []domainView    `json:"conflicting"`
	}{added, removed, updated, []domainView{}}, nil
}

// putScriptDomains replaces the custom domains of a script.
func (s *Server) putScriptDomains(r *request) (any, error) {
	var body struct {
		Origins                   []domainOrigin `json:"origins"`
		OverrideExistingOrigin    bool           `json:"override_existing_origin"`
		OverrideScope             bool           `json:"override_scope"`               // a domain has no scope here
		OverrideExistingDNSRecord bool           `json:"override_existing_dns_record"` // there is no DNS to override
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Origins == nil {
		return nil, errs.New(errs.Invalid, 0, "origins is missing: it is the list of the script's domains").At("/origins")
	}
	names, err := checkOrigins(body.Origins, "/origins")
	if err != nil {
		return nil, err
	}
	if err := s.deps.Triggers.SetDomains(r.ctx, r.account, r.script(), names, body.OverrideExistingOrigin); err != nil {
		return nil, err
	}
	list, err := s.deps.Triggers.Domains(r.ctx, r.account)
	own := slices.DeleteFunc(list, func(d deploy.Domain) bool { return d.Script != r.script() })
	return views(own, viewDomain), err
}
