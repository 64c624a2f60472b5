package api

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// Sessions are the dashboard's: a browser that has shown an API token, or the code of a
// link, gets a cookie that opens the API as that token does, and one whose user an identity
// provider knows, a cookie that opens what their roles open. Pages never hold a token.
const (
	sessionPath = "/session"
	linksPath   = "/session/links"

	sessionBodyBytesMax = 4 << 10
	// sourceDashboard is Cloudflare's word for it, which wrangler knows.
	sourceDashboard = "dash"
)

// sessionView has a token or a person.
type sessionView struct {
	Token     *sessionToken    `json:"token,omitempty"`
	Person    *sessionPerson   `json:"person,omitempty"`
	Operator  bool             `json:"operator"`
	Accounts  []sessionAccount `json:"accounts"`
	ExpiresOn timestamp        `json:"expires_on"`
}

type sessionToken struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type sessionPerson struct {
	ID       string `json:"id"`
	Email    string `json:"email"`
	Name     string `json:"name"`
	Provider string `json:"provider"`
}

type sessionAccount struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Scopes []string `json:"scopes"`
}

// routeSessions adds the endpoints of sessions, which are outside the base path because
// no client of the API has a use for them.
func (s *Server) routeSessions(engine *gin.Engine) {
	answer := func(handle func(*request) (any, error)) gin.HandlerFunc {
		return func(c *gin.Context) {
			result, err := handle(&request{ctx: c.Request.Context(), gin: c, server: s})
			if err != nil {
				s.fail(c, err)
				return
			}
			s.succeed(c, result, nil)
		}
	}
	engine.GET(sessionPath, answer(s.getSession))
	engine.POST(sessionPath, answer(s.beginSession))
	engine.DELETE(sessionPath, answer(s.endSession))
	engine.POST(linksPath, answer(s.createSessionLink))
	engine.GET(providerPath, answer(s.getProvider))
	engine.POST(providerPath, answer(s.beginAtProvider))
}

func (s *Server) getSession(r *request) (any, error) {
	session, err := s.openSession(r.ctx, r.gin.Request)
	if err != nil {
		return nil, err
	}
	return s.viewSession(r, session)
}

func (s *Server) viewSession(r *request, session control.Session) (any, error) {
	var err error
	if r.caller, err = s.callerOf(session); err != nil {
		return nil, err
	}
	accounts, err := s.openAccounts(r)
	if err != nil {
		return nil, err
	}
	view := sessionView{
		Operator: r.rights.Operator(),
		Accounts: views(accounts, func(a control.Account) sessionAccount {
			return sessionAccount{a.ID, a.Name, scopeNames(r.rights.In(a.ID))}
		}),
		ExpiresOn: timestamp(session.ExpiresOn),
	}
	if p := session.Person; p != nil {
		view.Person = &sessionPerson{p.ID(), p.Email, p.Name, s.deps.People.Provider()}
	} else {
		view.Token = &sessionToken{session.Token.ID, session.Token.Name}
	}
	return view, nil
}

// openSession finds the session of the cookie. What it opens is for the pages of this
// server only: cookies do not tell who made the browser send them, and those of a site
// reach every port and, on some conditions, come from its other hosts.
func (s *Server) openSession(ctx context.Context, r *http.Request) (control.Session, error) {
	secret := s.cookie(r, control.SessionCookie)
	if secret == "" {
		return control.Session{}, errs.New(errs.Unauthorized, 0, "nobody is signed in here")
	}
	if err := s.checkOrigin(r); err != nil {
		return control.Session{}, err
	}
	return lookUp(ctx, s, r, secret, s.deps.Sessions.OpenSession)
}

