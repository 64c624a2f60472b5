package api

import (
	"bytes"
	"mime/multipart"
	"net/textproto"
	"strings"

	"github.com/google/uuid"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// rawAnswer is an answer without an envelope.
type rawAnswer struct {
	status      int // 0: 200
	contentType string
	header      map[string]string
	body        []byte
}

// getContent answers the modules of a version: of the one that the query names,
// else of the one that serves.
func (s *Server) getContent(r *request) (any, error) {
	v, err := s.askedVersion(r)
	if err != nil {
		return nil, err
	}
	if err := wantWorker(r.script(), v); err != nil {
		return nil, err
	}
	contents, err := s.contents(r, v.Worker)
	if err != nil {
		return nil, err
	}
	return formOf(v.Worker, contents)
}

func (s *Server) askedVersion(r *request) (*deploy.Version, error) {
	id := r.gin.Query("version")
	if id == "" {
		return s.serving(r, r.script())
	}
	if uuid.Validate(id) != nil { // PostgreSQL takes no text but UTF-8
		return nil, errs.New(errs.Invalid, 0, "version %q is not a UUID", shown(id))
	}
	v, err := s.deps.Scripts.Version(r.ctx, r.account, r.script(), id)
	return &v, err
}

// formOf writes the modules as they were uploaded. Clients find the entry point by
// the header.
func formOf(w *deploy.Worker, contents map[string][]byte) (rawAnswer, error) {
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, m := range w.Modules {
		name := formName.Replace(m.Name)
		p, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {`form-data; name="` + name + `"; filename="` + name + `"`},
			"Content-Type":        {m.ContentType},
		})
		if err == nil {
			_, err = p.Write(contents[m.SHA256])
		}
		if err != nil {
			return rawAnswer{}, err
		}
	}
	if err := form.Close(); err != nil {
		return rawAnswer{}, err
	}
	entry := w.MainModule
	if entry == "" {
		entry = w.BodyPart
	}
	return rawAnswer{contentType: form.FormDataContentType(), header: map[string]string{"cf-entrypoint": entry}, body: body.Bytes()}, nil
}

// formName escapes what ends a quoted name, as browsers do; module names have no
// control characters.
var formName = strings.NewReplacer(`"`, "%22")
