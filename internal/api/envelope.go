package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"tidegate/internal/errs"
)

// envelope is every answer below /client/v4.
type envelope struct {
	Success    bool        `json:"success"`
	Errors     []apiError  `json:"errors"`
	Messages   []apiError  `json:"messages"`
	Result     any         `json:"result"`
	ResultInfo *resultInfo `json:"result_info,omitempty"`
}

type apiError struct {
	Code    int     `json:"code"`
	Message string  `json:"message"`
	Source  *source `json:"source,omitempty"`
}

type source struct {
	Pointer string `json:"pointer"`
}

// resultInfo tells where in a paged list an answer is.
type resultInfo struct {
	Page       int `json:"page"`
	PerPage    int `json:"per_page"`
	Count      int `json:"count"`
	TotalCount int `json:"total_count"`
	TotalPages int `json:"total_pages"` // set by succeed
}

const (
	codeNoRoute      = 7003 // Cloudflare: could not route
	codeForeign      = 9109 // Cloudflare: not authorised for this resource
	codeLimited      = 971  // Cloudflare: too many requests
	codeInvalidToken = 1000 // Cloudflare: what the verification of a bad token answers
	codeLogpush      = 1002 // Cloudflare: what Logpush answers to a bad value
	codeNotAllowed   = 1004 // Cloudflare: what Logpush answers where something is not allowed

	// statusClientGone is nginx's number for a caller that did not wait.
	statusClientGone = 499
)

// answers maps the kinds of errors to what a client sees. code is what an error
// without one of its own gets, unless it is about what was asked for and the
// endpoint has a code for that.
var answers = map[errs.Kind]struct {
	status, code int
	asked        bool
}{
	errs.Invalid:      {http.StatusBadRequest, 10001, true},
	errs.NotFound:     {http.StatusNotFound, 10007, true},
	errs.Conflict:     {http.StatusConflict, 10001, true},
	errs.Precondition: {http.StatusPreconditionFailed, 10001, true},
	errs.Unauthorized: {http.StatusUnauthorized, 10000, false},
	errs.Forbidden:    {http.StatusForbidden, 10000, false},
	errs.Limited:      {http.StatusTooManyRequests, codeLimited, false},
	errs.TooLarge:     {http.StatusRequestEntityTooLarge, 10027, true},
	errs.Unavailable:  {http.StatusServiceUnavailable, 10013, false},
	errs.Internal:     {http.StatusInternalServerError, 10013, false},
}

// endpointCode is where a request's context has its endpoint's code.
const endpointCode = "endpoint_code"

// succeed answers 200 with result.
func (s *Server) succeed(c *gin.Context, result any, info *resultInfo) {
	if info != nil && info.PerPage > 0 {
		info.TotalPages = (info.TotalCount + info.PerPage - 1) / info.PerPage
	}
	s.write(c, http.StatusOK, envelope{Success: true, Result: result, ResultInfo: info})
}

// answerRaw answers without an envelope.
func (s *Server) answerRaw(c *gin.Context, raw rawAnswer) {
	for name, value := range raw.header {
		c.Header(name, value)
	}
	c.Abort()
	c.Data(cmp.Or(raw.status, http.StatusOK), raw.contentType, raw.body)
}

// fail answers err. What is not an *errs.Error is logged and shown as an
// internal error, because its text was not written for users.
func (s *Server) fail(c *gin.Context, err error) {
	if errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil {
		c.AbortWithStatus(statusClientGone)
		return
	}
	e, ok := errors.AsType[*errs.Error](err)
	if !ok {
		e = errs.New(errs.Internal, 0, "internal error: see the server's log for request %s", requestID(c))
	}
	answer, known := answers[e.Kind]
	if !known {
		answer = answers[errs.Internal]
	}
	list := []apiError{viewError(c, e)}
	if several, joined := err.(interface{ Unwrap() []error }); ok && joined {
		list = list[:0]
		for _, one := range several.Unwrap() {
			if e, ok := errors.AsType[*errs.Error](one); ok {
				list = append(list, viewError(c, e))
			}
		}
	}
	if later, ok := errors.AsType[retryLater](err); ok {
		c.Header("Retry-After", strconv.FormatInt(wholeSeconds(later.wait), 10))
	}
	if e.Kind == errs.Conflict {
		// cloudflare-go repeats a request on 409 unless it is told not to.
		c.Header("x-should-retry", "false")
	}
	s.write(c, answer.status, envelope{Errors: list})
	if answer.status >= http.StatusInternalServerError {
		s.log.ErrorContext(c.Request.Context(), "request failed", "request_id", requestID(c),
			"method", c.Request.Method, "path", loggedPath(c), "status", answer.status, "error", err)
	}
}

// viewError gives an error without a code that of its kind or of the endpoint.
func viewError(c *gin.Context, e *errs.Error) apiError {
	shown := apiError{Code: e.Code, Message: e.Message}
	if shown.Code == 0 {
		answer, known := answers[e.Kind]
		if !known {
			answer = answers[errs.Internal]
		}
		shown.Code = answer.code
		if code := c.GetInt(endpointCode); code != byKind && answer.asked {
			shown.Code = code
		}
	}
	if e.Pointer != "" {
		shown.Source = &source{e.Pointer}
	}
	return shown
}

// write encodes before it sends, so that what cannot be encoded is not a success.
func (s *Server) write(c *gin.Context, status int, e envelope) {
	if e.Errors == nil {
		e.Errors = []apiError{}
	}
	e.Messages = []apiError{}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(e); err != nil {
		s.fail(c, err) // its envelope is plain strings and can be encoded
		return
	}
	c.Abort()
	c.Data(status, "application/json; charset=utf-8", body.Bytes())
}

// timestamp is a time in an answer: UTC, always with six decimals, because
// clients sort them as text.
type timestamp time.Time

// MarshalJSON implements json.Marshaler.
func (t timestamp) MarshalJSON() ([]byte, error) {
	return time.Time(t).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000000Z"`), nil
}

// optional returns nil for the zero time.
func optional(t time.Time) *timestamp {
	if t.IsZero() {
		return nil
	}
	return (*timestamp)(&t)
}

// views maps a list for an answer; an empty list is [], never null.
func views[T, V any](list []T, view func(T) V) []V {
	out := make([]V, len(list))
	for i, item := range list {
		out[i] = view(item)
	}
	return out
}
