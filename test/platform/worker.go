package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"

	"tidegate/internal/deploy"
)

// Worker is a version to upload: modules, the first of which is the main one, and
// configuration.
type Worker struct {
	Modules  []Module
	Bindings []map[string]any
	Tag      string
	Message  string
	CPUMs    int64 // limit of an invocation; zero is the default
	// Migrations of Durable Objects; nil for none.
	Migrations map[string]any
}

// Module is a part of an upload.
type Module struct {
	Name        string
	Content     string
	ContentType string // empty is an ES module
}

// JavaScript is a Worker of one ES module that finds its own version in env.VERSION.
func JavaScript(tag, source string) Worker {
	return Worker{
		Modules:  []Module{{Name: "index.js", Content: source}},
		Bindings: []map[string]any{{"name": "VERSION", "type": deploy.BindingVersionMetadata}},
		Tag:      tag,
	}
}

// Form returns the upload as wrangler sends it.
func (w Worker) Form() (body *bytes.Buffer, contentType string, err error) {
	description := map[string]any{
		"main_module": w.Modules[0].Name, "bindings": w.Bindings, "compatibility_date": "2026-10-06",
		"annotations": map[string]string{"workers/tag": w.Tag, "workers/message": w.Message},
	}
	if w.CPUMs > 0 {
		description["limits"] = map[string]int64{"cpu_ms": w.CPUMs}
	}
	if w.Migrations != nil {
		description["migrations"] = w.Migrations
	}
	metadata, err := json.Marshal(description)
	if err != nil {
		return nil, "", err
	}
	body = &bytes.Buffer{}
	form := multipart.NewWriter(body)
	if err := form.WriteField("metadata", string(metadata)); err != nil {
		return nil, "", err
	}
	for _, m := range w.Modules {
		if m.ContentType == "" {
			m.ContentType = deploy.ModuleTypeESM
		}
		part, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf("form-data; name=%q; filename=%q", m.Name, m.Name)},
			"Content-Type":        {m.ContentType},
		})
		if err != nil {
			return nil, "", err
		}
		if _, err := io.WriteString(part, m.Content); err != nil {
			return nil, "", err
		}
	}
	return body, form.FormDataContentType(), form.Close()
}

// DeployWorker uploads a version, gives it all traffic, and returns its id. It
// makes the script if there is none.
func (p *Platform) DeployWorker(ctx context.Context, script string, w Worker) (versionID string, err error) {
	var result struct {
		DeploymentID string `json:"deployment_id"` // the version's id without hyphens, as upstream has it
	}
	if err := p.sendForm(ctx, http.MethodPut, "/accounts/{account}/workers/scripts/"+script, w, &result); err != nil {
		return "", err
	}
	id := result.DeploymentID
	if len(id) != 32 {
		return "", fmt.Errorf("deploy %s: the answer names the version %q, which is no 32 hex digits", script, id)
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:], nil
}

// UploadWorker makes a version of a script that exists, and returns its id.
func (p *Platform) UploadWorker(ctx context.Context, script string, w Worker) (versionID string, err error) {
	var version struct{ ID string }
	err = p.sendForm(ctx, http.MethodPost, "/accounts/{account}/workers/scripts/"+script+"/versions", w, &version)
	return version.ID, err
}

func (p *Platform) sendForm(ctx context.Context, method, path string, w Worker, out any) error {
	body, contentType, err := w.Form()
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return p.send(ctx, method, path, contentType, body, out)
}
