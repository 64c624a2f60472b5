package api

import (
	"encoding/json"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const codeSettingsUndeployed = 10214 // Cloudflare: a settings edit while the latest version is not deployed

// scriptSettingsView is what of a script is not versioned.
type scriptSettingsView struct {
	Logpush       bool           `json:"logpush"` // also true where nobody has said, because events leave then
	Tags          []string       `json:"tags"`
	TailConsumers []struct{}     `json:"tail_consumers"` // others are refused
	Observability map[string]any `json:"observability,omitempty"`
}

func viewScriptSettings(s deploy.Script) scriptSettingsView {
	return scriptSettingsView{
		Logpush: s.Logpush.Enabled(), Tags: orEmpty(s.Tags), TailConsumers: []struct{}{}, Observability: viewObservability(s.Settings["observability"]),
	}
}

func (s *Server) getScriptSettings(r *request) (any, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	return viewScriptSettings(script), err
}

// scriptSettingsBody is what a script says beside its versions; null leaves a member as it is.
type scriptSettingsBody struct {
	Tags                   []string          `json:"tags"`
	Logpush                *bool             `json:"logpush"`
	Observability          json.RawMessage   `json:"observability"`
	TailConsumers          []json.RawMessage `json:"tail_consumers"`
	StreamingTailConsumers []json.RawMessage `json:"streaming_tail_consumers"`
}

func (b *scriptSettingsBody) update() (deploy.ScriptUpdate, error) {
	var u deploy.ScriptUpdate
	if err := checkTelemetry(b.Observability, b.TailConsumers, b.StreamingTailConsumers); err != nil {
		return u, err
	}
	if b.Tags != nil {
		u.Tags = &b.Tags
	}
	u.Logpush = logpushSaid(b.Logpush)
	if b.Observability != nil && string(b.Observability) != "null" {
		u.Settings = map[string]json.RawMessage{"observability": b.Observability}
	}
	return u, checkTags(b.Tags)
}

func (s *Server) patchScriptSettings(r *request) (any, error) {
	var body scriptSettingsBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	update, err := body.update()
	if err != nil {
		return nil, err
	}
	if !update.Empty() {
		if err := s.deps.Scripts.UpdateScript(r.ctx, r.account, r.script(), update); err != nil {
			return nil, err
		}
	}
	return s.getScriptSettings(r)
}

// settingsView is a script's configuration: that of its newest version, and what
// is not versioned.
type settingsView struct {
	scriptSettingsView
	scriptRuntime
	Bindings    []bindingView      `json:"bindings"`
	Annotations deploy.Annotations `json:"annotations"`
	Placement   json.RawMessage    `json:"placement,omitempty"`
}

func (s *Server) getSettings(r *request) (any, error) {
	script, err := s.deps.Scripts.Script(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	newest, err := s.newest(r, r.script())
	if err != nil {
		return nil, err
	}
	view := settingsView{scriptSettingsView: viewScriptSettings(script), Bindings: views(bindingsOf(newest), viewBinding)}
	if newest == nil {
		newest = &deploy.Version{}
	}
	view.scriptRuntime, view.Annotations = viewScriptRuntime(*newest), newest.Annotations
	if newest.Worker != nil {
		view.Placement = newest.Worker.Kept["placement"]
	}
	return view, nil
}

// patchSettings changes the configuration of the newest version, which must be
// the one that serves: the result is a version of the same code that is deployed.
func (s *Server) patchSettings(r *request) (any, error) {
	text, err := r.settingsDocument()
	if err != nil {
		return nil, err
	}
	m, err := decodeMetadata(text, false)
	if err != nil {
		return nil, err
	}
	if m.MainModule != "" || m.BodyPart != "" {
		return nil, errs.New(errs.Invalid, 0, "settings do not change code: main_module and body_part cannot be part of them")
	}
	sent := sentWorker{keep: m.KeepBindings, strict: r.gin.Query("bindings_inherit") == "strict"}
	if err := inheritBare(m.Bindings); err != nil {
		return nil, err
	}
	if sent.bindings, err = decodeBindings(m.Bindings); err != nil {
		return nil, err
	}
	if m.Annotations != nil {
		if sent.annotations, err = m.Annotations.check("/annotations", r.script()); err != nil {
			return nil, err
		}
	}
	sent.annotations.TriggeredBy = triggeredByUpload
	codeUpdate, err := m.CodeUpdate.effective()
	if err != nil {
		return nil, err
	}
	migrations, err := m.migrations()
	if err != nil {
		return nil, err
	}
	_, err = s.upload(r, r.script(), false, func(newest *deploy.Version) (deploy.Upload, error) {
		v, contents, err := s.reconfigured(r, m, sent, newest)
		if err != nil {
			return deploy.Upload{}, err
		}
		u := deployed(v, v.Annotations.Message, codeUpdate)
		u.Serving, u.Settings, u.Migrations = codeSettingsUndeployed, m.settings(), migrations
		return u, s.check(r, v.Worker, contents)
	})
	if err != nil {
		return nil, err
	}
	return s.getSettings(r)
}

// settingsDocument is the JSON of the body, or of its part "settings".
func (r *request) settingsDocument() ([]byte, error) {
	if !isMultipart(r.gin.Request.Header) {
		return r.body()
	}
	f, err := r.form("settings")
	if err != nil {
		return nil, err
	}
	if f.document == nil || len(f.parts) > 0 {
		return nil, errs.New(errs.Invalid, 0, `the body must have one part, "settings"`)
	}
	return f.document, nil
}

// reconfigured is a version with the code of newest. Members that were not sent
// keep their value.
func (s *Server) reconfigured(r *request, m *metadata, sent sentWorker, newest *deploy.Version) (deploy.Version, map[string][]byte, error) {
	if err := wantWorker(r.script(), newest); err != nil {
		return deploy.Version{}, nil, err
	}
	w := *newest.Worker
	if m.Bindings != nil {
		from := earlier{script: r.script(), newest: newest, strict: sent.strict, find: func(id string) (deploy.Version, error) {
			return s.deps.Scripts.Version(r.ctx, r.account, r.script(), id)
		}}
		var err error
		if w.Bindings, err = from.resolve(sent.bindings, kept(sent.keep)); err != nil {
			return deploy.Version{}, nil, err
		}
	}
	m.configure(&w)
	contents, err := s.contents(r, &w)
	return deploy.Version{Worker: &w, Annotations: sent.annotations}, contents, err
}

// contents reads the modules of a worker, when it is the request's turn.
func (s *Server) contents(r *request, w *deploy.Worker) (map[string][]byte, error) {
	if err := r.takeTurn(); err != nil {
		return nil, err
	}
	contents := make(map[string][]byte, len(w.Modules))
	for _, m := range w.Modules {
		if _, ok := contents[m.SHA256]; ok {
			continue
		}
		content, err := s.deps.Scripts.Module(r.ctx, r.account, m.SHA256)
		if err != nil {
			return nil, err
		}
		contents[m.SHA256] = content
	}
	return contents, nil
}

type usageModelBody struct {
	UsageModel string `json:"usage_model"`
}

func (s *Server) getUsageModel(r *request) (any, error) {
	newest, err := s.newest(r, r.script())
	if err != nil {
		return nil, err
	}
	if newest == nil {
		newest = &deploy.Version{}
	}
	return usageModelBody{viewScriptRuntime(*newest).UsageModel}, nil
}

// putUsageModel takes the model that is so already: another one is a setting of a version.
func (s *Server) putUsageModel(r *request) (any, error) {
	var body usageModelBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	current, err := s.getUsageModel(r)
	if err != nil {
		return nil, err
	}
	if current != body {
		return nil, errs.New(errs.Invalid, 0, "usage_model %q cannot be set by itself: upload a version with it", shown(body.UsageModel)).At("/usage_model")
	}
	return current, nil
}
