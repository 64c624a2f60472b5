package api

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

const nameCharsMax = 100

// checkName accepts what can be shown on one line.
func checkName(member, name string) error {
	n := utf8.RuneCountInString(name)
	if n == 0 || n > nameCharsMax || strings.ContainsFunc(name, unicode.IsControl) {
		return errs.New(errs.Invalid, 0, "%s %q must have 1 to %d characters and no control characters", member, shown(name), nameCharsMax).At("/" + member)
	}
	return nil
}

// accountType is the one that accounts have.
const accountType = "standard"

type accountView struct {
	ID        string          `json:"id"`
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Subdomain string          `json:"subdomain"`
	Settings  accountSettings `json:"settings"`
	CreatedOn timestamp       `json:"created_on"`
}

type accountSettings struct {
	MaxVersions int `json:"max_versions"`
	MaxJobs     int `json:"max_jobs"`
}

func viewAccount(a control.Account) accountView {
	return accountView{
		ID: a.ID, Name: a.Name, Type: accountType, Subdomain: a.Subdomain,
		Settings:  accountSettings{a.MaxVersions, a.MaxJobs},
		CreatedOn: timestamp(a.CreatedOn),
	}
}

// visibleAccounts are those in which the caller may do what the endpoint is for.
func (s *Server) visibleAccounts(r *request) ([]control.Account, error) {
	list, err := s.openAccounts(r)
	return slices.DeleteFunc(list, func(a control.Account) bool { return r.access.check(r.rights, a.ID) != nil }), err
}

