package signin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"tidegate/schema/control"
)

const (
	one   = "00000000000000000000000000000001"
	other = "000000000000000000000000000000ff"
)

func TestRolesAreRead(t *testing.T) {
	f := func(text, who string, rights ...control.Grant) {
		t.Helper()
		roles, err := ParseRoles(text)
		if err != nil || len(roles) != 1 || roles[0].Who != who || len(roles[0].Rights) != len(rights) {
			t.Errorf("%s is read as %+v, error %v", text, roles, err)
			return
		}
		for i, g := range rights {
			if got := roles[0].Rights[i]; got.AccountID != g.AccountID || joined(got.Scopes) != joined(g.Scopes) {
				t.Errorf("%s gives %+v, want %+v", text, got, g)
			}
		}
	}
	scopes := func(list ...control.Scope) []control.Scope { return list }
	f("platform-team=admin@*", "platform-team", control.Grant{Scopes: scopes(control.Admin)})
	f("payments=scripts:edit,policy:edit@"+one, "payments", control.Grant{AccountID: one, Scopes: scopes(control.ScriptsEdit, control.PolicyEdit)})
	f(" Domain Users = logs:read , scripts:read @ "+one+" , "+other+" ;", "Domain Users",
		control.Grant{AccountID: one, Scopes: scopes(control.LogsRead, control.ScriptsRead)}, control.Grant{AccountID: other, Scopes: scopes(control.LogsRead, control.ScriptsRead)})
	f("ada@example.com=logs:read@"+one, "ada@example.com", control.Grant{AccountID: one, Scopes: scopes(control.LogsRead)})
	f("cn=ops,dc=example=admin@*", "cn=ops,dc=example", control.Grant{Scopes: scopes(control.Admin)})
	f("*=scripts:read@*", "*", control.Grant{Scopes: scopes(control.ScriptsRead)})
	if roles, err := ParseRoles("a=admin@*;\n b=logs:read@*\nc=logs:read@*;;"); err != nil || len(roles) != 3 || roles[2].Who != "c" {
		t.Errorf("several are read as %+v, error %v", roles, err)
	}
}

func joined(scopes []control.Scope) string {
	var text strings.Builder
	for _, scope := range scopes {
		text.WriteString(string(scope) + " ")
	}
	return text.String()
}

func TestBadRolesAreRefused(t *testing.T) {
	f := func(text string, parts ...string) {
		t.Helper()
		roles, err := ParseRoles(text)
		if err == nil {
			t.Errorf("%s is read as %+v", text, roles)
			return
		}
		for _, part := range append(parts, text) {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s is refused with %q, without %q", text, err, part)
			}
		}
	}
	f("platform-team", "who=scopes@accounts")
	f("=admin@*", "nobody is named")
	f("ops=admin", "no account")
	f("ops=@*", `"" is no scope`)
	f("ops=root@*", `"root" is no scope`, "scripts:edit")
	f("ops=admin,routers@*", "the scope routers is for tokens of routers", "policy:edit")
	f("ops= routers @"+one, "the scope routers is for tokens of routers")
	f("ops=admin@", `"" is no account`)
	f("ops=admin@payments", `"payments" is no account`)
	f("ops=admin@"+strings.ToUpper(other), "32 hex digits")
}

