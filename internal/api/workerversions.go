package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// workerVersionView is a version in the newer of Cloudflare's two shapes.
type workerVersionView struct {
	ID          string             `json:"id"`
	Number      int64              `json:"number"`
	CreatedOn   timestamp          `json:"created_on"`
	Source      string             `json:"source"`
	AuthorEmail string             `json:"author_email"`
	Annotations deploy.Annotations `json:"annotations"`
	URLs        []string           `json:"urls"`
	Bindings    []bindingView      `json:"bindings"`
	scriptRuntime
	MainModule    string          `json:"main_module,omitempty"`
	Modules       []moduleView    `json:"modules,omitempty"` // when they are asked for
	StartupTimeMs *int64          `json:"startup_time_ms,omitempty"`
	Placement     json.RawMessage `json:"placement,omitempty"`
	Dependencies  json.RawMessage `json:"package_dependencies,omitempty"`
	Exports       json.RawMessage `json:"exports,omitempty"` // as they were declared
	CacheOptions  json.RawMessage `json:"cache_options,omitempty"`
	Origin        *deploy.Origin  `json:"origin,omitempty"`
}

type moduleView struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type"`
	Content     []byte `json:"content_base64"`
}

func viewWorkerVersion(v deploy.Version, at workerHosts) workerVersionView {
	view := workerVersionView{
		ID: v.ID, Number: v.Number, CreatedOn: timestamp(v.CreatedOn), Source: v.Source, AuthorEmail: v.AuthorEmail, Annotations: v.Annotations,
		URLs: at.versionURLs(v), Bindings: views(bindingsOf(&v), viewBinding), scriptRuntime: viewScriptRuntime(v), Origin: v.Origin,
	}
	if w := v.Worker; w != nil {
		view.MainModule, view.StartupTimeMs = w.MainModule, &w.StartupTimeMs
		view.Placement, view.Dependencies = w.Kept["placement"], w.Kept["package_dependencies"]
		view.Exports, view.CacheOptions = w.Kept["exports"], w.Kept["cache_options"]
	}
	return view
}

// previewDigits of a version's id name it in its host.
const previewDigits = 8

// versionURLs are the preview hosts of a version.
func (at workerHosts) versionURLs(v deploy.Version) []string {
	urls := []string{}
	if !at.PreviewsEnabled || at.URL == "" || v.HasDurableObjects() {
		return urls
	}
	for _, label := range []string{v.ID[:previewDigits], v.Annotations.Alias} {
		if label != "" {
			urls = append(urls, at.scheme+"://"+label+at.PreviewURLSuffix)
		}
	}
	return urls
}

func (s *Server) versionView(r *request, script string, v deploy.Version) (any, error) {
	at, err := s.subdomain(r, script)
	return viewWorkerVersion(v, at), err
}

func (s *Server) listWorkerVersions(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	page, perPage, err := r.page()
	if err != nil {
		return nil, err
	}
	list, total, err := s.deps.Scripts.Versions(r.ctx, r.account, script.Name, perPage, (page-1)*perPage)
	if err != nil {
		return nil, err
	}
	at, err := s.subdomain(r, script.Name)
	r.info = &resultInfo{Page: page, PerPage: perPage, Count: len(list), TotalCount: total}
	return views(list, func(v deploy.Version) workerVersionView { return viewWorkerVersion(v, at) }), err
}

func (s *Server) getWorkerVersion(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	v, err := s.deps.Scripts.Version(r.ctx, r.account, script.Name, r.param("id"))
	if err != nil {
		return nil, err
	}
	at, err := s.subdomain(r, script.Name)
	view := viewWorkerVersion(v, at)
	if err != nil || v.Worker == nil || r.gin.Query("include") != "modules" {
		return view, err
	}
	contents, err := s.contents(r, v.Worker)
	view.Modules = views(v.Worker.Modules, func(m deploy.Module) moduleView {
		return moduleView{m.Name, m.ContentType, contents[m.SHA256]}
	})
	return view, err
}

func (s *Server) deleteWorkerVersion(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	return idView{r.param("id")}, s.deps.Scripts.DeleteVersion(r.ctx, r.account, script.Name, r.param("id"))
}

// createWorkerVersion uploads a version as JSON, and deploys it with deploy=true.
func (s *Server) createWorkerVersion(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	deploys, err := r.boolQuery("deploy")
	if err != nil {
		return nil, err
	}
	text, err := r.uploadBody()
	if err != nil {
		return nil, err
	}
	f, err := formOfJSON(text)
	if err != nil {
		return nil, err
	}
	m, err := decodeMetadata(f.document, true)
	if err != nil {
		return nil, err
	}
	modules, contents, err := f.modules()
	if err != nil {
		return nil, err
	}
	sent, err := r.sentWorker(m, modules, contents, script.Name)
	if err != nil {
		return nil, err
	}
	sent.annotations.TriggeredBy = triggeredByVersionUpload
	if deploys {
		sent.annotations.TriggeredBy = triggeredByUpload
	}
	v, err := s.upload(r, script.Name, false, func(newest *deploy.Version) (deploy.Upload, error) {
		v, err := s.version(r, script.Name, sent, newest)
		u := deploy.Upload{Version: v}
		if deploys {
			u = deployed(v, automaticDeployment, deploy.CodeUpdate{})
		}
		u.Contents = sent.contents
		return u, err
	})
	if err != nil {
		return nil, err
	}
	return s.versionView(r, script.Name, v)
}

