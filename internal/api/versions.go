package api

import (
	"cmp"
	"encoding/json"
	"mime"
	"net/http"
	"regexp"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// versionView has the shape that Cloudflare's clients read.
type versionView struct {
	ID          string             `json:"id"`
	Number      int64              `json:"number"`
	Metadata    versionMetadata    `json:"metadata"`
	Annotations deploy.Annotations `json:"annotations"`
	// Not in lists.
	Resources     *versionResources `json:"resources,omitempty"`
	StartupTimeMs *int64            `json:"startup_time_ms,omitempty"` // of a Workers version
}

type versionMetadata struct {
	CreatedOn   timestamp `json:"created_on"`
	ModifiedOn  timestamp `json:"modified_on"`
	Source      string    `json:"source"`
	AuthorID    string    `json:"author_id"`
	AuthorEmail string    `json:"author_email"`
	// The API's schema has one name, wrangler reads the other.
	HasPreview      bool           `json:"hasPreview"`
	HasPreviewSnake bool           `json:"has_preview"`
	Origin          *deploy.Origin `json:"origin,omitempty"`
}

type versionResources struct {
	Bindings      []bindingView `json:"bindings"` // an origin has none
	Script        scriptSummary `json:"script"`
	ScriptRuntime scriptRuntime `json:"script_runtime"`
}

type scriptSummary struct {
	ETag             string             `json:"etag,omitempty"`
	Handlers         []string           `json:"handlers"`
	NamedHandlers    []namedHandlerView `json:"named_handlers"`
	LastDeployedFrom string             `json:"last_deployed_from"`
	PlacementMode    string             `json:"placement_mode,omitempty"` // as it was sent
}

type namedHandlerView struct {
	Name     string   `json:"name"`
	Handlers []string `json:"handlers"`
}

type scriptRuntime struct {
	CompatibilityDate  string        `json:"compatibility_date,omitempty"`
	CompatibilityFlags []string      `json:"compatibility_flags"`
	UsageModel         string        `json:"usage_model"`
	Limits             deploy.Limits `json:"limits"`
	MigrationTag       string        `json:"migration_tag,omitempty"` // of the script when the version was uploaded
}

func viewScriptSummary(v deploy.Version) scriptSummary {
	if v.Worker == nil {
		return scriptSummary{Handlers: []string{"fetch"}, NamedHandlers: []namedHandlerView{}, LastDeployedFrom: v.Source}
	}
	return scriptSummary{
		PlacementMode: placementMode(v.Worker), ETag: v.Worker.ETag, Handlers: orEmpty(v.Worker.Exports.Handlers), LastDeployedFrom: v.Source,
		NamedHandlers: views(v.Worker.Exports.Named, func(e deploy.NamedExport) namedHandlerView {
			return namedHandlerView{e.Name, orEmpty(e.Handlers)}
		}),
	}
}

// placementMode is the mode of a placement that has one: clients read it there.
func placementMode(w *deploy.Worker) string {
	var placement struct {
		Mode string `json:"mode"`
	}
	if json.Unmarshal(w.Kept["placement"], &placement) != nil {
		return "" // nobody here holds it to a shape
	}
	return placement.Mode
}

const usageModelDefault = "standard"

// usageModels are how Cloudflare may bill; they change nothing here.
var usageModels = []string{usageModelDefault, "bundled", "unbound"}

func viewScriptRuntime(v deploy.Version) scriptRuntime {
	view := scriptRuntime{CompatibilityFlags: []string{}, UsageModel: usageModelDefault}
	if w := v.Worker; w != nil {
		view.CompatibilityDate, view.CompatibilityFlags, view.Limits = w.CompatibilityDate, orEmpty(w.CompatibilityFlags), w.Limits
		view.MigrationTag = w.MigrationTag
		view.UsageModel = cmp.Or(w.UsageModel, usageModelDefault)
	}
	return view
}

func viewListedVersion(v deploy.Version) versionView {
	preview := !v.HasDurableObjects() // as upstream: a preview would be a second version of its objects
	return versionView{
		ID: v.ID, Number: v.Number, Annotations: v.Annotations,
		Metadata: versionMetadata{
			CreatedOn: timestamp(v.CreatedOn), ModifiedOn: timestamp(v.CreatedOn), // immutable
			Source: v.Source, AuthorID: v.AuthorID, AuthorEmail: v.AuthorEmail,
			HasPreview: preview, HasPreviewSnake: preview, Origin: v.Origin,
		},
	}
}

func viewVersion(v deploy.Version) versionView {
	view := viewListedVersion(v)
	view.Resources = &versionResources{
		Bindings:      views(bindingsOf(&v), viewBinding),
		Script:        viewScriptSummary(v),
		ScriptRuntime: viewScriptRuntime(v),
	}
	if v.Worker != nil {
		view.StartupTimeMs = &v.Worker.StartupTimeMs
	}
	return view
}

type listedVersions struct {
	Items []versionView `json:"items"`
}

func (s *Server) listVersions(r *request) (any, error) {
	page, perPage, err := r.page()
	if err != nil {
		return nil, err
	}
	deployable, err := r.boolQuery("deployable")
	if err != nil {
		return nil, err
	}
	if deployable {
		list, _, err := s.deps.Scripts.Versions(r.ctx, r.account, r.script(), deploy.DeployableVersions, 0)
		if err != nil {
			return nil, err
		}
		list, err = onePage(r, list)
		return listedVersions{views(list, viewListedVersion)}, err
	}
	list, total, err := s.deps.Scripts.Versions(r.ctx, r.account, r.script(), perPage, (page-1)*perPage)
	if err != nil {
		return nil, err
	}
	r.info = &resultInfo{Page: page, PerPage: perPage, Count: len(list), TotalCount: total}
	return listedVersions{views(list, viewListedVersion)}, nil
}

func (s *Server) getVersion(r *request) (any, error) {
	v, err := s.deps.Scripts.Version(r.ctx, r.account, r.script(), r.param("id"))
	return viewVersion(v), err
}

// versionBody is the upload of an origin version.
type versionBody struct {
	Metadata *struct {
		Origin      *originBody      `json:"origin"`
		Annotations *annotationsBody `json:"annotations"`
	} `json:"metadata"`
}

type annotationsBody struct {
	Message     *string `json:"workers/message"`
	Tag         *string `json:"workers/tag"`
	Alias       *string `json:"workers/alias"`
	TriggeredBy *string `json:"workers/triggered_by"` // the server's to set
}

// createVersion uploads modules as multipart/form-data, or names an origin as JSON.
func (s *Server) createVersion(r *request) (any, error) {
	script := r.script()
	if err := checkScriptName(script); err != nil {
		return nil, err
	}
	if isMultipart(r.gin.Request.Header) {
		return s.postVersion(r)
	}
	if err := wantJSON(r.gin.Request.Header); err != nil {
		return nil, err
	}
	var body versionBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Metadata == nil || body.Metadata.Origin == nil {
		return nil, errs.New(errs.Invalid, 0, "metadata.origin is missing: name the backend's URL").At("/metadata/origin")
	}
	origin, err := body.Metadata.Origin.check(place{}.member("metadata").member("origin"))
	if err != nil {
		return nil, err
	}
	v := deploy.Version{Origin: origin}
	if body.Metadata.Annotations != nil {
		annotations, err := body.Metadata.Annotations.check("/metadata/annotations", script)
		if err != nil {
			return nil, err
		}
		v.Annotations = annotations
	}
	v.Annotations.TriggeredBy = triggeredByVersionUpload
	v, err = s.deps.Scripts.CreateVersion(r.ctx, r.account, script, v)
	return viewVersion(v), err
}

func wantJSON(header http.Header) error {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return errs.New(errs.Invalid, 0, "Content-Type %q is not supported: upload modules as multipart/form-data, or an origin as application/json", shown(header.Get("Content-Type")))
	}
	return nil
}

