package api

import (
	"cmp"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Codes of Cloudflare for what this older name of a script has not.
const (
	codeNoService     = 10090
	codeNoEnvironment = 10092
)

// production is the one environment that a script has; clients still ask for it.
const production = "production"

// lastDeployedFrom is the same whoever deployed: any other value makes wrangler ask
// whether it may overwrite what somebody changed in a dashboard, which ours cannot.
const lastDeployedFrom = "wrangler"

type serviceView struct {
	ID                 string            `json:"id"`
	CreatedOn          timestamp         `json:"created_on"`
	ModifiedOn         timestamp         `json:"modified_on"`
	DefaultEnvironment environmentView   `json:"default_environment"`
	Environments       []environmentName `json:"environments"`
}

type environmentName struct {
	Environment string    `json:"environment"`
	CreatedOn   timestamp `json:"created_on"`
	ModifiedOn  timestamp `json:"modified_on"`
}

type environmentView struct {
	environmentName
	Script serviceScript `json:"script"`
}

type serviceScript struct {
	ID                 string         `json:"id"`
	Tag                string         `json:"tag"`
	Tags               []string       `json:"tags"` // null when there are none
	ETag               string         `json:"etag,omitempty"`
	Handlers           []string       `json:"handlers"`
	LastDeployedFrom   string         `json:"last_deployed_from"`
	UsageModel         string         `json:"usage_model"`
	MigrationTag       string         `json:"migration_tag,omitempty"`
	CompatibilityDate  string         `json:"compatibility_date,omitempty"`
	CompatibilityFlags []string       `json:"compatibility_flags,omitempty"`
	Limits             *deploy.Limits `json:"limits,omitempty"`
	CreatedOn          timestamp      `json:"created_on"`
	ModifiedOn         timestamp      `json:"modified_on"`
}

// service is a script with the version that clients take for it: of those that
// serve the one with the greatest share, else the newest; nil if there is none.
type service struct {
	script  deploy.Script
	current *deploy.Version
}

func (s *Server) findService(r *request) (service, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	if err != nil {
		return service{}, asService(err)
	}
	current, err := s.serving(r, script.Name)
	return service{script, current}, err
}

// asService gives a missing script the code that clients of services know.
func asService(err error) error {
	if errs.KindOf(err) == errs.NotFound {
		return errs.New(errs.NotFound, codeNoService, "%v", err)
	}
	return err
}

// findEnvironment is findService for a path with an environment.
func (s *Server) findEnvironment(r *request) (service, error) {
	if name := r.param("environment"); name != production {
		return service{}, errs.New(errs.NotFound, codeNoEnvironment, "environment %q does not exist: a script has only %s", shown(name), production)
	}
	return s.findService(r)
}

func (f service) name() environmentName {
	return environmentName{production, timestamp(f.script.CreatedOn), timestamp(f.script.ModifiedOn)}
}

func (f service) environment() environmentView {
	view := serviceScript{
		ID: f.script.Name, Tag: f.script.Tag, Handlers: []string{}, LastDeployedFrom: lastDeployedFrom, UsageModel: usageModelDefault, MigrationTag: f.script.MigrationTag,
		CreatedOn: timestamp(f.script.CreatedOn), ModifiedOn: timestamp(f.script.ModifiedOn),
	}
	if len(f.script.Tags) > 0 {
		view.Tags = f.script.Tags
	}
	switch {
	case f.current == nil:
	case f.current.Worker == nil:
		view.Handlers = []string{"fetch"} // what an origin does
	default:
		w := f.current.Worker
		view.Handlers, view.ETag = orEmpty(w.Exports.Handlers), w.ETag
		view.CompatibilityDate, view.CompatibilityFlags = w.CompatibilityDate, w.CompatibilityFlags
		view.UsageModel = cmp.Or(w.UsageModel, usageModelDefault)
		if w.Limits != (deploy.Limits{}) {
			view.Limits = &w.Limits
		}
	}
	return environmentView{f.name(), view}
}

func (s *Server) getService(r *request) (any, error) {
	found, err := s.findService(r)
	if err != nil {
		return nil, err
	}
	return serviceView{
		ID: found.script.Name, CreatedOn: timestamp(found.script.CreatedOn), ModifiedOn: timestamp(found.script.ModifiedOn),
		DefaultEnvironment: found.environment(), Environments: []environmentName{found.name()},
	}, nil
}

func (s *Server) deleteService(r *request) (any, error) {
	view, err := s.deleteScript(r)
	return view, asService(err)
}

func (s *Server) getEnvironment(r *request) (any, error) {
	found, err := s.findEnvironment(r)
	if err != nil {
		return nil, err
	}
	return found.environment(), nil
}

func (s *Server) getEnvironmentBindings(r *request) (any, error) {
	found, err := s.findEnvironment(r)
	return views(bindingsOf(found.current), viewBinding), err
}

func (s *Server) getEnvironmentRoutes(r *request) (any, error) {
	found, err := s.findEnvironment(r)
	return viewRoutes(found.script), err
}

func (s *Server) getEnvironmentSubdomain(r *request) (any, error) {
	if _, err := s.findEnvironment(r); err != nil {
		return nil, err
	}
	return s.getScriptSubdomain(r)
}

type referencesView struct {
	Services       serviceReferences     `json:"services"`
	DurableObjects []objectReferenceView `json:"durable_objects"`
	// DispatchOutbounds are of dispatch namespaces, which do not exist here.
	DispatchOutbounds []struct{} `json:"dispatch_outbounds"`
}

type serviceReferences struct {
	Incoming []referenceView `json:"incoming"`
	Outgoing []referenceView `json:"outgoing"`
}

type referenceView struct {
	Name        string `json:"name"` // of the binding
	Service     string `json:"service"`
	Environment string `json:"environment"`
}

type objectReferenceView struct {
	referenceView
	NamespaceID   string `json:"durable_object_namespace_id"`
	NamespaceName string `json:"durable_object_namespace_name"`
}

func (s *Server) getReferences(r *request) (any, error) {
	found, err := s.deps.Scripts.References(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	view := func(use deploy.ServiceReference) referenceView {
		return referenceView{use.Binding, use.Script, production}
	}
	return referencesView{
		Services: serviceReferences{views(found.Incoming, view), views(found.Outgoing, view)},
		DurableObjects: views(found.DurableObjects, func(use deploy.DurableObjectReference) objectReferenceView {
			return objectReferenceView{
				referenceView: referenceView{use.Binding, use.Script, production},
				NamespaceID:   use.NamespaceID, NamespaceName: namespaceName(r.script(), use.ClassName),
			}
		}),
		DispatchOutbounds: []struct{}{},
	}, nil
}

// listTailConsumption answers which scripts hand their events to this one: none,
// because Tail Workers do not exist here.
func (s *Server) listTailConsumption(r *request) (any, error) {
	_, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	return []struct{}{}, err
}

// listNoNamespaces is a page of what does not exist here; wrangler asks for it
// before and after it deletes a script.
func (s *Server) listNoNamespaces(r *request) (any, error) {
	page, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return nil, err
	}
	perPage, err := r.intQuery("per_page", 20, 1, 1000)
	r.info = &resultInfo{Page: int(page), PerPage: int(perPage)}
	return []struct{}{}, err
}