// callerOf a session. What a person may do follows from the roles of this process, so that
// one which is taken away is gone from sessions, too.
func (s *Server) callerOf(session control.Session) (caller, error) {
	found := caller{token: session.Token, person: session.Person, session: session.Hash, source: sourceDashboard}
	switch {
	case session.Person == nil:
		found.rights = session.Token.Rights()
	case s.deps.People != nil:
		found.rights = s.deps.People.Rights(*session.Person)
	}
	if len(found.rights) == 0 {
		return caller{}, errs.New(errs.Unauthorized, 0, "the session has ended: %s has no role here any more", session.Person.Email)
	}
	return found, nil
}

// checkOrigin refuses what a page of another origin made a browser send. Other clients
// than browsers say nothing of origins, and pass.
func (s *Server) checkOrigin(r *http.Request) error {
	asked := r.WithContext(r.Context())
	asked.Method = http.MethodPost // reads are checked too: they may be streams, of which there are few
	if err := s.crossOrigin.Check(asked); err != nil {
		return errs.New(errs.Forbidden, 0, "a page of another origin (%s) asks, and sessions are for the dashboard's own. Behind a proxy that changes the Host header, --console-url must be the dashboard's address",
			shown(r.Header.Get("Origin")))
	}
	return nil
}

// credentials begin a session. There is one of them.
type credentials struct {
	Token *string     `json:"token"`
	Code  *string     `json:"code"` // of a link
	OIDC  *homecoming `json:"oidc"`
}

func (c *credentials) check() error {
	n := 0
	for _, there := range []bool{c.Token != nil, c.Code != nil, c.OIDC != nil} {
		if there {
			n++
		}
	}
	if n != 1 {
		return errs.New(errs.Invalid, 0, "the body must have token, an API token, or code, that of a link, or oidc, what an identity provider has sent, and not two of them")
	}
	return nil
}

