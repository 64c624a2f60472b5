package api

import (
	"crypto/rand"
	"net/http"
	"strings"
	"time"

	"tidegate/internal/addresses"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// People sign in at an identity provider: beginAtProvider names a page there, which sends
// the browser back to the page of signing in, and that begins a session as for a token.
// What ties the two together is the secret of a cookie that only this browser holds.
const (
	providerPath = "/session/oidc"
	// callbackPath is where a provider sends people back to, below the dashboard's address.
	callbackPath = "/login"
	// signInLifetime is how long somebody may take at the provider.
	signInLifetime = 10 * time.Minute
)

type providerView struct {
	Name string `json:"name"`
	// Problem says in words why nobody can sign in there now.
	Problem string `json:"problem,omitempty"`
}

// getProvider answers with nothing where there is none.
func (s *Server) getProvider(r *request) (any, error) {
	if s.deps.People == nil {
		return nil, nil
	}
	view := providerView{Name: s.deps.People.Provider()}
	if err := s.deps.People.Ready(r.ctx); err != nil {
		view.Problem = err.Error()
	}
	return view, nil
}

// beginAtProvider answers with the page of the provider at which to sign in.
func (s *Server) beginAtProvider(r *request) (any, error) {
	if err := s.checkOrigin(r.gin.Request); err != nil {
		return nil, err
	}
	redirect, err := s.callback(r.gin.Request)
	if err != nil {
		return nil, err
	}
	secret := rand.Text() + rand.Text()
	at, err := s.deps.People.Begin(r.ctx, secret, redirect)
	if err != nil {
		return nil, err
	}
	s.setCookie(r, control.SignInCookie, secret, s.now().Add(signInLifetime))
	return struct {
		URL string `json:"url"`
	}{at}, nil
}

// callback is where the provider sends the browser: to the dashboard's address. Unless that is
// configured it is what the request says, which is believed on this machine only.
func (s *Server) callback(r *http.Request) (string, error) {
	if s.deps.People == nil {
		return "", errs.New(errs.NotFound, codeNoRoute, "there is no identity provider here: sign in with an API token")
	}
	if s.dashboard == "" && !addresses.LoopbackHost(r.Host) {
		return "", errs.New(errs.Invalid, 0, "the identity provider must know where to send people back to: start the API with --console-url, the dashboard's address")
	}
	if s.dashboard != "" {
		return strings.TrimRight(s.dashboard, "/") + callbackPath, nil
	}
	if r.TLS != nil {
		return "https://" + r.Host + callbackPath, nil
	}
	return "http://" + r.Host + callbackPath, nil
}

// homecoming is what a provider gives somebody to take back.
type homecoming struct {
	Code  string `json:"code"`
	State string `json:"state"`
}

// sessionOfPerson ends the attempt to sign in, whatever comes of it.
func (s *Server) sessionOfPerson(r *request, home homecoming) (control.Session, string, error) {
	redirect, err := s.callback(r.gin.Request)
	if err != nil {
		return control.Session{}, "", err
	}
	secret := s.cookie(r.gin.Request, control.SignInCookie)
	s.setCookie(r, control.SignInCookie, "", time.Time{})
	if secret == "" {
		return control.Session{}, "", errs.New(errs.Unauthorized, 0, "this browser has not begun to sign in at %s, or too long ago: begin again, from the dashboard at %s", s.deps.People.Provider(), strings.TrimSuffix(redirect, callbackPath))
	}
	person, err := s.deps.People.Finish(r.ctx, secret, redirect, home.Code, home.State)
	if err != nil {
		return control.Session{}, "", err
	}
	if len(s.deps.People.Rights(person)) == 0 {
		return control.Session{}, "", errs.New(errs.Forbidden, 0, "%s knows you as %s, but says of no group of yours that has a role here: ask whoever runs this platform for one", s.deps.People.Provider(), person.Email)
	}
	if err := s.limitRate(r.gin, caller{person: &person}); err != nil {
		return control.Session{}, "", err
	}
	return s.deps.Sessions.CreatePersonSession(r.ctx, person)
}
