package api

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// bodyBytesMax of a JSON body.
const bodyBytesMax = 1 << 20

// endpoint is one line of the table in endpoints.go.
type endpoint struct {
	method string
	path   string // below basePath; :account is checked against the token
	access access
	// code is for refusals that have none of their own; byKind leaves it to their kind.
	code   int
	handle func(*request) (any, error)
}

// access is what an endpoint asks of whoever calls it.
type access struct {
	scopes   []control.Scope // one of them; none: anybody will do who is known
	operator bool            // it must be somebody who may do everything in every account
	routers  bool            // it must be the operator, or a router
}

const byKind = 0

// request is a call whose caller may call the endpoint.
type request struct {
	caller
	ctx     context.Context // holds the actor; ends with the request
	access  access          // what the endpoint asks
	account string          // of the path; empty where the path has none
	gin     *gin.Context
	info    *resultInfo // set by handlers of paged lists
	server  *Server
	endTurn func() // nil until takeTurn
}

// serve checks who calls before it runs the endpoint.
func (s *Server) serve(e endpoint) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Set(endpointCode, e.code)
		r, err := s.admit(c, e)
		if err != nil {
			s.fail(c, err)
			return
		}
		defer r.leave()
		result, err := e.handle(r)
		if err != nil {
			s.fail(c, err)
			return
		}
		switch result := result.(type) {
		case written:
		case rawAnswer:
			s.answerRaw(c, result)
		default:
			s.succeed(c, result, r.info)
		}
	}
}

func (s *Server) admit(c *gin.Context, e endpoint) (*request, error) {
	ctx := c.Request.Context()
	for i := range c.Params {
		if err := unescape(&c.Params[i]); err != nil {
			return nil, err
		}
	}
	caller, err := s.authenticateFor(ctx, e, c.Request)
	if errs.KindOf(err) == errs.Unauthorized && e.path == "/user/tokens/verify" {
		return nil, errs.New(errs.Unauthorized, codeInvalidToken, "%v", err)
	}
	if err != nil {
		return nil, err
	}
	if !e.access.routers { // who poll as fast as there is news, and load each version's modules
		if err := s.limitRate(c, caller); err != nil {
			return nil, err
		}
	}
	account, bound := c.Params.Get("account")
	if bound && !(e.access.routers && caller.rights.Routes()) { // which is for every account
		if err := s.bind(ctx, caller, account); err != nil {
			return nil, err
		}
	}
	if err := e.access.check(caller.rights, account); err != nil {
		return nil, err
	}
	if e.access.routers && s.routersNeedCertificate && !showedCertificate(c.Request, s.now()) {
		return nil, errs.New(errs.Forbidden, 0, "this needs a certificate of the client, in date, beside its token: routers name theirs with --api-cert-file and --api-key-file, and no proxy that speaks TLS may be in between")
	}
	ctx = control.WithActor(ctx, caller.actor())
	return &request{caller: caller, ctx: ctx, access: e.access, account: account, gin: c, server: s}, nil
}

// unescape decodes a parameter of the path. The router leaves it as it was sent,
// so that an encoded slash stays inside it. What no id can be is refused here: the
// router takes an empty segment for a parameter too.
func unescape(param *gin.Param) error {
	value, err := url.PathUnescape(param.Value)
	switch {
	case err != nil || !utf8.ValidString(value) || strings.Contains(value, "\x00"): // PostgreSQL takes neither as text
		return errs.New(errs.NotFound, codeNoRoute, "%s in the path is not valid text", param.Key)
	case value == "" || value == "." || value == ".." || strings.Contains(value, "/"):
		return errs.New(errs.NotFound, codeNoRoute, "%s in the path is %q, which is no name", param.Key, shown(value))
	}
	param.Value = value
	return nil
}

// showedCertificate reports whether the client proved who it is by a certificate that the
// listener trusted when the connection began, and that has not run out since.
func showedCertificate(r *http.Request, now time.Time) bool {
	if r.TLS == nil {
		return false
	}
	ended := func(c *x509.Certificate) bool { return now.After(c.NotAfter) }
	return slices.ContainsFunc(r.TLS.VerifiedChains, func(chain []*x509.Certificate) bool { return !slices.ContainsFunc(chain, ended) })
}

// check looks at the rights in an account, or, where the path has none, in any: there
// visibleAccounts are those in which they suffice.
func (a access) check(rights control.Rights, account string) error {
	if a.operator && !rights.Operator() {
		return errs.New(errs.Forbidden, 0, "this needs the operator's token, which is bound to no account")
	}
	if a.routers && !rights.Routes() {
		return errs.New(errs.Forbidden, 0, "this needs the operator's token, or one with the scope %s", control.Routers)
	}
	if len(a.scopes) > 0 && !rights.Allow(account, a.scopes...) && (account != "" || !rights.AllowSomewhere(a.scopes...)) {
		return errs.New(errs.Forbidden, 0, "this needs a token with the scope %s", joinScopes(a.scopes))
	}
	return nil
}

// caller is who calls, by what, and what they may do.
type caller struct {
	token  control.Token   // unless there is a person
	person *control.Person // nil: a token
	rights control.Rights

	session, source string // as control.Actor has them
}

func (c caller) actor() control.Actor {
	bound := !c.rights.Operator()
	if c.person != nil {
		return control.Actor{TokenID: c.person.ID(), Session: c.session, Email: c.person.Email, Source: c.source, Bound: bound}
	}
	return control.Actor{TokenID: c.token.ID, TokenHash: c.token.Hash, Session: c.session, Email: c.token.Email, Source: c.source, Bound: bound}
}

// noun names what opens the API for a caller.
func (c caller) noun() string {
	if c.person != nil {
		return "your role here"
	}
	return "the API token"
}