// beginSession signs in.
func (s *Server) beginSession(r *request) (any, error) {
	if err := s.checkOrigin(r.gin.Request); err != nil {
		return nil, err
	}
	var body credentials
	text, err := r.bodyUpTo(sessionBodyBytesMax)
	if err != nil {
		return nil, err
	}
	if err := decodeStrict(text, &body); err != nil {
		return nil, err
	}
	if err := body.check(); err != nil {
		return nil, err
	}
	address := s.clientAddress(r.gin.Request)
	ended, wait := s.attempts.begin(address, s.now())
	if wait > 0 {
		seconds := int64(math.Ceil(wait.Seconds()))
		r.gin.Header("Retry-After", strconv.FormatInt(seconds, 10))
		return nil, errs.New(errs.Limited, 0, "too many attempts to sign in from %s failed or are under way: try again in %d s", address, seconds)
	}
	r.ctx = control.WithActor(r.ctx, control.Actor{Source: sourceDashboard})
	session, secret, err := s.sessionFor(r, body)
	failed := errs.KindOf(err) == errs.Unauthorized || errs.KindOf(err) == errs.Forbidden
	ended(failed)
	if failed {
		s.log.InfoContext(r.ctx, "an attempt to sign in failed", "address", address, "by_link", body.Code != nil, "by_provider", body.OIDC != nil)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(r.ctx, "signed in", "address", address, "by_link", body.Code != nil, "by_provider", body.OIDC != nil, "token_id", session.Token.ID)
	if err := s.forgetSession(r); err != nil { // of who was signed in before; a link was used, and cannot be again
		s.log.WarnContext(r.ctx, "the session before was not ended", "error", err)
	}
	s.setCookie(r, control.SessionCookie, secret, session.ExpiresOn)
	return s.viewSession(r, session)
}

// sessionFor writes, so it counts for the token or the person. Links were counted when they
// were made.
func (s *Server) sessionFor(r *request, c credentials) (control.Session, string, error) {
	switch {
	case c.OIDC != nil:
		return s.sessionOfPerson(r, *c.OIDC)
	case c.Code != nil:
		return s.deps.Sessions.UseSessionLink(r.ctx, strings.TrimSpace(*c.Code))
	}
	token, err := s.deps.Tokens.Authenticate(r.ctx, strings.TrimSpace(*c.Token))
	if err != nil {
		return control.Session{}, "", err
	}
	by := caller{token: token, source: sourceDashboard}
	if err := s.limitRate(r.gin, by); err != nil {
		return control.Session{}, "", err
	}
	return s.deps.Sessions.CreateSession(control.WithActor(r.ctx, by.actor()), token.ID)
}

// endSession signs out, also who is not signed in.
func (s *Server) endSession(r *request) (any, error) {
	if err := s.checkOrigin(r.gin.Request); err != nil {
		return nil, err
	}
	everywhere, err := r.boolQuery("everywhere")
	if err != nil {
		return nil, err
	}
	end := s.endThisSession
	if everywhere {
		end = s.endAllSessions
	}
	if err := end(r); err != nil {
		return nil, err
	}
	s.setCookie(r, control.SessionCookie, "", time.Time{})
	return nil, nil
}

// endThisSession opens it first, so that cookies that open nothing are counted.
func (s *Server) endThisSession(r *request) error {
	switch _, err := s.openSession(r.ctx, r.gin.Request); {
	case errs.KindOf(err) == errs.Unauthorized:
		return nil
	case err != nil:
		return err
	}
	return s.forgetSession(r)
}

// endAllSessions is for who is signed in.
func (s *Server) endAllSessions(r *request) error {
	session, err := s.openSession(r.ctx, r.gin.Request)
	if err != nil {
		return err
	}
	return s.deps.Sessions.EndSessionsOf(control.WithActor(r.ctx, control.Actor{Source: sourceDashboard}), session)
}

func (s *Server) forgetSession(r *request) error {
	secret := s.cookie(r.gin.Request, control.SessionCookie)
	if secret == "" {
		return nil
	}
	return s.deps.Sessions.EndSession(control.WithActor(r.ctx, control.Actor{Source: sourceDashboard}), secret)
}

// setCookie keeps a secret in the browser until a time, or with the zero time removes it.
func (s *Server) setCookie(r *request, name, secret string, until time.Time) {
	age := -1
	if !until.IsZero() {
		age = max(1, int(until.Sub(s.now()).Seconds()))
	}
	http.SetCookie(r.gin.Writer, &http.Cookie{ //nolint:gosec // Secure where the browser speaks TLS
		Name: s.cookieName(r.gin.Request, name), Value: secret, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.cameByTLS(r.gin.Request),
	})
}

// cookie returns the secret in a cookie; empty for none.
func (s *Server) cookie(r *http.Request, name string) string {
	cookie, err := r.Cookie(s.cookieName(r, name))
	if err != nil {
		return ""
	}
	return cookie.Value
}

func (s *Server) cookieName(r *http.Request, name string) string {
	if s.cameByTLS(r) {
		return control.SecureCookie + name
	}
	return name
}

type sessionLinkView struct {
	URL       string    `json:"url"`
	ExpiresOn timestamp `json:"expires_on"`
}

// createSessionLink needs the token itself: a session that could make links would never
// have to end.
func (s *Server) createSessionLink(r *request) (any, error) {
	if !sendsToken(r.gin.Request) {
		return nil, errs.New(errs.Unauthorized, 0, "a link is made with an API token: send the header Authorization: Bearer <token>")
	}
	caller, err := s.authenticate(r.ctx, r.gin.Request)
	if err != nil {
		return nil, err
	}
	if err := s.limitRate(r.gin, caller); err != nil {
		return nil, err
	}
	code, expiresOn, err := s.deps.Sessions.CreateSessionLink(control.WithActor(r.ctx, caller.actor()), caller.token.ID)
	if err != nil {
		return nil, err
	}
	return sessionLinkView{SessionLink(s.dashboardURL(r.gin.Request), code), timestamp(expiresOn)}, nil
}

// SessionLink is the address that signs in by a code, once. The code is behind the #,
// which browsers send to nobody.
func SessionLink(dashboardURL, code string) string {
	return fmt.Sprintf("%s/login#code=%s", strings.TrimRight(dashboardURL, "/"), code)
}
