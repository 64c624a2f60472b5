package api

import (
	"context"
	"net/http"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/logjob"
	"tidegate/schema"
	"tidegate/schema/control"
)

// Deps is what a server works on. Every method is safe for concurrent use. Where
// something does not exist, or not in the account that is asked about, the error
// has kind not_found. Who acts is in the context: control.ActorFrom.
type Deps struct {
	Accounts      Accounts
	Tokens        Tokens
	Sessions      Sessions
	People        People // nil: nobody signs in at an identity provider
	AuditLog      AuditLog
	Scripts       Scripts
	Policies      Policies
	Trials        Trials // nil: nothing is known of them
	Notifications Notifications
	Notifier      Notifier // nil: targets cannot be tested
	Jobs          Jobs
	Letters       Letters
	Health        Health
	Replays       Replays
	Deletions     Deletions
	Archive       Archive // nil: nobody knows what is kept
	Previews      Previews
	Snapshots     Snapshots
	Destinations  Destinations
	Keys          Keys
	Metrics       Metrics
	Events        Events
	LiveEvents    InstantEvents // nil: events cannot be watched
	Runtime       Runtime       // nil: uploads of code are refused
	Triggers      Triggers
	Tails         Tails
	TailEvents    TailEvents // nil: scripts cannot be watched
	InstantLogs   InstantLogs
	InstantEvents InstantEvents // nil: there are no instant logs
	Routers       Routers       // nil: routers report nothing and claim nothing
	System        System        // nil: nobody knows how the parts are

	// Ready names what is missing, in words for everybody, with the error that says more for
	// the log. Nil is always ready.
	Ready      func(context.Context) (missing string, err error)
	Prometheus http.Handler // /metrics, for everybody; nil: none
	Dashboard  http.Handler // everything else that is not the API; nil: none
}

// Accounts of the platform.
type Accounts interface {
	Accounts(ctx context.Context) ([]control.Account, error)
	Account(ctx context.Context, id string) (control.Account, error)
	CreateAccount(ctx context.Context, name string) (control.Account, error)
	UpdateAccount(ctx context.Context, id string, u control.AccountUpdate) (control.Account, error)
	SubdomainOwner(ctx context.Context, subdomain string) (control.Account, error)
	// SetSubdomain is a conflict when another account has it.
	SetSubdomain(ctx context.Context, accountID, subdomain string) error
}

// Tokens open accounts.
type Tokens interface {
	// Authenticate returns an unauthorized error for a secret that opens nothing.
	Authenticate(ctx context.Context, secret string) (control.Token, error)
	CreateToken(ctx context.Context, token control.Token) (created control.Token, secret string, err error)
	Tokens(ctx context.Context, accountID string) ([]control.Token, error)
	DeleteToken(ctx context.Context, accountID, id string) error
	// Those of operators are of no account, and open all of them.
	CreateOperatorToken(ctx context.Context, token control.Token) (created control.Token, secret string, err error)
	OperatorTokens(ctx context.Context) ([]control.Token, error)
	DeleteOperatorToken(ctx context.Context, id string) error
	// RollOperatorToken replaces the secret, and ends what the old one has opened.
	RollOperatorToken(ctx context.Context, id string) (secret string, err error)
}

// Sessions of the dashboard stand for tokens, and end with them, or for people. The errors
// of secrets and codes that open nothing are unauthorized.
type Sessions interface {
	CreateSession(ctx context.Context, tokenID string) (session control.Session, secret string, err error)
	CreatePersonSession(ctx context.Context, person control.Person) (session control.Session, secret string, err error)
	OpenSession(ctx context.Context, secret string) (control.Session, error)
	// Holding is the live session, or a token in one's place, of whom an address was given to.
	// It is unauthorized when that has ended.
	Holding(ctx context.Context, holder control.Holder) (control.Session, error)
	// EndSession is no error for a secret that opens nothing.
	EndSession(ctx context.Context, secret string) error
	// EndSessionsOf ends all of the session's token, and its links, or all of its person.
	EndSessionsOf(ctx context.Context, session control.Session) error
	// CreateSessionLink makes a code that UseSessionLink takes once, until it expires.
	CreateSessionLink(ctx context.Context, tokenID string) (code string, expiresOn time.Time, err error)
	UseSessionLink(ctx context.Context, code string) (session control.Session, secret string, err error)
}