func TestRightsAreTheUnionOfRoles(t *testing.T) {
	roles, err := ParseRoles("payments=scripts:edit@" + one + "; on call=policy:edit@" + one + "," + other + "; ada@example.com=logs:read@*; *=scripts:read@" + other + "; platform=admin@*")
	if err != nil {
		t.Fatal(err)
	}
	p := New(Config{Issuer: "https://id.example.com", Roles: roles})
	f := func(person control.Person, inOne, inOther string, operator bool) {
		t.Helper()
		person.Issuer = "https://id.example.com"
		rights := p.Rights(person)
		if a, b := joined(rights.In(one)), joined(rights.In(other)); a != inOne || b != inOther || rights.Operator() != operator {
			t.Errorf("%+v has %q and %q, operator %v", person, a, b, rights.Operator())
		}
	}
	f(control.Person{}, "", "scripts:read ", false)
	f(control.Person{Groups: []string{"payments"}}, "scripts:edit ", "scripts:read ", false)
	f(control.Person{Groups: []string{"on call", "payments"}}, "scripts:edit policy:edit ", "policy:edit scripts:read ", false)
	f(control.Person{Email: "Ada@Example.com", EmailVerified: true}, "logs:read ", "logs:read scripts:read ", false)
	f(control.Person{Email: "ada@example.com"}, "", "scripts:read ", false)
	f(control.Person{Groups: []string{"ada@example.com"}}, "", "scripts:read ", false)
	f(control.Person{Email: "payments", EmailVerified: true}, "", "scripts:read ", false)
	f(control.Person{Groups: []string{"platform"}}, "admin ", "scripts:read admin ", true)
	f(control.Person{Groups: []string{"*", "Payments", "pay"}}, "", "scripts:read ", false)
	if rights := p.Rights(control.Person{Issuer: "https://evil.example", Groups: []string{"platform"}}); rights != nil {
		t.Errorf("another issuer's people have %v", rights)
	}
	// Whoever may do everything in one account is no operator of all.
	if rights := (control.Rights{{AccountID: one, Scopes: []control.Scope{control.Admin}}}); rights.Operator() || rights.Allow(other, control.LogsRead) || rights.Allow("", control.LogsRead) || !rights.AllowSomewhere(control.LogsRead) {
		t.Errorf("%v", rights)
	}
}

// Whoever has the one address proven may be somebody else than who has the other.
func TestAddressesThatOnlyLookAlikeHaveNoRole(t *testing.T) {
	role := Role{Who: "kim.sass@example.com"}
	for email, want := range map[string]bool{"kim.sass@example.com": true, "Kim.Sass@Example.COM": true, "\u212Aim.sass@example.com": false, "kim.\u017Fass@example.com": false} {
		if got := role.fits(control.Person{Email: email, EmailVerified: true}); got != want {
			t.Errorf("%q has the role: %v", email, got)
		}
	}
}

// Whatever an operator writes, roles give scopes of people's, in accounts that can be; written
// out they are the same again; and an address gives its role to nobody who has not proven it.
func FuzzParseRoles(f *testing.F) {
	f.Add("payments=scripts:edit@"+one+"; ada@example.com=logs:read@*\n*=scripts:read@"+other, "ada@example.com")
	f.Add("cn=ops,dc=example=admin@*;;", "cn=ops,dc=example")
	f.Add("ops=routers@*", "ops")
	f.Add("a@\u212A.example=admin@*", "a@k.example")
	f.Fuzz(func(t *testing.T, text, name string) {
		roles, err := ParseRoles(text)
		if err != nil {
			if roles != nil {
				t.Errorf("%q gives %v beside %v", text, roles, err)
			}
			return
		}
		var again strings.Builder
		for _, role := range roles {
			for _, grant := range role.Rights {
				if grant.AccountID != "" && (len(grant.AccountID) != 32 || strings.Trim(grant.AccountID, "0123456789abcdef") != "") || len(grant.Scopes) == 0 {
					t.Errorf("%q gives %+v", text, grant)
				}
				var scopes []string
				for _, scope := range grant.Scopes {
					if !slices.Contains(peoplesScopes(), scope) {
						t.Errorf("%q gives the scope %q", text, scope)
					}
					scopes = append(scopes, string(scope))
				}
				again.WriteString(role.Who + "=" + strings.Join(scopes, ",") + "@" + cmp.Or(grant.AccountID, everyAccount) + ";")
			}
			unproven := control.Person{Email: name, Groups: []string{name}}
			if strings.Contains(role.Who, "@") && role.fits(unproven) {
				t.Errorf("%q is somebody's who named a group %q", role.Who, name)
			}
			if proven := (control.Person{Email: name, EmailVerified: true}); role.Who != everybody && role.fits(proven) && !strings.Contains(name, "@") {
				t.Errorf("%q is somebody's with the address %q", role.Who, name)
			}
		}
		back, err := ParseRoles(again.String())
		rights := func(roles []Role) string {
			return fmt.Sprint(rightsOf(roles, control.Person{Email: name, EmailVerified: true, Groups: []string{name}}))
		}
		if err != nil || rights(back) != rights(roles) {
			t.Errorf("%q is %q, and that %v, %v", text, again.String(), back, err)
		}
	})
}