// one says whose requests count together.
func (c caller) one() string {
	if c.person != nil {
		return c.person.Email
	}
	return "one API token"
}

// sendsToken reports whether a request has a token of its own, or something in its place.
func sendsToken(r *http.Request) bool {
	return r.Header.Get("Authorization") != "" || r.Header.Get("X-Auth-Key") != ""
}

// authenticateFor is authenticate. Who asks how the platform is hears within seconds that
// the database does not answer, without which nobody can tell whose token it is.
func (s *Server) authenticateFor(ctx context.Context, e endpoint, r *http.Request) (caller, error) {
	if e.path != systemHealthPath {
		return s.authenticate(ctx, r)
	}
	limited, cancel := context.WithTimeout(ctx, systemHealthAuthentication)
	defer cancel()
	found, err := s.authenticate(limited, r)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return caller{}, errs.New(errs.Unavailable, 0, "the database does not answer within %s, and tokens are in it: look at the database that --database names", systemHealthAuthentication)
	}
	return found, err
}

// authenticate finds the token of Authorization: Bearer, or of X-Auth-Key, which
// older clients send. Without either, who calls is whose session the cookie opens.
func (s *Server) authenticate(ctx context.Context, r *http.Request) (caller, error) {
	if _, err := r.Cookie(s.cookieName(r, control.SessionCookie)); err == nil && !sendsToken(r) {
		session, err := s.openSession(ctx, r)
		if err != nil {
			return caller{}, err
		}
		return s.callerOf(session)
	}
	secret := r.Header.Get("X-Auth-Key")
	if header := r.Header.Get("Authorization"); header != "" {
		scheme, rest, _ := strings.Cut(header, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return caller{}, errs.New(errs.Unauthorized, 0, "the Authorization header is not of the form: Bearer <token>")
		}
		secret = strings.TrimSpace(rest)
	}
	if secret == "" {
		return caller{}, errs.New(errs.Unauthorized, 0, "no API token was sent: send the header Authorization: Bearer <token>")
	}
	token, err := s.checkToken(ctx, r, secret)
	return caller{token: token, rights: token.Rights(), source: sourceOf(r.UserAgent())}, err
}

// bind refuses other accounts than the caller's in the same words whether they
// exist or not. account is not empty.
func (s *Server) bind(ctx context.Context, c caller, account string) error {
	switch {
	case !c.rights.Everywhere() && !slices.Contains(c.rights.Accounts(), account):
		return errs.New(errs.Forbidden, codeForeign, "%s does not open account %q", c.noun(), shown(account))
	case account == c.token.AccountID: // which exists as long as the token does
		return nil
	}
	_, err := s.deps.Accounts.Account(ctx, account)
	return err
}

func joinScopes(scopes []control.Scope) string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, " or ")
}

// sourceOf names the client for the history, in Cloudflare's words.
func sourceOf(userAgent string) string {
	agent := strings.ToLower(userAgent)
	switch {
	case strings.HasPrefix(agent, "wrangler/"):
		return "wrangler"
	case strings.Contains(agent, "terraform"):
		return "terraform"
	default:
		return "api"
	}
}

// param returns a parameter of the path.
func (r *request) param(name string) string { return r.gin.Param(name) }

// script returns the script of the path.
func (r *request) script() string { return r.gin.Param("script") }

// decode reads the body into v; see decodeStrict.
func (r *request) decode(v any) error {
	text, err := r.body()
	if err != nil {
		return err
	}
	return decodeStrict(text, v)
}

func (r *request) body() ([]byte, error) { return r.bodyUpTo(bodyBytesMax) }

func (r *request) bodyUpTo(most int64) ([]byte, error) {
	text, err := io.ReadAll(http.MaxBytesReader(r.gin.Writer, r.gin.Request.Body, most))
	if e, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errs.New(errs.TooLarge, 0, "the body is larger than %d bytes", e.Limit)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, 0, "the body could not be read to its end")
	}
	return text, nil
}

// intQuery returns a whole number of the query, or fallback when it is absent.
func (r *request) intQuery(name string, fallback, least, most int64) (int64, error) {
	text := r.gin.Query(name)
	if text == "" {
		return fallback, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < least || n > most {
		return 0, errs.New(errs.Invalid, 0, "%s is %q: it must be a whole number from %d to %d", name, shown(text), least, most)
	}
	return n, nil
}

// boolQuery returns a switch of the query; absent is false.
func (r *request) boolQuery(name string) (bool, error) {
	switch text := r.gin.Query(name); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, errs.New(errs.Invalid, 0, "%s is %q: it must be true or false", name, shown(text))
	}
}

const perPageMax = 100

// page reads page and per_page.
func (r *request) page() (page, perPage int, err error) {
	p, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return 0, 0, err
	}
	n, err := r.intQuery("per_page", 20, 1, perPageMax)
	return int(p), int(n), err
}

// onePage is for lists that are whole on their first page. Clients that ask for page
// after page stop at the first one that is empty.
func onePage[T any](r *request, list []T) ([]T, error) {
	page, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return nil, err
	}
	total := len(list)
	if page > 1 {
		list = nil
	}
	r.info = &resultInfo{Page: int(page), PerPage: max(total, 1), Count: len(list), TotalCount: total}
	return list, nil
}

// paged cuts the asked page out of a list that is at hand whole.
func paged[T any](r *request, list []T) ([]T, error) {
	page, perPage, err := r.page()
	if err != nil {
		return nil, err
	}
	total := len(list)
	from := min((page-1)*perPage, total)
	list = list[from:min(from+perPage, total)]
	r.info = &resultInfo{Page: page, PerPage: perPage, Count: len(list), TotalCount: total}
	return list, nil
}