// People are those whom an identity provider knows. The errors of its methods are
// unavailable while it is away.
type People interface {
	// Provider is the provider's name, for people.
	Provider() string
	// Ready asks the provider whether it is there.
	Ready(ctx context.Context) error
	// Begin returns where at the provider somebody signs in, who comes back to redirect
	// with a code and a state. Who began is known by the secret again.
	Begin(ctx context.Context, secret, redirect string) (at string, err error)
	// Finish returns who has come back. The error is unauthorized for a code or a state that
	// is not what the provider has sent the one who began with the secret.
	Finish(ctx context.Context, secret, redirect, code, state string) (control.Person, error)
	// Rights are what somebody may do now, by the roles of this process; nothing for people
	// of another provider.
	Rights(person control.Person) control.Rights
}

// Scripts with their versions and deployments.
type Scripts interface {
	Scripts(ctx context.Context, accountID string) ([]deploy.Script, error)
	Script(ctx context.Context, accountID, name string) (deploy.Script, error)
	// FindScript takes a name or a tag.
	FindScript(ctx context.Context, accountID, nameOrTag string) (deploy.Script, error)
	// CreateScript makes one without versions; it is a conflict when it exists.
	CreateScript(ctx context.Context, accountID, name string, u deploy.ScriptUpdate) error
	UpdateScript(ctx context.Context, accountID, name string, u deploy.ScriptUpdate) error
	// SetRoutes is a conflict when another script has one of them, or another
	// account one on the same host.
	SetRoutes(ctx context.Context, accountID, name string, patterns []string) error
	// DeleteScript is a conflict while others use the script, unless it is forced.
	DeleteScript(ctx context.Context, accountID, name string, force bool) error
	References(ctx context.Context, accountID, name string) (deploy.References, error)
	// Ties is what References finds them in, for all scripts. Its versions have the text
	// of secrets.
	Ties(ctx context.Context, accountID string) (deploy.Ties, error)

	// Affinity is not_found for a script without rules.
	Affinity(ctx context.Context, accountID, script string) (deploy.Affinity, error)
	SaveAffinity(ctx context.Context, accountID, script string, a deploy.Affinity) error
	DeleteAffinity(ctx context.Context, accountID, script string) error

	// Sampling is deploy.DefaultSampling for a script for which nobody has said anything.
	Sampling(ctx context.Context, accountID, script string) (deploy.Sampling, error)
	SaveSampling(ctx context.Context, accountID, script string, sampling deploy.Sampling) error

	// Redaction is not_found where there are no rules. The account's, for all of its
	// scripts, are those of the script "".
	Redaction(ctx context.Context, accountID, script string) (deploy.Redaction, error)
	SaveRedaction(ctx context.Context, accountID, script string, rules deploy.Redaction) error
	DeleteRedaction(ctx context.Context, accountID, script string) error

	// DurableObjectNamespaces is in the order of scripts and classes.
	DurableObjectNamespaces(ctx context.Context, accountID string) ([]deploy.ScriptNamespace, error)

	// CreateVersion makes the script too if it is missing.
	CreateVersion(ctx context.Context, accountID, script string, v deploy.Version) (deploy.Version, error)
	// Upload stores a version with all that deploy.Upload names, and has its errors.
	Upload(ctx context.Context, accountID, script string, u deploy.Upload) (deploy.Version, error)
	// Versions is newest first; total counts all.
	Versions(ctx context.Context, accountID, script string, limit, offset int) (list []deploy.Version, total int, err error)
	Version(ctx context.Context, accountID, script, id string) (deploy.Version, error)
	// VersionTags is by id; a version that does not exist is absent.
	VersionTags(ctx context.Context, accountID string, ids []string) (map[string]string, error)
	// DeleteVersion is invalid for one that a deployment names.
	DeleteVersion(ctx context.Context, accountID, script, id string) error
	// Bundle has the text of secrets.
	Bundle(ctx context.Context, accountID, versionID string) (deploy.Bundle, error)
	// Module finds only what a version of the account has.
	Module(ctx context.Context, accountID, sha256 string) ([]byte, error)

	// Deploy is invalid for splits that the script or the account does not allow, and
	// for a rollback to other secrets, which DeployForced lets pass. It is a conflict when
	// ifCurrent is not empty and another deployment serves; "none" is none.
	Deploy(ctx context.Context, accountID, script string, d deploy.Deployment, ifCurrent string) (deploy.Deployment, error)
	DeployForced(ctx context.Context, accountID, script string, d deploy.Deployment, ifCurrent string) (deploy.Deployment, error)
	// Serving is what every script that was ever deployed serves, by name. Decisions are
	// those since a time.
	Serving(ctx context.Context, accountID string, since time.Time) ([]deploy.Serving, error)
	// Deployments is newest first: the first one serves.
	Deployments(ctx context.Context, accountID, script string) ([]deploy.Deployment, error)
	Deployment(ctx context.Context, accountID, script, id string) (deploy.Deployment, error)
	// DeleteDeployment is invalid for the one that serves, and for those by which an enabled
	// policy finds the version to go back to.
	DeleteDeployment(ctx context.Context, accountID, script, id string) error
}