// openAccounts are those that the caller's rights open.
func (s *Server) openAccounts(r *request) ([]control.Account, error) {
	if r.rights.Everywhere() {
		return s.deps.Accounts.Accounts(r.ctx)
	}
	var list []control.Account
	for _, id := range r.rights.Accounts() {
		a, err := s.deps.Accounts.Account(r.ctx, id)
		if errs.KindOf(err) == errs.NotFound { // a role names it
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// accountsNamed are those of them that have the name; an empty one is every name.
func accountsNamed(list []control.Account, name string) []control.Account {
	return slices.DeleteFunc(list, func(a control.Account) bool { return name != "" && a.Name != name })
}

func (s *Server) listAccounts(r *request) (any, error) {
	list, err := s.visibleAccounts(r)
	if err != nil {
		return nil, err
	}
	list, err = paged(r, accountsNamed(list, r.gin.Query("name")))
	return views(list, viewAccount), err
}

func (s *Server) getAccount(r *request) (any, error) {
	a, err := s.deps.Accounts.Account(r.ctx, r.account)
	return viewAccount(a), err
}

func (s *Server) createAccount(r *request) (any, error) {
	var body struct {
		Name string          `json:"name"`
		Type *string         `json:"type"`
		Unit json.RawMessage `json:"unit"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if err := checkName("name", body.Name); err != nil {
		return nil, err
	}
	if body.Type != nil && *body.Type != accountType {
		return nil, errs.New(errs.Invalid, 0, "type is %q: every account is %s", shown(*body.Type), accountType).At("/type")
	}
	if holds(body.Unit) {
		return nil, errs.New(errs.Invalid, 0, "unit is not supported: accounts belong to no tenant").At("/unit")
	}
	a, err := s.deps.Accounts.CreateAccount(r.ctx, body.Name)
	return viewAccount(a), err
}

// Bounds of an account's limits. A ramp holds two versions at a time.
const (
	maxVersionsLeast = 2
	maxVersionsMost  = deploy.DeployableVersions
	maxJobsMost      = 1000 // each one is a consumer group on the topic
)

func (s *Server) patchAccount(r *request) (any, error) {
	var body struct {
		Name     *string `json:"name"`
		Settings *struct {
			MaxVersions *int `json:"max_versions"`
			MaxJobs     *int `json:"max_jobs"`
		} `json:"settings"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	if body.Name == nil && body.Settings == nil {
		return nil, errs.New(errs.Invalid, 0, "there is neither name nor settings, which may have max_versions and max_jobs").At("/settings")
	}
	update := control.AccountUpdate{Name: body.Name}
	if body.Name != nil {
		if err := checkName("name", *body.Name); err != nil {
			return nil, err
		}
	}
	if body.Settings != nil {
		update.MaxVersions, update.MaxJobs = body.Settings.MaxVersions, body.Settings.MaxJobs
	}
	if n := update.MaxVersions; n != nil && (*n < maxVersionsLeast || *n > maxVersionsMost) {
		return nil, errs.New(errs.Invalid, 0, "settings.max_versions is %d: it must be from %d to %d", *n, maxVersionsLeast, maxVersionsMost).At("/settings/max_versions")
	}
	if n := update.MaxJobs; n != nil && (*n < 0 || *n > maxJobsMost) {
		return nil, errs.New(errs.Invalid, 0, "settings.max_jobs is %d: it must be from 0 to %d", *n, maxJobsMost).At("/settings/max_jobs")
	}
	a, err := s.deps.Accounts.UpdateAccount(r.ctx, r.account, update)
	return viewAccount(a), err
}

// membershipStatus is that of every membership: nobody is asked whether they want one.
const membershipStatus = "accepted"

type membershipView struct {
	ID      string      `json:"id"`
	Status  string      `json:"status"`
	Account accountView `json:"account"`
	Roles   []string    `json:"roles"`
}

func (s *Server) listMemberships(r *request) (any, error) {
	list, err := s.visibleAccounts(r)
	if err != nil {
		return nil, err
	}
	list = accountsNamed(accountsNamed(list, r.gin.Query("name")), r.gin.Query("account.name"))
	if status := r.gin.Query("status"); status != "" && status != membershipStatus {
		list = nil
	}
	list, err = paged(r, list)
	return views(list, func(a control.Account) membershipView {
		// One caller is one member, so an account's id is enough to tell memberships apart.
		return membershipView{ID: a.ID, Status: membershipStatus, Account: viewAccount(a), Roles: scopeNames(r.rights.In(a.ID))}
	}), err
}

func scopeNames(scopes []control.Scope) []string {
	return views(scopes, func(scope control.Scope) string { return string(scope) })
}

func (s *Server) getUser(r *request) (any, error) {
	who := r.actor()
	return struct {
		ID    string `json:"id"`
		Email string `json:"email"`
	}{who.TokenID, who.Email}, nil
}

func (s *Server) verifyToken(r *request) (any, error) {
	if r.person != nil {
		return nil, errs.New(errs.Invalid, codeInvalidToken, "there is no token to verify: you are signed in as %s, by your identity provider", r.person.Email)
	}
	return struct {
		ID        string     `json:"id"`
		Status    string     `json:"status"`
		ExpiresOn *timestamp `json:"expires_on,omitempty"`
	}{r.token.ID, "active", optional(r.token.ExpiresOn)}, nil
}

type tokenView struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Email      string     `json:"email"`
	Status     string     `json:"status"`
	Scopes     []string   `json:"scopes"`
	IssuedOn   timestamp  `json:"issued_on"`
	ExpiresOn  *timestamp `json:"expires_on,omitempty"`
	LastUsedOn *timestamp `json:"last_used_on,omitempty"`
	Value      string     `json:"value,omitempty"` // the secret, in the answer to its creation only
}

func (s *Server) viewToken(t control.Token) tokenView {
	status := "active"
	if !t.ExpiresOn.IsZero() && !s.now().Before(t.ExpiresOn) {
		status = "expired"
	}
	return tokenView{
		ID: t.ID, Name: t.Name, Email: t.Email, Status: status, Scopes: scopeNames(t.Scopes),
		IssuedOn: timestamp(t.CreatedOn), ExpiresOn: optional(t.ExpiresOn), LastUsedOn: optional(t.LastUsedOn),
	}
}

func (s *Server) listTokens(r *request) (any, error) {
	list, err := s.deps.Tokens.Tokens(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	list, err = onePage(r, list)
	return views(list, s.viewToken), err
}

type tokenBody struct {
	Name      string     `json:"name"`
	Email     *string    `json:"email"` // default: that of the caller
	Scopes    []string   `json:"scopes"`
	ExpiresOn *time.Time `json:"expires_on"`

	// How Cloudflare's tokens are bound, and ours are not.
	Policies  json.RawMessage `json:"policies"`
	Condition json.RawMessage `json:"condition"`
	NotBefore *time.Time      `json:"not_before"`
}

// checkSupported refuses bounds that a token would not have.
func (b *tokenBody) checkSupported() error {
	switch {
	case holds(b.Policies):
		return errs.New(errs.Invalid, 0, "policies is not supported: scopes say what a token may do").At("/policies")
	case holds(b.Condition):
		return errs.New(errs.Invalid, 0, "condition is not supported: a token opens from every address").At("/condition")
	case b.NotBefore != nil:
		return errs.New(errs.Invalid, 0, "not_before is not supported: a token opens at once").At("/not_before")
	}
	return nil
}

// tokenOf is what a body says of a token, but for its scopes.
func (s *Server) tokenOf(r *request, body *tokenBody) (token control.Token, err error) {
	if err := r.decode(body); err != nil {
		return token, err
	}
	if err := body.checkSupported(); err != nil {
		return token, err
	}
	token = control.Token{AccountID: r.account, Name: body.Name, Email: r.actor().Email}
	if err := checkName("name", body.Name); err != nil {
		return token, err
	}
	if body.Email != nil {
		if err := checkName("email", *body.Email); err != nil {
			return token, err
		}
		if *body.Email != token.Email && !r.rights.Operator() { // the audit log would name somebody who did nothing
			return token, errs.New(errs.Forbidden, 0, "email %q is not yours: what the token does would bear it, so only the operator's token names somebody else. Say in name what the token is for", shown(*body.Email)).At("/email")
		}
		token.Email = *body.Email
	}
	if body.ExpiresOn != nil {
		if !body.ExpiresOn.After(s.now()) {
			return token, errs.New(errs.Invalid, 0, "expires_on %s has passed", body.ExpiresOn.Format(time.RFC3339)).At("/expires_on")
		}
		token.ExpiresOn = body.ExpiresOn.UTC()
	}
	return token, nil
}

func (s *Server) createToken(r *request) (any, error) {
	var body tokenBody
	token, err := s.tokenOf(r, &body)
	if err != nil {
		return nil, err
	}
	if len(body.Scopes) == 0 {
		return nil, errs.New(errs.Invalid, 0, "scopes is empty: name at least one of %s", joinScopes(control.Scopes)).At("/scopes")
	}
	for _, name := range body.Scopes {
		scope := control.Scope(name)
		if !slices.Contains(control.Scopes, scope) {
			return nil, errs.New(errs.Invalid, 0, "scopes has %q: a scope is %s", shown(name), joinScopes(control.Scopes)).At("/scopes")
		}
		if scope == control.Routers && !r.rights.Operator() {
			return nil, errs.New(errs.Forbidden, 0, "the scope %s opens secrets of every account, so only the operator's token gives it", scope).At("/scopes")
		}
		if !slices.Contains(token.Scopes, scope) {
			token.Scopes = append(token.Scopes, scope)
		}
	}
	token, secret, err := s.deps.Tokens.CreateToken(r.ctx, token)
	view := s.viewToken(token)
	view.Value = secret
	return view, err
}

func (s *Server) deleteToken(r *request) (any, error) {
	if err := s.checkEndsToken(r, r.param("id")); err != nil {
		return nil, err
	}
	return idView{r.param("id")}, s.deps.Tokens.DeleteToken(r.ctx, r.account, r.param("id"))
}

// checkEndsToken refuses an account's admins the tokens of routers, which serve every account.
func (s *Server) checkEndsToken(r *request, id string) error {
	if r.rights.Operator() {
		return nil
	}
	list, err := s.deps.Tokens.Tokens(r.ctx, r.account)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(list, func(t control.Token) bool { return t.ID == id && slices.Contains(t.Scopes, control.Routers) }) {
		return errs.New(errs.Forbidden, 0, "the token has the scope %s, with which routers serve every account, so only the operator's token ends it", control.Routers)
	}
	return nil
}

// idView answers a deletion.
type idView struct {
	ID string `json:"id"`
}
