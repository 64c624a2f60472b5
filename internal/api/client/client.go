// Package client is the Go client of the HTTP API. It speaks of the same types
// as the control plane's database, and turns answers back into its errors.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"tidegate/internal/errs"
)

// answerBytesMax bounds what is read of one answer; a snapshot of ten thousand
// scripts is well below.
const answerBytesMax = 256 << 20

// Client calls one server. It is safe for concurrent use.
type Client struct {
	root  string // of the server
	base  string // of the API
	token string
	http  *http.Client
}

// New returns a client of the server at baseURL, such as http://127.0.0.1:8787.
// hc nil is a client without a time limit: the contexts of the calls decide. One
// with a limit must allow Snapshot its 30 s.
func New(baseURL, token string, hc *http.Client) *Client {
	if hc == nil {
		hc = &http.Client{}
	}
	root := strings.TrimRight(baseURL, "/")
	return &Client{root: root, base: root + "/client/v4", token: token, http: hc}
}

// kinds maps the statuses of answers back.
var kinds = map[int]errs.Kind{
	http.StatusBadRequest:            errs.Invalid,
	http.StatusNotFound:              errs.NotFound,
	http.StatusConflict:              errs.Conflict,
	http.StatusPreconditionFailed:    errs.Precondition,
	http.StatusUnauthorized:          errs.Unauthorized,
	http.StatusForbidden:             errs.Forbidden,
	http.StatusTooManyRequests:       errs.Limited,
	http.StatusRequestEntityTooLarge: errs.TooLarge,
	http.StatusServiceUnavailable:    errs.Unavailable,
}

type envelope struct {
	Success bool `json:"success"`
	Errors  []struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Source  struct {
			Pointer string `json:"pointer"`
		} `json:"source"`
	} `json:"errors"`
	Result     json.RawMessage `json:"result"`
	ResultInfo struct {
		TotalCount int `json:"total_count"`
	} `json:"result_info"`
}

// call sends body as JSON, unless it is nil, and decodes the result into out,
// unless that is nil. It returns the total_count of a paged list. A refusal is an
// *errs.Error; when the server cannot be reached its kind is unavailable.
func (c *Client) call(ctx context.Context, method, path string, body, out any) (total int, err error) {
	req, err := c.request(ctx, method, path, body)
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", method, path, err)
	}
	return c.do(req, path, out)
}

// do is call with a request, whose path is what errors name it by.
func (c *Client) do(req *http.Request, path string, out any) (total int, err error) {
	ctx, what := req.Context(), req.Method+" "+path
	res, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return 0, errs.New(errs.Unavailable, 0, "%v", err)
	}
	defer func() { _ = res.Body.Close() }()
	var answer envelope
	if err := json.NewDecoder(io.LimitReader(res.Body, answerBytesMax)).Decode(&answer); err != nil {
		if ctx.Err() != nil {
			return 0, fmt.Errorf("%s: %w", what, ctx.Err())
		}
		return 0, fmt.Errorf("%s: %w", what, c.noEnvelope(res, err))
	}
	if !answer.Success {
		return 0, fmt.Errorf("%s: %w", what, answer.failure(res.StatusCode))
	}
	if out != nil {
		if err := json.Unmarshal(answer.Result, out); err != nil {
			return 0, fmt.Errorf("%s: decode the result: %w", what, err)
		}
	}
	return answer.ResultInfo.TotalCount, nil
}

func (c *Client) request(ctx context.Context, method, path string, body any) (*http.Request, error) {
	return c.requestTo(ctx, method, c.base+path, body)
}

func (c *Client) requestTo(ctx context.Context, method, address string, body any) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, address, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

func kindOf(status int) errs.Kind {
	kind, ok := kinds[status]
	if !ok {
		return errs.Internal
	}
	return kind
}

// noEnvelope is the failure of an answer that could not be decoded. It has no code, as all that
// the API did not say.
func (c *Client) noEnvelope(res *http.Response, err error) *errs.Error {
	_, other := errors.AsType[*json.UnmarshalTypeError](err)
	if _, text := errors.AsType[*json.SyntaxError](err); text || other || errors.Is(err, io.EOF) {
		return errs.New(kindOf(res.StatusCode), 0, "what answers at %s is not Tidegate's API: status %d without its envelope", c.root, res.StatusCode)
	}
	return errs.New(errs.Unavailable, 0, "the answer with status %d ended too early: %v", res.StatusCode, err)
}

func (e *envelope) failure(status int) *errs.Error {
	failure := &errs.Error{Kind: kindOf(status), Message: fmt.Sprintf("status %d without a reason", status)}
	if len(e.Errors) > 0 {
		first := e.Errors[0]
		failure.Code, failure.Message, failure.Pointer = first.Code, first.Message, first.Source.Pointer
	}
	return failure
}

// get decodes the result of a GET.
func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	_, err := c.call(ctx, http.MethodGet, path, nil, &out)
	return out, err
}

// send decodes the result of a call with a body.
func send[T any](ctx context.Context, c *Client, method, path string, body any) (T, error) {
	var out T
	_, err := c.call(ctx, method, path, body, &out)
	return out, err
}

func (c *Client) delete(ctx context.Context, path string) error {
	_, err := c.call(ctx, http.MethodDelete, path, nil, nil)
	return err
}

// join builds a path of escaped segments.
func join(segments ...string) string {
	var b strings.Builder
	for _, segment := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(segment))
	}
	return b.String()
}

func accountPath(accountID string, rest ...string) string {
	return join(append([]string{"accounts", accountID}, rest...)...)
}

func scriptPath(accountID, script string, rest ...string) string {
	return accountPath(accountID, append([]string{"workers", "scripts", script}, rest...)...)
}