// Runtime runs Workers.
type Runtime interface {
	// Check runs the code of w up to the end of its top level, and tells what it
	// exports and how long that took. contents are its modules by SHA-256. A broken
	// script is an *errs.Error of kind invalid with code 10021, in the runtime's words.
	Check(ctx context.Context, w *deploy.Worker, contents map[string][]byte) (exports deploy.Exports, startupMs int64, err error)
}

// Policies that take bad versions out of traffic, and what came of them.
type Policies interface {
	// Policy is what a script follows: its own, or else the account's default. For the
	// script "", here and below, it is that default.
	Policy(ctx context.Context, accountID, script string) (deploy.PolicyRevision, error)
	// PolicyRevisions is newest first.
	PolicyRevisions(ctx context.Context, accountID, script string) ([]deploy.PolicyRevision, error)
	// SavePolicy puts back what of p is masked, or is invalid. check may refuse, and is
	// given the revision that would be replaced, 0 for none.
	SavePolicy(ctx context.Context, accountID, script string, p deploy.RollbackPolicy, check func(revision int64) error) (deploy.PolicyRevision, error)
	DeletePolicy(ctx context.Context, accountID, script string, check func(revision int64) error) error
	// Decisions is newest first, without the series of their evidence; total counts all.
	Decisions(ctx context.Context, accountID, script string, limit, offset int) (list []deploy.RollbackDecision, total int, err error)
	Decision(ctx context.Context, accountID, script, id string) (deploy.RollbackDecision, error)
	Ramp(ctx context.Context, accountID, script string) (deploy.Ramp, error)
	// ControlRamp applies deploy.Ramp.Control and has its errors. It is a conflict when
	// ifDeployment is not empty and the ramp is not at the step of that deployment any more.
	ControlRamp(ctx context.Context, accountID, script, action, ifDeployment string) (deploy.Ramp, error)
}

// Trials of versions, as the tests of policies see them. Errors of kind unavailable also
// say that a question was too much to answer.
type Trials interface {
	// Backtest replays a policy; what was replayed is in the result. It calls progress from
	// time to time, first when everything that can be refused was. It is invalid where
	// nothing of the time can be replayed.
	Backtest(ctx context.Context, q deploy.BacktestQuery, progress func(deploy.BacktestProgress)) (deploy.BacktestResult, error)
	// Evidence is not_found for a script that follows no policy.
	Evidence(ctx context.Context, accountID, script string) (deploy.LiveEvidence, error)
}

// Notifications about rollback decisions.
type Notifications interface {
	// Notifications is newest first.
	Notifications(ctx context.Context, accountID, script string) ([]deploy.Notification, error)
	// NotifyTargets are those of the policy that holds for the script, with their
	// secrets; none when there is no policy.
	NotifyTargets(ctx context.Context, accountID, script string) ([]deploy.NotifyTarget, error)
}

