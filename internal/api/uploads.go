package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	// uploadTries of one upload that others overtake: each try resolves what it
	// inherits anew.
	uploadTries = 3

	// exportsBytesMax of a version. The snapshot has what the newest hundred versions
	// of every script export, so that one account could make it too large for all.
	exportsBytesMax = 32 << 10

	triggeredByUpload        = "upload"
	triggeredByVersionUpload = "version_upload"
	triggeredBySecret        = "secret"

	automaticDeployment = "Automatic deployment on upload."

	codeNoVersion = 10222 // Cloudflare: the Worker has no version
)

// etag is equal for equal code.
func etag(w *deploy.Worker) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q\n", w.MainModule, w.BodyPart)
	for _, m := range w.Modules {
		fmt.Fprintf(h, "%q %q %s\n", m.Name, m.ContentType, m.SHA256)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// sentWorker is a version as a client sent it.
type sentWorker struct {
	worker      deploy.Worker // without what is resolved and measured
	contents    map[string][]byte
	bindings    []sentBinding
	keep        []string
	strict      bool
	annotations deploy.Annotations
}

// sentWorker checks an upload's metadata and modules.
func (r *request) sentWorker(m *metadata, modules []deploy.Module, contents map[string][]byte, script string) (sentWorker, error) {
	sent := sentWorker{contents: contents, keep: m.KeepBindings, strict: r.gin.Query("bindings_inherit") == "strict"}
	var err error
	if sent.worker, err = m.worker(modules); err != nil {
		return sent, err
	}
	if sent.bindings, err = decodeBindings(m.Bindings); err != nil {
		return sent, err
	}
	if m.Annotations != nil {
		sent.annotations, err = m.Annotations.check("/annotations", script)
	}
	return sent, err
}

// readWorker reads a multipart upload of a version.
func (r *request) readWorker(script string, versioned bool) (*metadata, sentWorker, error) {
	f, err := r.form("metadata")
	if err != nil {
		return nil, sentWorker{}, err
	}
	if f.document == nil {
		return nil, sentWorker{}, errs.New(errs.Invalid, 0, `the upload has no part "metadata"`)
	}
	m, err := decodeMetadata(f.document, versioned)
	if err != nil {
		return nil, sentWorker{}, err
	}
	modules, contents, err := f.modules()
	if err != nil {
		return nil, sentWorker{}, err
	}
	sent, err := r.sentWorker(m, modules, contents, script)
	return m, sent, err
}

// version resolves what the upload takes over from earlier versions, and runs it once.
func (s *Server) version(r *request, script string, sent sentWorker, newest *deploy.Version) (deploy.Version, error) {
	w := sent.worker
	from := earlier{script: script, newest: newest, strict: sent.strict, find: func(id string) (deploy.Version, error) {
		return s.deps.Scripts.Version(r.ctx, r.account, script, id)
	}}
	var err error
	if w.Bindings, err = from.resolve(sent.bindings, kept(sent.keep)); err != nil {
		return deploy.Version{}, err
	}
	return deploy.Version{Worker: &w, Annotations: sent.annotations}, s.check(r, &w, sent.contents)
}

// check runs the code once and notes what it exports.
func (s *Server) check(r *request, w *deploy.Worker, contents map[string][]byte) (err error) {
	if s.deps.Runtime == nil {
		return errs.New(errs.Unavailable, 0, "this server has no Workers runtime: only origin versions can be uploaded")
	}
	if err := checkParts(w); err != nil {
		return err
	}
	if w.Exports, w.StartupTimeMs, err = s.deps.Runtime.Check(r.ctx, w, contents); err != nil {
		return err
	}
	return checkExported(w.Exports)
}

func checkExported(exports deploy.Exports) error {
	text, err := json.Marshal(exports)
	if err != nil {
		return err
	}
	if len(text) > exportsBytesMax {
		return errs.New(errs.Invalid, codeBadScript, "the names of what the script exports, with their methods, take %d bytes: at most %d are allowed", len(text), exportsBytesMax)
	}
	return nil
}

// newest returns the latest version of a script, nil when it has none.
func (s *Server) newest(r *request, script string) (*deploy.Version, error) {
	list, _, err := s.deps.Scripts.Versions(r.ctx, r.account, script, 1, 0)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return &list[0], nil
}

// upload stores what build makes of the newest version, which is nil when the
// script has none. When another upload comes first, build is asked again.
func (s *Server) upload(r *request, script string, create bool, build func(newest *deploy.Version) (deploy.Upload, error)) (deploy.Version, error) {
	for try := 1; ; try++ {
		newest, err := s.newest(r, script)
		if err != nil && (!create || errs.KindOf(err) != errs.NotFound) {
			return deploy.Version{}, err
		}
		u, err := build(unresolved(newest))
		if err != nil {
			return deploy.Version{}, err
		}
		if err := s.checkObjects(u); err != nil {
			return deploy.Version{}, err
		}
		if err := checkConfiguration(u.Version.Worker); err != nil {
			return deploy.Version{}, err
		}
		base := ""
		if newest != nil {
			base = newest.ID
		}
		u.Base, u.Create = &base, create
		v, err := s.deps.Scripts.Upload(r.ctx, r.account, script, u)
		if !overtaken(err) || try == uploadTries {
			return v, err
		}
	}
}

// checkConfiguration bounds what a version carries beside its modules. Each request
// that adds to it is small, but a version keeps what the one before had.
func checkConfiguration(w *deploy.Worker) error {
	configuration := *w
	configuration.Modules, configuration.Exports = nil, deploy.Exports{}
	text, err := json.Marshal(configuration)
	if err != nil {
		return err
	}
	if len(text) > documentBytesMax {
		return errs.New(errs.TooLarge, codeTooLarge, "the configuration of this version, with what it keeps of the one before, has %d bytes: at most %d are allowed", len(text), documentBytesMax)
	}
	return nil
}

// overtaken reports whether the script has another newest version meanwhile.
func overtaken(err error) bool {
	e, ok := errors.AsType[*errs.Error](err)
	return ok && e.Kind == errs.Conflict && e.Code == 0
}

// deployed makes an upload take all traffic.
func deployed(v deploy.Version, message string, codeUpdate deploy.CodeUpdate) deploy.Upload {
	return deploy.Upload{Version: v, Deploy: true, Deployment: deploy.Deployment{
		Annotations: deploy.Annotations{Message: message, TriggeredBy: v.Annotations.TriggeredBy}, CodeUpdate: codeUpdate,
	}}
}

// putScript uploads a version and deploys it at once.
func (s *Server) putScript(r *request) (any, error) {
	name := r.script()
	if err := checkScriptName(name); err != nil {
		return nil, err
	}
	m, sent, err := r.readWorker(name, false)
	if err != nil {
		return nil, err
	}
	codeUpdate, err := m.CodeUpdate.effective()
	if err != nil {
		return nil, err
	}
	migrations, err := m.migrations()
	if err != nil {
		return nil, err
	}
	sent.annotations.TriggeredBy = triggeredByUpload
	v, err := s.upload(r, name, true, func(newest *deploy.Version) (deploy.Upload, error) {
		v, err := s.version(r, name, sent, newest)
		u := deployed(v, automaticDeployment, codeUpdate)
		u.Contents, u.Settings, u.Migrations = sent.contents, m.settings(), migrations
		return u, err
	})
	if err != nil {
		return nil, err
	}
	return s.uploadedScript(r, name, v)
}

// uploadedScriptView answers an upload that was deployed.
type uploadedScriptView struct {
	scriptView
	ETag               string             `json:"etag"`
	Handlers           []string           `json:"handlers"`
	NamedHandlers      []namedHandlerView `json:"named_handlers"`
	CompatibilityDate  string             `json:"compatibility_date"`
	CompatibilityFlags []string           `json:"compatibility_flags"`
	UsageModel         string             `json:"usage_model"`
	HasModules         bool               `json:"has_modules"`
	HasAssets          bool               `json:"has_assets"`
	LastDeployedFrom   string             `json:"last_deployed_from"`
	StartupTimeMs      int64              `json:"startup_time_ms"`
	DeploymentID       string             `json:"deployment_id"` // the version's, without dashes
}

func (s *Server) uploadedScript(r *request, name string, v deploy.Version) (any, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, name)
	if err != nil {
		return nil, err
	}
	summary, runtime := viewScriptSummary(v), viewScriptRuntime(v)
	return uploadedScriptView{
		scriptView: viewScript(script), ETag: summary.ETag, Handlers: summary.Handlers, NamedHandlers: summary.NamedHandlers,
		CompatibilityDate: runtime.CompatibilityDate, CompatibilityFlags: runtime.CompatibilityFlags, UsageModel: runtime.UsageModel,
		HasModules: v.Worker.MainModule != "", LastDeployedFrom: v.Source, StartupTimeMs: v.Worker.StartupTimeMs,
		DeploymentID: strings.ReplaceAll(v.ID, "-", ""),
	}, nil
}

