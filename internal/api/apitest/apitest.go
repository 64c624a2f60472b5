// Package apitest holds HTTP answers against schema/openapi.yaml, for tests that
// speak to the API.
package apitest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"tidegate/schema"
)

const basePath = "/client/v4/"

// Validator is a transport that checks every answer below /client/v4, and those of the
// few operations that the document has elsewhere, on its way to the caller, whom it never
// disturbs; a WebSocket is none. It is safe for concurrent use.
type Validator struct {
	base http.RoundTripper
	document

	mu         sync.Mutex
	violations []string
	answered   map[string]bool // operations that succeeded at least once, by operationId
}

// document is openapi.yaml with its router. Nobody changes them, so all Validators of a
// process share them: to read it costs more than most tests do.
type document struct {
	doc    *openapi3.T
	router routers.Router
}

var read = sync.OnceValues(func() (document, error) {
	doc, err := openapi3.NewLoader().LoadFromData(schema.OpenAPI)
	if err != nil {
		return document{}, fmt.Errorf("load openapi.yaml: %w", err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		return document{}, fmt.Errorf("openapi.yaml: %w", err)
	}
	router, err := legacy.NewRouter(doc)
	if err != nil {
		return document{}, fmt.Errorf("route openapi.yaml: %w", err)
	}
	return document{doc, router}, nil
})

// NewValidator returns a Validator on base; nil is http.DefaultTransport. The
// error is about the document itself.
func NewValidator(base http.RoundTripper) (*Validator, error) {
	if base == nil {
		base = http.DefaultTransport
	}
	d, err := read()
	if err != nil {
		return nil, err
	}
	return &Validator{base: base, document: d, answered: make(map[string]bool)}, nil
}

// RoundTrip implements http.RoundTripper.
func (v *Validator) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := v.base.RoundTrip(req)
	if err != nil || !strings.HasPrefix(req.URL.Path, basePath) && v.elsewhere(req) == nil || res.StatusCode == http.StatusSwitchingProtocols {
		return res, err
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/event-stream") {
		v.check(req, res, nil) // a stream may never end
		return res, nil
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close() // read to its end, or err says why not
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	v.check(req, res, body)
	return res, nil
}

// elsewhere returns the operation of a request if it is one with a server of its own,
// which the router does not know.
func (v *Validator) elsewhere(req *http.Request) *routers.Route {
	item := v.doc.Paths.Value(req.URL.Path)
	if item == nil || len(item.Servers) == 0 || item.GetOperation(req.Method) == nil {
		return nil
	}
	return &routers.Route{Spec: v.doc, Path: req.URL.Path, PathItem: item, Method: req.Method, Operation: item.GetOperation(req.Method)}
}

func (v *Validator) find(req *http.Request) (*routers.Route, map[string]string, error) {
	if route := v.elsewhere(req); route != nil {
		return route, nil, nil
	}
	// The document's server is a path, so that it holds for every host.
	relative := req.Clone(req.Context())
	relative.URL.Scheme, relative.URL.Host = "", ""
	return v.router.FindRoute(relative)
}

func (v *Validator) check(req *http.Request, res *http.Response, body []byte) {
	route, params, err := v.find(req)
	if err != nil {
		if res.StatusCode != http.StatusNotFound || !bytes.Contains(body, []byte(`"code":7003`)) {
			v.report(req, res, fmt.Sprintf("the operation is not in openapi.yaml, and the answer is not code 7003: %.500s", body))
		}
		return
	}
	err = openapi3filter.ValidateResponse(req.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route},
		Status:                 res.StatusCode,
		Header:                 res.Header,
		Body:                   io.NopCloser(bytes.NewReader(body)),
		Options:                &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: body == nil},
	})
	if err != nil {
		v.report(req, res, fmt.Sprintf("%v\n%.500s", err, body))
		return
	}
	if res.StatusCode == http.StatusOK {
		v.mu.Lock()
		v.answered[route.Operation.OperationID] = true
		v.mu.Unlock()
	}
}

func (v *Validator) report(req *http.Request, res *http.Response, problem string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.violations = append(v.violations, fmt.Sprintf("%s %s answered %d: %s", req.Method, req.URL.Path, res.StatusCode, problem))
}

// Violations returns what was wrong so far, in the order in which it was seen.
func (v *Validator) Violations() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]string(nil), v.violations...)
}

// Unanswered returns the ids of the operations that have not answered 200 yet,
// except those that the document says only refuse.
func (v *Validator) Unanswered() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	var ids []string
	for _, path := range v.doc.Paths.InMatchingOrder() {
		for _, operation := range v.doc.Paths.Value(path).Operations() {
			if !v.answered[operation.OperationID] && !onlyRefuses(operation) {
				ids = append(ids, operation.OperationID)
			}
		}
	}
	return ids
}

// Operation returns the id of the operation that a request is for; empty for none.
func (v *Validator) Operation(req *http.Request) string {
	route, _, err := v.find(req)
	if err != nil {
		return ""
	}
	return route.Operation.OperationID
}

// Changes returns the ids of the operations that are not for reading by their method, except those
// that the document says only refuse.
func (v *Validator) Changes() []string {
	var ids []string
	for _, path := range v.doc.Paths.InMatchingOrder() {
		for method, operation := range v.doc.Paths.Value(path).Operations() {
			if method != http.MethodGet && !onlyRefuses(operation) {
				ids = append(ids, operation.OperationID)
			}
		}
	}
	return ids
}

func onlyRefuses(operation *openapi3.Operation) bool {
	return operation.Responses.Status(http.StatusOK) == nil && operation.Responses.Len() == 1
}

// Operations returns every operation of the document below /client/v4 as "METHOD /path".
func (v *Validator) Operations() []string {
	var list []string
	for _, path := range v.doc.Paths.InMatchingOrder() {
		if len(v.doc.Paths.Value(path).Servers) > 0 {
			continue
		}
		for method := range v.doc.Paths.Value(path).Operations() {
			list = append(list, method+" "+path)
		}
	}
	return list
}
