package api

import (
	"cmp"
	"encoding/json"
	"net/url"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// workerView is a script in the newer of Cloudflare's two shapes.
type workerView struct {
	ID            string           `json:"id"` // the tag
	Name          string           `json:"name"`
	CreatedOn     timestamp        `json:"created_on"`
	UpdatedOn     timestamp        `json:"updated_on"`
	DeployedOn    *timestamp       `json:"deployed_on"` // null: never
	Logpush       bool             `json:"logpush"`
	Observability map[string]any   `json:"observability"`
	References    workerReferences `json:"references"`
	Subdomain     workerHosts      `json:"subdomain"`
	Tags          []string         `json:"tags"`
	TailConsumers []struct{}       `json:"tail_consumers"` // others are refused
}

// workerHosts tells where the gateway serves the script and its versions. A
// version is at its first eight digits, or its alias, before the suffix.
type workerHosts struct {
	Enabled          bool   `json:"enabled"`
	PreviewsEnabled  bool   `json:"previews_enabled"`
	URL              string `json:"url,omitempty"`
	PreviewURLSuffix string `json:"preview_url_suffix,omitempty"`

	scheme string // of both
}

// observabilityDefault is the setting of a script for which nobody has set it.
var observabilityDefault = json.RawMessage(`{"enabled":false}`)

func (s *Server) viewWorker(r *request, script deploy.Script, among ties) (workerView, error) {
	observability, set := script.Settings["observability"]
	if !set {
		observability = observabilityDefault
	}
	subdomain, err := s.subdomain(r, script.Name)
	return workerView{
		ID: script.Tag, Name: script.Name, CreatedOn: timestamp(script.CreatedOn), UpdatedOn: timestamp(script.ModifiedOn),
		DeployedOn: optional(script.DeployedOn), Logpush: script.Logpush.Enabled(), Observability: viewObservability(observability),
		References: among.of(script.Name), Subdomain: subdomain, Tags: orEmpty(script.Tags), TailConsumers: []struct{}{},
	}, err
}

func (s *Server) subdomain(r *request, script string) (workerHosts, error) {
	hosts, err := s.deps.Triggers.Hosts(r.ctx, r.account, script)
	if err != nil {
		return workerHosts{}, err
	}
	view := workerHosts{Enabled: !hosts.Disabled, PreviewsEnabled: !hosts.PreviewsDisabled}
	if s.gateway == nil {
		return view, nil
	}
	account, err := s.deps.Accounts.Account(r.ctx, r.account)
	host := script + "." + account.Subdomain + "." + s.gateway.Host
	view.scheme, view.URL = s.gateway.Scheme, (&url.URL{Scheme: s.gateway.Scheme, Host: host}).String()
	view.PreviewURLSuffix = "-" + host
	return view, err
}

// workerScript is the script that the path names or whose tag it has.
func (s *Server) workerScript(r *request) (deploy.Script, error) {
	return s.deps.Scripts.FindScript(r.ctx, r.account, r.param("worker"))
}

// workerOrders are what a list may be ordered by.
var workerOrders = map[string]func(a, b deploy.Script) int{
	"name":        func(a, b deploy.Script) int { return strings.Compare(a.Name, b.Name) },
	"created_on":  func(a, b deploy.Script) int { return a.CreatedOn.Compare(b.CreatedOn) },
	"updated_on":  func(a, b deploy.Script) int { return a.ModifiedOn.Compare(b.ModifiedOn) },
	"deployed_on": func(a, b deploy.Script) int { return a.DeployedOn.Compare(b.DeployedOn) },
}

func (s *Server) listWorkers(r *request) (any, error) {
	orderBy, order := cmp.Or(r.gin.Query("order_by"), "deployed_on"), cmp.Or(r.gin.Query("order"), "desc")
	compare, known := workerOrders[orderBy]
	if !known || order != "asc" && order != "desc" {
		return nil, errs.New(errs.Invalid, 0, "order_by is %q and order is %q: workers are ordered by deployed_on, updated_on, created_on or name, asc or desc", shown(orderBy), shown(order))
	}
	list, err := s.deps.Scripts.Scripts(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(list, func(a, b deploy.Script) int {
		if order == "desc" {
			a, b = b, a
		}
		return compare(a, b)
	})
	if list, err = paged(r, list); err != nil {
		return nil, err
	}
	among, err := s.ties(r)
	if err != nil {
		return nil, err
	}
	workers := make([]workerView, len(list))
	for i, script := range list {
		if workers[i], err = s.viewWorker(r, script, among); err != nil {
			return nil, err
		}
	}
	return workers, nil
}

func (s *Server) getWorker(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	return s.oneWorker(r, script)
}

func (s *Server) oneWorker(r *request, script deploy.Script) (any, error) {
	among, err := s.ties(r)
	if err != nil {
		return nil, err
	}
	return s.viewWorker(r, script, among)
}

// workerBody changes a script; what is absent or null stays, or gets its default in a PUT.
type workerBody struct {
	Name *string `json:"name"`
	scriptSettingsBody
	Subdomain *struct {
		Enabled         *bool `json:"enabled"`
		PreviewsEnabled *bool `json:"previews_enabled"`
	} `json:"subdomain"`
	// What clients send back of what they were given; it is not theirs to change.
	References json.RawMessage `json:"references"`
}

func (b *workerBody) hosts() deploy.HostsUpdate {
	if b.Subdomain == nil {
		return deploy.HostsUpdate{}
	}
	return deploy.HostsUpdate{Enabled: b.Subdomain.Enabled, PreviewsEnabled: b.Subdomain.PreviewsEnabled}
}

// switchHosts does nothing for an update that changes nothing.
func (s *Server) switchHosts(r *request, script string, u deploy.HostsUpdate) error {
	if u == (deploy.HostsUpdate{}) {
		return nil
	}
	_, err := s.deps.Triggers.UpdateHosts(r.ctx, r.account, script, u)
	return err
}

// createWorker makes a script that has no version yet.
func (s *Server) createWorker(r *request) (any, error) {
	var body workerBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Name == nil {
		return nil, errs.New(errs.Invalid, 0, "name is missing").At("/name")
	}
	if err := checkScriptName(*body.Name); err != nil {
		return nil, atPointer(err, "/name")
	}
	update, err := body.update()
	if err != nil {
		return nil, err
	}
	if err := s.deps.Scripts.CreateScript(r.ctx, r.account, *body.Name, update); err != nil {
		return nil, err
	}
	if err := s.switchHosts(r, *body.Name, body.hosts()); err != nil {
		return nil, err
	}
	script, err := s.deps.Scripts.Script(r.ctx, r.account, *body.Name)
	if err != nil {
		return nil, err
	}
	return s.oneWorker(r, script)
}

func (s *Server) patchWorker(r *request) (any, error) { return s.updateWorker(r, false) }

func (s *Server) putWorker(r *request) (any, error) { return s.updateWorker(r, true) }

func (s *Server) updateWorker(r *request, replace bool) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	var body workerBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Name != nil && *body.Name != script.Name {
		return nil, errs.New(errs.Invalid, 0, "name is %q: script %q cannot be renamed", shown(*body.Name), script.Name).At("/name")
	}
	update, err := body.update()
	if err != nil {
		return nil, err
	}
	if replace {
		if update.Tags == nil {
			update.Tags = &[]string{}
		}
		if update.Logpush == nil {
			update.Logpush = new(deploy.LogpushUnset)
		}
		if update.Settings == nil {
			update.Settings = map[string]json.RawMessage{"observability": json.RawMessage("null")}
		}
	}
	if !update.Empty() {
		if err := s.deps.Scripts.UpdateScript(r.ctx, r.account, script.Name, update); err != nil {
			return nil, err
		}
	}
	if err := s.switchHosts(r, script.Name, body.hosts()); err != nil {
		return nil, err
	}
	return s.getWorker(r)
}

func (s *Server) deleteWorker(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	return idView{script.Tag}, s.deps.Scripts.DeleteScript(r.ctx, r.account, script.Name, false)
}
