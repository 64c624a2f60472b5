package api_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
)

// runtime is a runtime whose check is a function; nil finds a fetch handler.
type runtime struct {
	mu     sync.Mutex
	check  func(w *deploy.Worker, contents map[string][]byte) (deploy.Exports, int64, error)
	checks int
}

func (r *runtime) Check(_ context.Context, w *deploy.Worker, contents map[string][]byte) (deploy.Exports, int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checks++
	for _, m := range w.Modules {
		if int64(len(contents[m.SHA256])) != m.Bytes {
			return deploy.Exports{}, 0, fmt.Errorf("module %s has %d bytes, not %d", m.Name, len(contents[m.SHA256]), m.Bytes)
		}
	}
	if r.check != nil {
		return r.check(w, contents)
	}
	return deploy.Exports{Handlers: []string{"fetch"}, Named: []deploy.NamedExport{{Name: "Admin", Kind: deploy.ExportEntrypoint, Handlers: []string{"reset"}}}}, 7, nil
}

// file is a module as it is uploaded.
type file struct{ name, contentType, content string }

const esm = "application/javascript+module"

var index = file{"index.js", esm, "export default { fetch() { return new Response('hello') } }"}

// formBody is an upload as wrangler sends it: the description has neither a type
// nor a file name, and comes wherever.
func formBody(t *testing.T, document, text string, files ...file) (contentType, body string) {
	t.Helper()
	var b bytes.Buffer
	form := multipart.NewWriter(&b)
	write := func(header textproto.MIMEHeader, content string) {
		p, err := form.CreatePart(header)
		if err == nil {
			_, err = io.WriteString(p, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range files {
		if i == 1 {
			write(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + document + `"`}}, text)
		}
		write(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%[1]s"`, f.name)}, "Content-Type": {f.contentType},
		}, f.content)
	}
	if len(files) < 2 {
		write(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="` + document + `"`}}, text)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	return form.FormDataContentType(), b.String()
}

// send uploads below the first account, by the operator.
func (p *platform) send(t *testing.T, method, path, metadata string, files ...file) answer {
	t.Helper()
	contentType, body := formBody(t, "metadata", metadata, files...)
	header := bearer(p.token)
	header.Set("Content-Type", contentType)
	return p.do(t, method, "/client/v4/accounts/"+account+path, header, body)
}

// deployWorker puts a script with one module, and returns its newest version.
func (p *platform) deployWorker(t *testing.T, script, metadata string) deploy.Version {
	t.Helper()
	p.send(t, http.MethodPut, "/workers/scripts/"+script, metadata, index).ok(t)
	return p.newest(t, script)
}

func (p *platform) newest(t *testing.T, script string) deploy.Version {
	t.Helper()
	list, _, err := p.store.Versions(t.Context(), account, script, 1, 0)
	if err != nil || len(list) != 1 {
		t.Fatalf("versions %+v, error %v", list, err)
	}
	return list[0]
}

func (a answer) ok(t *testing.T, parts ...string) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("answered %d %s", a.status, a.text)
	}
	for _, part := range parts {
		if !strings.Contains(a.text, part) {
			t.Errorf("answered %s, which lacks %s", a.text, part)
		}
	}
}

func (a answer) lacks(t *testing.T, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if strings.Contains(a.text, part) {
			t.Errorf("answered %s, which has %s", a.text, part)
		}
	}
}
