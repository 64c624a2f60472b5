package control

import (
	"slices"
	"strings"
)

// Grant is what may be done, and where.
type Grant struct {
	AccountID string // empty: in every account
	Scopes    []Scope
}

// Rights are what somebody may do: in each account what all grants for it say together.
type Rights []Grant

// In returns the scopes for an account, each once; none for one that is not opened.
func (r Rights) In(accountID string) []Scope {
	var scopes []Scope
	for _, g := range r {
		if g.AccountID != "" && g.AccountID != accountID {
			continue
		}
		for _, scope := range g.Scopes {
			if !slices.Contains(scopes, scope) {
				scopes = append(scopes, scope)
			}
		}
	}
	return scopes
}

// Allow reports whether one of the scopes is held in an account.
func (r Rights) Allow(accountID string, scopes ...Scope) bool {
	held := r.In(accountID)
	return slices.ContainsFunc(scopes, func(scope Scope) bool { return includes(held, scope) })
}

// AllowSomewhere is Allow for an account that is not named.
func (r Rights) AllowSomewhere(scopes ...Scope) bool {
	return slices.ContainsFunc(r, func(g Grant) bool { return r.Allow(g.AccountID, scopes...) })
}

// Operator reports whether everything may be done in every account, and with the platform.
func (r Rights) Operator() bool { return r.Allow("", Admin) }

// Routes reports whether what routers ask for may be had, which is of every account.
func (r Rights) Routes() bool { return r.Operator() || r.AllowSomewhere(Routers) }

// Everywhere reports whether every account is opened, those too that are yet to be made.
func (r Rights) Everywhere() bool {
	return slices.ContainsFunc(r, func(g Grant) bool { return g.AccountID == "" })
}

// Accounts are the ids that grants name, each once, in their order.
func (r Rights) Accounts() []string {
	var ids []string
	for _, g := range r {
		if g.AccountID != "" && !slices.Contains(ids, g.AccountID) {
			ids = append(ids, g.AccountID)
		}
	}
	return ids
}

func includes(held []Scope, scope Scope) bool {
	if slices.Contains(held, Admin) && scope != Routers || slices.Contains(held, scope) {
		return true
	}
	area, isRead := strings.CutSuffix(string(scope), ":read")
	return isRead && slices.Contains(held, Scope(area+":edit"))
}
