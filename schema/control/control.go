// Package control holds the control plane's shapes that are neither deployments
// nor jobs: accounts, tokens, and who acts. Its SQL files are the migrations of
// the control plane's database. It imports the standard library only.
package control

import (
	"context"
	"embed"
	"strings"
	"time"
)

// Migrations are numbered goose files. SQLite and PostgreSQL run the same ones:
// ids come from the counters table instead of an identity column, times are Unix
// microseconds, and documents are JSON text.
//
//go:embed *.sql
var Migrations embed.FS

// FirstAccountID is the account that an empty database is given.
const FirstAccountID = "00000000000000000000000000000001"

// Account owns scripts, jobs and tokens, and shares nothing with other accounts
// except the name space of subdomains and routes.
type Account struct {
	ID          string // 32 hex digits
	Name        string
	Subdomain   string // one DNS label, unique: <script>.<subdomain>.<gateway domain>
	MaxVersions int    // versions in one deployment
	MaxJobs     int    // Logpush jobs
	CreatedOn   time.Time
}

// AccountUpdate changes an account; nil leaves a member as it is.
type AccountUpdate struct {
	Name        *string // the subdomain stays as it is
	MaxVersions *int
	MaxJobs     *int
}

// Scope is a right that a token carries.
type Scope string

// The scopes. Edit includes read; admin includes all but Routers.
const (
	LogsRead    Scope = "logs:read"
	LogsEdit    Scope = "logs:edit"
	ScriptsRead Scope = "scripts:read"
	ScriptsEdit Scope = "scripts:edit"
	PolicyEdit  Scope = "policy:edit"
	Admin       Scope = "admin"
	// Routers opens what routers ask the control plane, of all accounts: the text of
	// secrets is in it, so only the operator gives it.
	Routers Scope = "routers"
)

// Scopes lists every scope, for validation and documentation.
var Scopes = []Scope{LogsRead, LogsEdit, ScriptsRead, ScriptsEdit, PolicyEdit, Admin, Routers}

// Token is a credential, without its secret: only the hash of that is stored.
type Token struct {
	ID string // 32 hex digits
	// AccountID is the only account that the token opens. Empty for the operator's
	// token, which opens all of them and may create more.
	AccountID  string
	Name       string
	Email      string // named as the author of what the token makes
	Scopes     []Scope
	CreatedOn  time.Time
	ExpiresOn  time.Time // zero: never
	LastUsedOn time.Time // zero: never; kept to the minute
	// Hash of the secret that somebody authenticated with; empty where nobody did. It tells whether
	// that secret still opens the token: a roll gives it another one.
	Hash string `json:"-"`
}

// Rights of whoever has the token.
func (t *Token) Rights() Rights { return Rights{{t.AccountID, t.Scopes}} }

const (
	// SessionLifetime is how long a session lasts, whatever is done with it.
	SessionLifetime = 12 * time.Hour
	// SessionIdle is how long a session lasts without a request. Uses are kept to the
	// minute, so that it may end up to a minute early.
	SessionIdle = time.Hour
	// SessionLinkLifetime is how long a link that begins a session can be used.
	SessionLinkLifetime = 10 * time.Minute
)

// SessionCookie holds the secret of a session, and SignInCookie that of an attempt to sign
// in at an identity provider. Over TLS they have SecureCookie before their names, for which
// browsers take care that no other host and no plain connection sets them.
const (
	SessionCookie = "tidegate-session"
	SignInCookie  = SessionCookie + "-sign-in"
	SecureCookie  = "__Host-"
)

// IsSessionCookie reports whether a cookie of this name is the dashboard's, and nobody
// else's business.
func IsSessionCookie(name string) bool {
	name = strings.TrimPrefix(name, SecureCookie)
	return name == SessionCookie || name == SignInCookie
}

// Session is somebody's stay at the dashboard, without the secret that their browser
// holds: only the hash of that is stored.
type Session struct {
	Hash      string    // SHA-256 of the secret, hex
	Token     Token     // what the session stands for, unless there is a Person
	Person    *Person   // who has signed in at an identity provider; nil: by a token
	ExpiresOn time.Time // also if it is used until then
}

// Holder is whom the address of a feed of events was given to: a session, or a token without
// one. The zero Holder is the platform, or somebody from before this was kept.
type Holder struct {
	TokenID string // or a person's id
	Session string // Session.Hash; empty: none
}

// Actor is who makes a change: the audit log and the authorship of versions and
// deployments name it. The zero Actor is the system itself.
type Actor struct {
	TokenID string // or a person's id
	// TokenHash is Token.Hash of who acts by a token's secret, and not in a session.
	TokenHash string
	Session   string // Session.Hash of the one that it acts in; empty: none
	Email     string
	Source    string // "api", "dash", "wrangler", "terraform", ...
	// Bound says that it acts in its accounts alone, and not for the platform: such an actor
	// claims no host that could be another account's.
	Bound bool
}

type actorKey struct{}

// WithActor returns a context whose writes are on behalf of a.
func WithActor(ctx context.Context, a Actor) context.Context {
	return context.WithValue(ctx, actorKey{}, a)
}

// ActorFrom returns the actor of ctx; writes without one are the system's own,
// such as a rollback.
func ActorFrom(ctx context.Context) Actor {
	a, _ := ctx.Value(actorKey{}).(Actor)
	return a
}

// AuditEntry is one change to what an account has. It is written with the change, in one
// transaction, and never changes.
type AuditEntry struct {
	ID         string
	HappenedOn time.Time
	AccountID  string
	Actor      Actor  // its Source is "system" for what the platform did by itself
	Action     string // such as "deployment.create"
	Target     string // what was changed, such as "shop/<id of the deployment>"
	// Before and After are JSON, with secrets masked; empty where there was nothing, or
	// where it is not kept.
	Before, After string
}

// AuditFilter says which entries of an account are meant. Empty members leave theirs open.
type AuditFilter struct {
	ID            string
	ActorID       string // of a token, or of a person
	ActorEmail    string
	System        *bool     // what the platform did by itself, or else what somebody did
	Action        string    // whole, or its part before the dot
	Target        string    // whole, or its part before a slash
	Since, Before time.Time // [Since, Before); zero is without a bound
	OldestFirst   bool
	// NoAccount adds what belongs to no account, such as an operator's signing in.
	NoAccount bool
}