// Notifier tells targets.
type Notifier interface {
	// Test sends a test message to each target and returns what came of it.
	Test(ctx context.Context, accountID, script string, targets []deploy.NotifyTarget) ([]deploy.NotifyResult, error)
}

// Jobs of Logpush.
type Jobs interface {
	AccountJobs(ctx context.Context, accountID string) ([]logjob.Job, error)
	Job(ctx context.Context, accountID string, id int64) (logjob.Job, error)
	// JobQuota is forbidden when an account may have no further job of a dataset; most
	// is what every account may have.
	JobQuota(ctx context.Context, accountID, dataset string, most int) error
	// CreateJob has JobQuota's errors.
	CreateJob(ctx context.Context, j logjob.Job, most int) (logjob.Job, error)
	// UpdateJob is a conflict when the job's revision has moved on.
	UpdateJob(ctx context.Context, j logjob.Job) (logjob.Job, error)
	// DeleteJob is a conflict when revision is not 0 and not the job's.
	DeleteJob(ctx context.Context, accountID string, id, revision int64) error
}

// Replays of jobs.
type Replays interface {
	// CreateReplay is a conflict while the job has as many as it may.
	CreateReplay(ctx context.Context, accountID string, jobID int64, q logjob.ReplayRequest) (logjob.Replay, error)
	// Replays is newest first.
	Replays(ctx context.Context, accountID string, jobID int64) ([]logjob.Replay, error)
	Replay(ctx context.Context, accountID string, jobID, id int64) (logjob.Replay, error)
	// CancelReplay is a conflict for one that is done or failed.
	CancelReplay(ctx context.Context, accountID string, jobID, id int64) (logjob.Replay, error)
}

// Deletions of what was recorded.
type Deletions interface {
	// CreateDeletion is a conflict while the account has as many under way as it may.
	CreateDeletion(ctx context.Context, what schema.Tombstone) (schema.Deletion, error)
	// Deletions is newest first; total counts all.
	Deletions(ctx context.Context, accountID string, limit, offset int) (list []schema.Deletion, total int, err error)
	Deletion(ctx context.Context, accountID, id string) (schema.Deletion, error)
}

// Archive of events.
type Archive interface {
	// OldestEvent returns the time of the account's oldest event, and false for none.
	OldestEvent(ctx context.Context, accountID string) (time.Time, bool, error)
}

// Destinations that jobs deliver to.
type Destinations interface {
	// Test uploads a test object to conf, a valid destination_conf. Its error holds
	// no credentials; an *errs.Error is the whole answer, another one the reason.
	Test(ctx context.Context, conf string) error
	// SendLetter sends a dead letter to the job's destination of now. Its error says
	// what the destination did, without credentials; status is 0 where there is none.
	SendLetter(ctx context.Context, j logjob.Job, l logjob.DeadLetter) (status int, err error)
	// NeedsChallenge reports whether conf is written to with credentials of the
	// operator's. It has Test's errors and connects to nothing.
	NeedsChallenge(conf string) (bool, error)
	// PutChallenge writes text to such a destination, in a file that is called name,
	// and returns the file's path. It has Test's errors.
	PutChallenge(ctx context.Context, conf, name, text string) (path string, err error)
}

// Health of deliveries, and who is told of it.
type Health interface {
	JobHealth(ctx context.Context, accountID string, jobID int64, since time.Time) (logjob.Health, error)
	// AccountHealth is that of all jobs by id, without minutes, drops and failures.
	AccountHealth(ctx context.Context, accountID string) (map[int64]logjob.Health, error)
	HealthMinutes(ctx context.Context, f logjob.HealthFilter) ([]logjob.MinuteHealth, error)
	// AlertHook is not_found for an account that has none, and so is DeleteAlertHook.
	AlertHook(ctx context.Context, accountID string) (logjob.AlertHook, error)
	SaveAlertHook(ctx context.Context, accountID string, h logjob.AlertHook) (logjob.AlertHook, error)
	DeleteAlertHook(ctx context.Context, accountID string) error
}

