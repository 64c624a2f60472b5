package signin

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"tidegate/schema/control"
)

// everybody is the name of all who sign in.
const everybody = "*"

// everyAccount stands for all accounts, those too that are yet to be made.
const everyAccount = "*"

// Role gives people rights.
type Role struct {
	Who    string // with an @ a verified e-mail address, else a group, or everybody
	Rights control.Rights
}

// ParseRoles reads roles, such as payments=scripts:edit,policy:edit@<account id>, separated by
// semicolons or new lines. What is before the last = says who, what is behind the last @ in
// which accounts, so that a group's name may hold an = and an e-mail address either.
func ParseRoles(text string) ([]Role, error) {
	var roles []Role
	for one := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == '\n' }) {
		if one = strings.TrimSpace(one); one == "" {
			continue
		}
		role, err := parseRole(one)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", one, err)
		}
		roles = append(roles, role)
	}
	return roles, nil
}

func parseRole(text string) (Role, error) {
	equals := strings.LastIndexByte(text, '=')
	if equals < 0 {
		return Role{}, fmt.Errorf("it must be who=scopes@accounts, such as platform-team=admin@*")
	}
	who, what := strings.TrimSpace(text[:equals]), text[equals+1:]
	if who == "" {
		return Role{}, fmt.Errorf("nobody is named before the =: it must be a group, an e-mail address, or * for everybody who signs in")
	}
	scopeList, accountList, ok := strings.Cut(what, "@")
	if !ok {
		return Role{}, fmt.Errorf("no account is named: end it with @ and the ids of accounts, or with @* for all")
	}
	var scopes []control.Scope
	for name := range strings.SplitSeq(scopeList, ",") {
		scope := control.Scope(strings.TrimSpace(name))
		if scope == control.Routers { // it opens the secrets of every account, whichever account it is given in
			return Role{}, fmt.Errorf("the scope %s is for tokens of routers, not for people: there are %v", scope, peoplesScopes())
		}
		if !slices.Contains(control.Scopes, scope) {
			return Role{}, fmt.Errorf("%q is no scope: there are %v", scope, peoplesScopes())
		}
		scopes = append(scopes, scope)
	}
	role := Role{Who: who}
	for id := range strings.SplitSeq(accountList, ",") {
		id = strings.TrimSpace(id)
		if raw, err := hex.DecodeString(id); id != everyAccount && (err != nil || len(raw) != 16 || id != strings.ToLower(id)) {
			return Role{}, fmt.Errorf("%q is no account: it must be an id of 32 hex digits, or * for all", id)
		}
		if id == everyAccount {
			id = "" // as control.Grant has it
		}
		role.Rights = append(role.Rights, control.Grant{AccountID: id, Scopes: scopes})
	}
	return role, nil
}

// peoplesScopes are those that a role may give.
func peoplesScopes() []control.Scope {
	return slices.DeleteFunc(slices.Clone(control.Scopes), func(scope control.Scope) bool { return scope == control.Routers })
}

// fits reports whether somebody has the role. Whoever names groups at the provider could name
// one like somebody's address, so with an @ it is an address and nothing else.
func (r Role) fits(p control.Person) bool {
	switch {
	case r.Who == everybody:
		return true
	case strings.Contains(r.Who, "@"):
		// Of one length: EqualFold also takes the long s for an s, and the sign of Kelvin for a k.
		return p.EmailVerified && len(p.Email) == len(r.Who) && strings.EqualFold(p.Email, r.Who)
	}
	return slices.Contains(p.Groups, r.Who)
}

// rightsOf is the union of all roles that somebody has.
func rightsOf(roles []Role, p control.Person) control.Rights {
	var rights control.Rights
	for _, role := range roles {
		if role.fits(p) {
			rights = append(rights, role.Rights...)
		}
	}
	return rights
}
