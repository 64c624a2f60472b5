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
// link, gets a cookie that opens the API as that token does. Pages never hold a token.
const (
	sessionPath = "/session"
	linksPath   = "/session/links"

	sessionBodyBytesMax = 4 << 10
	// sourceDashboard is Cloudflare's word for it, which wrangler knows.
	sourceDashboard = "dash"
)

type sessionView struct {
	Token     sessionToken     `json:"token"`
	Accounts  []sessionAccount `json:"accounts"`
	ExpiresOn timestamp        `json:"expires_on"`
}

type sessionToken struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Scopes   []string `json:"scopes"`
	Operator bool     `json:"operator"`
}

type sessionAccount struct {
	ID   string `json:"id"`
	Name string `json:"name"`
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
}

func (s *Server) getSession(r *request) (any, error) {
	session, err := s.openSession(r.ctx, r.gin.Request)
	if err != nil {
		return nil, err
	}
	return s.viewSession(r, session)
}

func (s *Server) viewSession(r *request, session control.Session) (any, error) {
	r.token = session.Token
	accounts, err := s.visibleAccounts(r)
	if err != nil {
		return nil, err
	}
	token := session.Token
	return sessionView{
		Token:     sessionToken{token.ID, token.Name, scopeNames(token.Scopes), token.Operator()},
		Accounts:  views(accounts, func(a control.Account) sessionAccount { return sessionAccount{a.ID, a.Name} }),
		ExpiresOn: timestamp(session.ExpiresOn),
	}, nil
}

// openSession finds the session of the cookie. What it opens is for the pages of this
// server only: cookies do not tell who made the browser send them, and those of a site
// reach every port and, on some conditions, come from its other hosts.
func (s *Server) openSession(ctx context.Context, r *http.Request) (control.Session, error) {
	cookie, err := r.Cookie(s.cookieName(r))
	if err != nil || cookie.Value == "" {
		return control.Session{}, errs.New(errs.Unauthorized, 0, "nobody is signed in here")
	}
	if err := s.checkOrigin(r); err != nil {
		return control.Session{}, err
	}
	return s.deps.Sessions.OpenSession(ctx, cookie.Value)
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

// beginSession signs in.
func (s *Server) beginSession(r *request) (any, error) {
	if err := s.checkOrigin(r.gin.Request); err != nil {
		return nil, err
	}
	var body struct {
		Token *string `json:"token"`
		Code  *string `json:"code"`
	}
	text, err := r.bodyUpTo(sessionBodyBytesMax)
	if err != nil {
		return nil, err
	}
	if err := decodeStrict(text, &body); err != nil {
		return nil, err
	}
	if (body.Token == nil) == (body.Code == nil) {
		return nil, errs.New(errs.Invalid, 0, "the body must have token, an API token, or code, that of a link, and not both")
	}
	address := s.clientAddress(r.gin.Request)
	ended, wait := s.attempts.begin(address, s.now())
	if wait > 0 {
		seconds := int64(math.Ceil(wait.Seconds()))
		r.gin.Header("Retry-After", strconv.FormatInt(seconds, 10))
		return nil, errs.New(errs.Limited, 0, "too many attempts to sign in from %s failed or are under way: try again in %d s", address, seconds)
	}
	ctx := control.WithActor(r.ctx, control.Actor{Source: sourceDashboard})
	var session control.Session
	var secret string
	if body.Token != nil {
		session, secret, err = s.sessionOfToken(ctx, strings.TrimSpace(*body.Token))
	} else {
		session, secret, err = s.deps.Sessions.UseSessionLink(ctx, strings.TrimSpace(*body.Code))
	}
	failed := errs.KindOf(err) == errs.Unauthorized
	ended(failed)
	if failed {
		s.log.InfoContext(ctx, "an attempt to sign in failed", "address", address, "by_link", body.Code != nil)
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	s.log.InfoContext(ctx, "signed in", "address", address, "by_link", body.Code != nil, "token_id", session.Token.ID)
	if err := s.forgetSession(r); err != nil { // of who was signed in before; a link was used, and cannot be again
		s.log.WarnContext(ctx, "the session before was not ended", "error", err)
	}
	s.setCookie(r, secret, session.ExpiresOn)
	return s.viewSession(r, session)
}

func (s *Server) sessionOfToken(ctx context.Context, secret string) (control.Session, string, error) {
	token, err := s.deps.Tokens.Authenticate(ctx, secret)
	if err != nil {
		return control.Session{}, "", err
	}
	return s.deps.Sessions.CreateSession(ctx, token.ID)
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
	end := s.forgetSession
	if everywhere {
		end = s.endSessionsOfToken
	}
	if err := end(r); err != nil {
		return nil, err
	}
	s.setCookie(r, "", time.Time{})
	return nil, nil
}

// endSessionsOfToken is for who is signed in.
func (s *Server) endSessionsOfToken(r *request) error {
	session, err := s.openSession(r.ctx, r.gin.Request)
	if err != nil {
		return err
	}
	ctx := control.WithActor(r.ctx, caller{session.Token, sourceDashboard}.actor())
	return s.deps.Sessions.EndSessionsOf(ctx, session.Token.ID)
}

func (s *Server) forgetSession(r *request) error {
	cookie, err := r.gin.Request.Cookie(s.cookieName(r.gin.Request))
	if err != nil || cookie.Value == "" {
		return nil
	}
	return s.deps.Sessions.EndSession(control.WithActor(r.ctx, control.Actor{Source: sourceDashboard}), cookie.Value)
}

// setCookie keeps a secret in the browser until a time, or with the zero time removes it.
func (s *Server) setCookie(r *request, secret string, until time.Time) {
	age := -1
	if !until.IsZero() {
		age = max(1, int(until.Sub(s.now()).Seconds()))
	}
	http.SetCookie(r.gin.Writer, &http.Cookie{ //nolint:gosec // Secure where the browser speaks TLS
		Name: s.cookieName(r.gin.Request), Value: secret, Path: "/", MaxAge: age,
		HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: s.cameByTLS(r.gin.Request),
	})
}

func (s *Server) cookieName(r *http.Request) string {
	if s.cameByTLS(r) {
		return control.SecureSessionCookie
	}
	return control.SessionCookie
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