// Previews show what a job would send, and know how far back Kafka goes.
type Previews interface {
	// Preview runs a job over events, or, where they are nil, over the newest ones of
	// its account, up to limit. Nothing is sent. An *errs.Error is about the job, or is
	// unavailable when events cannot be read.
	Preview(ctx context.Context, j logjob.Job, events [][]byte, limit int) (logjob.Preview, error)
	// MayHold reports whether Kafka may have events from before a time. Its error says
	// that Kafka cannot be asked.
	MayHold(ctx context.Context, before time.Time) (bool, error)
}

// Letters are what destinations refused for good.
type Letters interface {
	// DeadLetters is oldest first and without content. State "" is any; total counts all.
	DeadLetters(ctx context.Context, accountID string, jobID int64, state string, limit, offset int) (list []logjob.DeadLetter, total int, err error)
	// WaitingLetters are those to be sent again, the least tried ones first, without
	// content; total counts all.
	WaitingLetters(ctx context.Context, accountID string, jobID int64, limit int) (list []logjob.DeadLetter, total int, err error)
	// DeadLetter has its content, unless it is closed.
	DeadLetter(ctx context.Context, accountID string, jobID int64, id string) (logjob.DeadLetter, error)
	// CloseDeadLetter lets go of the content: it was resent, or is deleted. One that
	// is closed already is a conflict.
	CloseDeadLetter(ctx context.Context, accountID string, jobID int64, id, state string) (logjob.DeadLetter, error)
	// RefuseDeadLetter notes that a letter was sent in vain.
	RefuseDeadLetter(ctx context.Context, id string, status int, reason string) error
	// AcquireLease gives the lease called name to holder until ttl is over, and reports false
	// while another one has it.
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error)
	// ReleaseLease gives it back, if holder has it.
	ReleaseLease(ctx context.Context, name, holder string) error
}

// Keys of the platform, the same in each of its processes.
type Keys interface {
	// SigningKey makes the key when it is asked for first.
	SigningKey(ctx context.Context, name string) ([]byte, error)
}

// Snapshots are what gateways serve from.
type Snapshots interface {
	// Snapshot answers at once when there is something newer than revision after,
	// and otherwise waits, up to 30 s.
	Snapshot(ctx context.Context, accountID string, after int64) (*deploy.Snapshot, error)
	// SnapshotAll is Snapshot of every account.
	SnapshotAll(ctx context.Context, after int64) (*deploy.Snapshot, error)
}

// Metrics are what versions did from since (inclusive) until until. Errors of kind
// unavailable also say that a question was too much to answer.
type Metrics interface {
	// VersionTotals is in the order of versions' ids; one without requests is absent.
	VersionTotals(ctx context.Context, accountID, script string, since, until time.Time) ([]schema.VersionRate, error)
	// VersionSeries is VersionTotals by steps, oldest first. It is invalid for steps of
	// which nothing is known any more.
	VersionSeries(ctx context.Context, accountID, script string, since, until time.Time, step time.Duration) ([]schema.VersionRate, error)
	// ScriptRates is of all scripts, most requests first; total counts those that had any.
	ScriptRates(ctx context.Context, accountID string, since, until time.Time, step time.Duration, limit int) (list []schema.ScriptRate, total int, err error)
	// Invocations counts what scripts did, in groups. It is invalid for steps of which
	// nothing is known any more.
	Invocations(ctx context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error)
	// SeriesStep returns the shortest usual step with at most so many points.
	SeriesStep(ctx context.Context, since, until time.Time, points int) (time.Duration, error)
}

// Events that are stored. Its errors are as those of Metrics.
type Events interface {
	// Events is newest first, and no more than limit of what comes after a position, or a
	// schema.FullEventPage.
	Events(ctx context.Context, f schema.EventFilter, after schema.EventPosition, limit int) ([]schema.StoredEvent, error)
	// EventsOfRay is oldest first, and empty for a ray of which nothing is known.
	EventsOfRay(ctx context.Context, accountID, ray string) ([]schema.StoredEvent, error)
	// Calls is most requests first; total counts all pairs.
	Calls(ctx context.Context, q schema.CallQuery) (list []schema.CallPair, total int, err error)
	// Exceptions is most frequent first; total counts all kinds.
	Exceptions(ctx context.Context, q schema.ExceptionQuery) (list []schema.ExceptionGroup, total int, err error)
}