// scriptName is what may stand in a host name's first label. Cloudflare's rule
// allows a dash at either end; a label does not.
var scriptName = regexp.MustCompile(`^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$`)

func checkScriptName(name string) error {
	if len(name) > deploy.ScriptNameCharsMax || !scriptName.MatchString(name) {
		return errs.New(errs.Invalid, 0, "script name %q must have 1 to %d lower-case letters, digits, dashes and underscores, with no dash at its ends",
			shown(name), deploy.ScriptNameCharsMax)
	}
	return nil
}

var aliasName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// check applies Cloudflare's rules; at is the pointer of the annotations.
func (a *annotationsBody) check(at, script string) (deploy.Annotations, error) {
	var out deploy.Annotations
	if a.TriggeredBy != nil {
		return out, errs.New(errs.Invalid, 0, "workers/triggered_by %q cannot be sent: the server sets it", shown(*a.TriggeredBy)).At(at + "/workers~1triggered_by")
	}
	if a.Message != nil {
		out.Message = cutMessage(*a.Message)
	}
	if a.Tag != nil {
		if len(*a.Tag) > deploy.TagBytesMax {
			return out, errs.New(errs.Invalid, 0, "workers/tag %q has %d bytes: at most %d are allowed", shown(*a.Tag), len(*a.Tag), deploy.TagBytesMax).At(at + "/workers~1tag")
		}
		out.Tag = *a.Tag
	}
	if a.Alias != nil {
		if !aliasName.MatchString(*a.Alias) || len(*a.Alias)+1+len(script) > deploy.ScriptNameCharsMax {
			return out, errs.New(errs.Invalid, 0, "workers/alias %q must begin with a lower-case letter, go on with such letters, digits and dashes, and have at most %d characters together with -%s",
				shown(*a.Alias), deploy.ScriptNameCharsMax, script).At(at + "/workers~1alias")
		}
		out.Alias = *a.Alias
	}
	return out, nil
}

// cutMessage cuts at a rune's border; upstream cuts long messages too.
func cutMessage(message string) string {
	if len(message) <= deploy.MessageBytesMax {
		return message
	}
	end := deploy.MessageBytesMax
	for !utf8.RuneStart(message[end]) {
		end--
	}
	return message[:end]
}
