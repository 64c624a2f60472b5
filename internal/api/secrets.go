package api

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	codeSecretUndeployed = 10215 // Cloudflare: a secret edit while the latest version is not deployed
	secretsBulkMax       = 100
)

type secretView struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// secrets of the newest version, by their names.
func (s *Server) secrets(r *request) ([]secretView, error) {
	newest, err := s.newest(r, r.script())
	list := []secretView{}
	for _, b := range bindingsOf(newest) {
		if b.Type == deploy.BindingSecretText {
			list = append(list, secretView{b.Name, b.Type})
		}
	}
	return list, err
}

func (s *Server) listSecrets(r *request) (any, error) {
	return s.secrets(r)
}

func (s *Server) getSecret(r *request) (any, error) {
	list, err := s.secrets(r)
	if err != nil {
		return nil, err
	}
	for _, secret := range list {
		if secret.Name == r.param("name") {
			return secret, nil
		}
	}
	return nil, noSecret(r.script(), r.param("name"))
}

func noSecret(script, name string) error {
	return errs.New(errs.NotFound, codeNoBinding, "script %q has no secret %q", script, shown(name))
}

func (s *Server) putSecret(r *request) (any, error) {
	var body json.RawMessage
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	b, err := decodeBinding(body, nil, place{})
	if err != nil {
		return nil, err
	}
	if err := wantSecret(&b, "/type"); err != nil {
		return nil, err
	}
	return secretView{b.Name, b.Type}, s.editSecrets(r, map[string]*sentBinding{b.Name: &b}, nil)
}

func wantSecret(b *sentBinding, pointer string) error {
	if b.Type != deploy.BindingSecretText {
		return errs.New(errs.Invalid, 0, "secret %s: type %s is not a secret", shown(b.Name), b.Type).At(pointer)
	}
	return nil
}

func (s *Server) deleteSecret(r *request) (any, error) {
	name := r.param("name")
	newest, err := s.newest(r, r.script())
	if err != nil {
		return nil, err
	}
	if !hasSecret(newest, name) {
		return nil, noSecret(r.script(), name)
	}
	return nil, s.editSecrets(r, map[string]*sentBinding{name: nil}, nil)
}

// patchSecrets sets and removes several secrets in one version, and answers all
// that there are, by name.
func (s *Server) patchSecrets(r *request) (any, error) {
	var body struct {
		Secrets     map[string]json.RawMessage `json:"secrets"`
		VersionTags json.RawMessage            `json:"version_tags"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if n := len(body.Secrets); n == 0 || n > secretsBulkMax {
		return nil, errs.New(errs.Invalid, 0, "secrets has %d members: it must have 1 to %d", n, secretsBulkMax).At("/secrets")
	}
	if kind := string(body.VersionTags); kind != "" && kind != "null" && kind[0] != '{' {
		return nil, errs.New(errs.Invalid, 0, "version_tags is %s: it must be an object", shown(kind)).At("/version_tags")
	}
	edits, err := decodeEdits(body.Secrets, place{}.member("secrets"))
	if err != nil {
		return nil, err
	}
	for name, b := range edits {
		if b == nil {
			continue
		}
		if err := wantSecret(b, place{}.member("secrets").member(name).member("type").pointer()); err != nil {
			return nil, err
		}
	}
	kept := map[string]json.RawMessage{}
	if holds(body.VersionTags) {
		kept["version_tags"] = body.VersionTags
	}
	if err := s.editSecrets(r, edits, kept); err != nil {
		return nil, err
	}
	list, err := s.secrets(r)
	byName := make(map[string]secretView, len(list))
	for _, secret := range list {
		byName[secret.Name] = secret
	}
	return byName, err
}

// decodeEdits reads a merge patch of bindings by name; nil removes one.
func decodeEdits(patch map[string]json.RawMessage, at place) (map[string]*sentBinding, error) {
	edits := make(map[string]*sentBinding, len(patch))
	for _, name := range slices.Sorted(maps.Keys(patch)) {
		if string(patch[name]) == "null" {
			edits[name] = nil
			continue
		}
		b, err := decodeBinding(patch[name], &name, at.member(name))
		if err != nil {
			return nil, err
		}
		edits[name] = &b
	}
	return edits, nil
}

// editSecrets makes a version of the newest code with other secrets and deploys
// it, with kept beside what that code keeps. The code was run when it was uploaded, and it is the same.
func (s *Server) editSecrets(r *request, edits map[string]*sentBinding, kept map[string]json.RawMessage) error {
	_, err := s.upload(r, r.script(), false, func(newest *deploy.Version) (deploy.Upload, error) {
		if err := wantWorker(r.script(), newest); err != nil {
			return deploy.Upload{}, err
		}
		for _, b := range bindingsOf(newest) {
			if _, edited := edits[b.Name]; edited && b.Type != deploy.BindingSecretText {
				return deploy.Upload{}, errs.New(errs.Invalid, codeBindingTaken, "binding %s is of type %s: it cannot become a secret", shown(b.Name), b.Type)
			}
		}
		w := *newest.Worker
		w.Bindings = edited(w.Bindings, edits)
		keep(&w, kept)
		u := deployed(deploy.Version{Worker: &w, Annotations: deploy.Annotations{TriggeredBy: triggeredBySecret}}, "", deploy.CodeUpdate{})
		u.Serving = codeSecretUndeployed
		return u, nil
	})
	return err
}

func hasBinding(v *deploy.Version, name string) bool {
	return slices.ContainsFunc(bindingsOf(v), func(b deploy.Binding) bool { return b.Name == name })
}

func hasSecret(v *deploy.Version, name string) bool {
	return slices.ContainsFunc(bindingsOf(v), func(b deploy.Binding) bool { return b.Name == name && b.Type == deploy.BindingSecretText })
}

// edited returns the bindings after the edits, in the order of their names.
func edited(list []deploy.Binding, edits map[string]*sentBinding) []deploy.Binding {
	var after []deploy.Binding
	for _, b := range list {
		if _, gone := edits[b.Name]; !gone {
			after = append(after, b)
		}
	}
	for _, edit := range edits {
		if edit != nil {
			after = append(after, edit.binding())
		}
	}
	slices.SortFunc(after, func(a, b deploy.Binding) int { return strings.Compare(a.Name, b.Name) })
	return after
}
