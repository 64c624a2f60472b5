// Package signin speaks to an identity provider by OpenID Connect: it sends people there,
// finds out who has come back, and says what they may do here by their groups. It is the
// only place that does.
package signin

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const (
	// askTimeout bounds one request to the provider.
	askTimeout = 5 * time.Second
	// foundFor is how long what was discovered is believed when somebody begins to sign in,
	// and retryAfter how long a failure is: who reloads the page asks nobody else.
	foundFor   = time.Minute
	retryAfter = 2 * time.Second
	// clockSkew is how far the provider's clock may be behind or ahead.
	clockSkew = 30 * time.Second
)

// algorithms that ID tokens may be signed with: all that need no secret of ours. The
// provider's own list bounds nothing, since whoever can change it can sign.
var algorithms = []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA}

// Config of a provider.
type Config struct {
	Issuer       string // its URL, to the last character
	Name         string // for people
	ClientID     string
	ClientSecret string // empty: a public client
	Scopes       []string
	GroupsClaim  string
	Roles        []Role
	CA           *x509.CertPool   // nil: the system's
	Now          func() time.Time // nil: time.Now
	Logger       *slog.Logger     // nil: nothing is logged
}

// Provider is an identity provider. Its methods are safe for concurrent use.
type Provider struct {
	config Config
	client *http.Client

	mu      sync.Mutex
	found   *discovered // the newest
	problem error       // of the newest attempt; nil: it succeeded
	triedOn time.Time
}

// discovered is what a provider says of itself. It does not change.
type discovered struct {
	provider *oidc.Provider
	verifier *oidc.IDTokenVerifier
	oauth    oauth2.Config // without a redirect
}

// New returns a provider. Nobody is asked before somebody wants to sign in.
func New(config Config) *Provider {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: config.CA, MinVersion: tls.VersionTLS12}
	// Nobody is followed elsewhere: what is sent may hold the client's secret.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Provider{config: config, client: &http.Client{Transport: transport, Timeout: askTimeout, CheckRedirect: stay}}
}

// Provider is its name, for people.
func (p *Provider) Provider() string { return p.config.Name }

// Rights are what somebody may do, by the roles; nothing for people of another issuer.
func (p *Provider) Rights(person control.Person) control.Rights {
	if person.Issuer != p.config.Issuer {
		return nil
	}
	return rightsOf(p.config.Roles, person)
}

// Ready reports whether the provider answers, or did a short time ago. The error is unavailable.
func (p *Provider) Ready(ctx context.Context) error {
	_, err := p.discover(ctx)
	return err
}

// discover asks the provider what it is, unless it has just been asked. Others wait meanwhile,
// and have the same answer, so who begins it does not end it by leaving.
func (p *Provider) discover(ctx context.Context) (*discovered, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := p.config.Now().Sub(p.triedOn)
	if p.problem == nil && p.found != nil && age < foundFor || p.problem != nil && age < retryAfter {
		return p.found, p.problem
	}
	found, err := p.ask(context.WithoutCancel(ctx))
	p.triedOn, p.problem = p.config.Now(), nil
	if err != nil {
		p.config.Logger.WarnContext(ctx, "the identity provider cannot be used", "issuer", p.config.Issuer, "error", err)
		p.problem = errs.New(errs.Unavailable, 0, "%s cannot be reached now, or does not answer as an identity provider: try again, or sign in with an API token. The log of the API says more", p.config.Name)
		return nil, p.problem
	}
	p.found = found
	return found, nil
}

func (p *Provider) ask(ctx context.Context) (*discovered, error) {
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, p.client), p.config.Issuer)
	if err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.config.Issuer, err)
	}
	var more struct {
		AuthMethods []string `json:"token_endpoint_auth_methods_supported"`
	}
	if err := provider.Claims(&more); err != nil {
		return nil, fmt.Errorf("discover %s: %w", p.config.Issuer, err)
	}
	d := &discovered{
		provider: provider,
		verifier: provider.Verifier(&oidc.Config{
			ClientID: p.config.ClientID, SupportedSigningAlgs: algorithms,
			Now: func() time.Time { return p.config.Now().Add(-clockSkew) },
		}),
		oauth: oauth2.Config{ClientID: p.config.ClientID, ClientSecret: p.config.ClientSecret, Scopes: p.config.Scopes, Endpoint: provider.Endpoint()},
	}
	// The library would try both ways, and a code is good for one try. Where nothing is said
	// it is the header (OpenID Connect Discovery, 3).
	d.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInHeader
	if p.config.ClientSecret == "" || len(more.AuthMethods) > 0 && !slices.Contains(more.AuthMethods, "client_secret_basic") {
		d.oauth.Endpoint.AuthStyle = oauth2.AuthStyleInParams
	}
	return d, nil
}