// postVersion uploads a version of a script that exists, and deploys nothing.
func (s *Server) postVersion(r *request) (any, error) {
	name := r.script()
	// Known before megabytes are read.
	if _, err := s.deps.Scripts.Script(r.ctx, r.account, name); err != nil {
		return nil, err
	}
	m, sent, err := r.readWorker(name, true)
	if err != nil {
		return nil, err
	}
	if m.BodyPart != "" {
		return nil, errs.New(errs.Invalid, codeBadScript, "body_part %q: service-worker syntax cannot be uploaded as a version, deploy the script instead", shown(m.BodyPart)).At("/body_part")
	}
	sent.annotations.TriggeredBy = triggeredByVersionUpload
	v, err := s.upload(r, name, false, func(newest *deploy.Version) (deploy.Upload, error) {
		v, err := s.version(r, name, sent, newest)
		return deploy.Upload{Version: v, Contents: sent.contents}, err
	})
	if err != nil {
		return nil, err
	}
	return viewVersion(v), nil
}

// putContent replaces the code of a script and leaves its configuration alone.
func (s *Server) putContent(r *request) (any, error) {
	name := r.script()
	m, sent, err := r.readWorker(name, false)
	if err != nil {
		return nil, err
	}
	migrations, err := m.migrations()
	if err != nil {
		return nil, err
	}
	sent.annotations.TriggeredBy = triggeredByUpload
	v, err := s.upload(r, name, false, func(newest *deploy.Version) (deploy.Upload, error) {
		if err := wantWorker(name, newest); err != nil {
			return deploy.Upload{}, err
		}
		w := *newest.Worker
		w.Modules = sent.worker.Modules
		if err := m.entry(&w); err != nil {
			return deploy.Upload{}, err
		}
		v := deploy.Version{Worker: &w, Annotations: sent.annotations}
		u := deployed(v, automaticDeployment, deploy.CodeUpdate{})
		u.Contents, u.Migrations = sent.contents, migrations
		return u, s.check(r, &w, sent.contents)
	})
	if err != nil {
		return nil, err
	}
	return s.uploadedScript(r, name, v)
}

// wantWorker refuses to change what is not there.
func wantWorker(script string, v *deploy.Version) error {
	switch {
	case v == nil:
		return errs.New(errs.NotFound, codeNoVersion, "script %q has no version yet: upload one first", script)
	case v.Worker == nil:
		return errs.New(errs.Invalid, 0, "version %s of script %q is an origin: it has no code and no bindings", v.ID, script)
	}
	return nil
}

// serving returns the version that most requests go to, or the newest when nothing
// is deployed.
func (s *Server) serving(r *request, script string) (*deploy.Version, error) {
	list, err := s.deps.Scripts.Deployments(r.ctx, r.account, script)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return s.newest(r, script)
	}
	most := list[0].Versions[0]
	for _, split := range list[0].Versions {
		if split.Percentage > most.Percentage {
			most = split
		}
	}
	v, err := s.deps.Scripts.Version(r.ctx, r.account, script, most.VersionID)
	return &v, err
}
