package api

import (
	"context"

	"tidegate/internal/deploy"
	"tidegate/internal/logjob"
)

// Triggers are what reaches a script besides its routes, and single routes and
// custom domains of an account.
type Triggers interface {
	Hosts(ctx context.Context, accountID, script string) (deploy.Hosts, error)
	UpdateHosts(ctx context.Context, accountID, script string, u deploy.HostsUpdate) (deploy.Hosts, error)

	Schedules(ctx context.Context, accountID, script string) ([]deploy.Schedule, error)
	// SetSchedules takes valid, different expressions.
	SetSchedules(ctx context.Context, accountID, script string, crons []string) error

	// MoveRoute replaces one route by another; the zero route is none. Its conflicts
	// are those of Scripts.SetRoutes.
	MoveRoute(ctx context.Context, accountID string, from, to deploy.ScriptRoute) error

	// Domains is in the order of host names.
	Domains(ctx context.Context, accountID string) ([]deploy.Domain, error)
	// SetDomains replaces the domains of a script. It is a conflict when another
	// script has one, unless takeOver moves it, or another account the host.
	SetDomains(ctx context.Context, accountID, script string, hostnames []string, takeOver bool) error
	// AttachDomain moves a domain that another script of the account has.
	AttachDomain(ctx context.Context, accountID, script, hostname string) (deploy.Domain, error)
	DeleteDomain(ctx context.Context, accountID, id string) error
}

// Tails are people's wishes to watch a script.
type Tails interface {
	// CreateTail takes valid filters, and is invalid when too many watch the script.
	CreateTail(ctx context.Context, accountID, script string, filters []deploy.TailFilter) (deploy.Tail, error)
	// Tails has those that are neither deleted nor expired, oldest first, with addresses for the
	// actor.
	Tails(ctx context.Context, accountID, script string) ([]deploy.Tail, error)
	DeleteTail(ctx context.Context, accountID, script, id string) error
	// OpenTail finds a live tail by an address, and whom that was given to.
	OpenTail(ctx context.Context, secret string) (deploy.Tail, error)
	// AwaitTailEnd blocks until the tail is deleted or expires, and then returns nil.
	AwaitTailEnd(ctx context.Context, tail deploy.Tail) error
}

// TailEvents is where the events of watched scripts come from.
type TailEvents interface {
	// Tail calls deliver for each event of a script, and each notice about the feed,
	// until ctx ends; then it returns the error of ctx. What happens after the call
	// of Tail is not missed, as far as clocks agree, but for what is dropped with a
	// notice. Deliver is called by one goroutine at a time and must not block.
	Tail(ctx context.Context, accountID, script string, deliver func(deploy.TailMessage)) error
}

// InstantLogs are sessions that show events as they come.
type InstantLogs interface {
	// CreateInstantLogs is forbidden while the same account and zone have a session.
	CreateInstantLogs(ctx context.Context, l logjob.InstantLogs) (logjob.InstantLogs, error)
	// InstantLogs has those that have not ended, with addresses for the actor; zone is empty for
	// the account's own.
	InstantLogs(ctx context.Context, accountID, zone string) ([]logjob.InstantLogs, error)
	// OpenInstantLogs finds one that has not ended by an address, and whom that was given to.
	OpenInstantLogs(ctx context.Context, id string) (logjob.InstantLogs, error)
	// AwaitInstantLogsEnd blocks until a session has ended, and then returns nil.
	AwaitInstantLogsEnd(ctx context.Context, id string) error
	// KeepInstantLogs begins the time anew after which a session without listeners ends.
	KeepInstantLogs(ctx context.Context, id string) error
}

// InstantEvents is where the events of instant logs come from.
type InstantEvents interface {
	// Follow calls deliver for each trace event of an account that Logpush may have,
	// and otherwise does what TailEvents.Tail does.
	Follow(ctx context.Context, accountID string, deliver func(deploy.TailMessage)) error
}