// uploadBody reads a JSON body that has modules in it, when it is the request's turn.
func (r *request) uploadBody() ([]byte, error) {
	if r.gin.Request.ContentLength > uploadBytesMax {
		return nil, uploadTooLarge()
	}
	if err := r.takeTurn(); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(http.MaxBytesReader(r.gin.Writer, r.gin.Request.Body, uploadBytesMax))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, uploadTooLarge()
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, 0, "the body could not be read to its end")
	}
	return text, nil
}

// formOfJSON takes the modules out of a JSON upload; the rest describes them.
func formOfJSON(text []byte) (form, error) {
	var f form
	all := make(map[string]json.RawMessage)
	if err := decodeStrict(text, &all); err != nil {
		return f, err
	}
	var err error
	if holds(all["modules"]) {
		if f.parts, err = partsOfJSON(all["modules"]); err != nil {
			return f, err
		}
	}
	delete(all, "modules")
	if f.document, err = json.Marshal(all); err == nil && len(f.document) > documentBytesMax {
		err = documentTooLarge("the JSON without its modules")
	}
	return f, err
}

// partsOfJSON reads a list of modules one by one, and no more of them than there may be:
// the three bytes of an empty one are fifty times as many in memory.
func partsOfJSON(list json.RawMessage) (parts []part, err error) {
	at := place{}.member("modules")
	w := newWalker(list)
	if token, err := w.Token(); err != nil || token != json.Delim('[') {
		return nil, at.fail("is %s: it must be an array", shownToken(token))
	}
	for i := 0; w.More(); i++ {
		if i == 2*modulesMax {
			return nil, tooManyModules()
		}
		var text json.RawMessage
		if err := w.Decode(&text); err != nil {
			return nil, syntaxError(err)
		}
		var m struct {
			Name        string `json:"name"`
			ContentType string `json:"content_type"`
			Content     string `json:"content_base64"`
		}
		if err := decodeAt(text, &m, at.element(i)); err != nil {
			return nil, err
		}
		content, err := base64.StdEncoding.DecodeString(m.Content)
		if err != nil {
			return nil, at.element(i).member("content_base64").fail("is not base64")
		}
		parts = append(parts, part{name: m.Name, contentType: m.ContentType, content: content})
	}
	return parts, nil
}

// patchLatestVersion makes a version of the newest code with other bindings, and
// deploys nothing.
func (s *Server) patchLatestVersion(r *request) (any, error) {
	script, err := s.workerScript(r)
	if err != nil {
		return nil, err
	}
	var body struct {
		Env         map[string]json.RawMessage `json:"env"`
		Annotations *annotationsBody           `json:"annotations"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	edits, err := decodeEdits(body.Env, place{}.member("env"))
	if err != nil {
		return nil, err
	}
	var said deploy.Annotations
	if body.Annotations != nil {
		if said, err = body.Annotations.check("/annotations", script.Name); err != nil {
			return nil, err
		}
	}
	v, err := s.upload(r, script.Name, false, func(newest *deploy.Version) (deploy.Upload, error) {
		u, err := patched(script.Name, newest, edits, said)
		if err != nil || u.Version.Annotations.TriggeredBy == triggeredBySecret {
			return u, err // no secret keeps code from running that ran before
		}
		contents, err := s.contents(r, u.Version.Worker)
		if err != nil {
			return u, err
		}
		return u, s.check(r, u.Version.Worker, contents)
	})
	if err != nil {
		return nil, err
	}
	return s.versionView(r, script.Name, v)
}

func patched(script string, newest *deploy.Version, edits map[string]*sentBinding, said deploy.Annotations) (deploy.Upload, error) {
	if err := wantWorker(script, newest); err != nil {
		return deploy.Upload{}, err
	}
	said.TriggeredBy = triggeredBySecret
	for name, edit := range edits {
		switch {
		case edit == nil:
			if hasBinding(newest, name) && !hasSecret(newest, name) {
				said.TriggeredBy = triggeredByVersionUpload
			}
		case edit.Type == deploy.BindingInherit:
			return deploy.Upload{}, errs.New(errs.Invalid, codeInherit, "inherit binding '%s' is invalid: a patch keeps what it does not name", name)
		case edit.Type != deploy.BindingSecretText:
			said.TriggeredBy = triggeredByVersionUpload
		}
	}
	w := *newest.Worker
	w.Bindings = ownClasses(script, edited(w.Bindings, edits))
	return deploy.Upload{Version: deploy.Version{Worker: &w, Annotations: said}}, nil
}