// derive makes the state, the nonce and the verifier of PKCE out of the one secret that the
// browser holds. The first two are told to the provider, and none tells the others.
func derive(secret, what string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(what))
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// Begin returns where somebody signs in, who comes back to redirect. The error is
// unavailable while the provider is away.
func (p *Provider) Begin(ctx context.Context, secret, redirect string) (string, error) {
	d, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	config := d.oauth
	config.RedirectURL = redirect
	return config.AuthCodeURL(derive(secret, "state"), oidc.Nonce(derive(secret, "nonce")), oauth2.S256ChallengeOption(derive(secret, "verifier"))), nil
}

// Finish returns who has come back with a code, and with the state that was given to them. The
// error is unauthorized for what the provider has not made for whoever holds the secret.
func (p *Provider) Finish(ctx context.Context, secret, redirect, code, state string) (control.Person, error) {
	if subtle.ConstantTimeCompare([]byte(state), []byte(derive(secret, "state"))) == 0 {
		return control.Person{}, errs.New(errs.Unauthorized, 0, "this browser has begun to sign in anew meanwhile, or not at all: begin again")
	}
	d, err := p.discover(ctx)
	if err != nil {
		return control.Person{}, err
	}
	ctx = oidc.ClientContext(ctx, p.client)
	token, err := p.exchange(ctx, d, secret, redirect, code)
	if err != nil {
		return control.Person{}, err
	}
	person, err := p.identify(ctx, d, token, derive(secret, "nonce"))
	if err != nil {
		p.config.Logger.WarnContext(ctx, "what the identity provider says of somebody was refused", "issuer", p.config.Issuer, "error", err)
		return control.Person{}, errs.New(errs.Unauthorized, 0, "what %s says of you cannot be believed, so you are not signed in: begin again. The log of the API says why", p.config.Name)
	}
	return person, nil
}

func (p *Provider) exchange(ctx context.Context, d *discovered, secret, redirect, code string) (*oauth2.Token, error) {
	config := d.oauth
	config.RedirectURL = redirect
	token, err := config.Exchange(ctx, code, oauth2.VerifierOption(derive(secret, "verifier")))
	if err == nil {
		return token, nil
	}
	if refused, ok := errors.AsType[*oauth2.RetrieveError](err); ok && refused.ErrorCode == "invalid_grant" {
		return nil, errs.New(errs.Unauthorized, 0, "%s does not take its own code back: it was used, or took too long. Begin again", p.config.Name)
	}
	p.config.Logger.WarnContext(ctx, "the identity provider gave nothing for a code", "issuer", p.config.Issuer, "error", err)
	return nil, errs.New(errs.Unavailable, 0, "%s did not say who you are: begin again. The log of the API says why", p.config.Name)
}

// identify verifies the ID token, and asks for what is not in it.
func (p *Provider) identify(ctx context.Context, d *discovered, token *oauth2.Token, nonce string) (control.Person, error) {
	raw, _ := token.Extra("id_token").(string)
	id, err := d.verifier.Verify(ctx, raw)
	if err != nil {
		return control.Person{}, err
	}
	c, err := claimsOf(id)
	if err != nil {
		return control.Person{}, err
	}
	switch party := c.text("azp"); {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) == 0:
		return control.Person{}, errors.New("the ID token has another nonce: it was made for another signing in")
	case id.Subject == "":
		return control.Person{}, errors.New("the ID token has no subject")
	case len(id.Audience) > 1 && party == "" || party != "" && party != p.config.ClientID: // OpenID Connect Core, 3.1.3.7
		return control.Person{}, fmt.Errorf("the ID token for %q was made for the party %q", id.Audience, party)
	}
	if c["email"] == nil || c["name"] == nil || c[p.config.GroupsClaim] == nil {
		more, err := p.userInfo(ctx, d, token, id.Subject)
		if err != nil {
			return control.Person{}, err
		}
		c.add(more)
	}
	return c.person(p.config.Issuer, id.Subject, p.config.GroupsClaim)
}

// userInfo is nothing where the provider has no endpoint for it.
func (p *Provider) userInfo(ctx context.Context, d *discovered, token *oauth2.Token, subject string) (claims, error) {
	if d.provider.UserInfoEndpoint() == "" {
		return nil, nil
	}
	info, err := d.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return nil, fmt.Errorf("ask for user info: %w", err)
	}
	if info.Subject != subject {
		return nil, errors.New("the user info is of another subject than the ID token")
	}
	return claimsOf(info)
}
