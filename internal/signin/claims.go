package signin

import (
	"encoding/json"
	"fmt"

	"tidegate/schema/control"
)

// groupsMax bounds what is kept of somebody, and looked through at each of their requests.
const groupsMax = 1000

// claims are what a provider says of somebody.
type claims map[string]any

func (c claims) text(name string) string {
	text, _ := c[name].(string)
	return text
}

// isTrue takes the text, too, in which some providers write a truth.
func (c claims) isTrue(name string) bool { return c[name] == true || c[name] == "true" }

// list also takes a text, as a list of one.
func (c claims) list(name string) ([]string, error) {
	values, ok := c[name].([]any)
	if text := c.text(name); text != "" {
		values, ok = []any{text}, true
	}
	if !ok && c[name] != nil {
		return nil, fmt.Errorf("the claim %s is not a list of texts", name)
	}
	var texts []string
	for _, value := range values {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("the claim %s is not a list of texts", name)
		}
		texts = append(texts, text)
	}
	return texts, nil
}

// add takes over what other knows and c does not. An address and whether it is verified are
// from one of them: the word of one on the address of the other proves nothing.
func (c claims) add(other claims) {
	const address, verified = "email", "email_verified"
	known := c[address] != nil
	if !known {
		delete(c, address)
		delete(c, verified)
	}
	for name, value := range other {
		if _, there := c[name]; !there && !(known && name == verified) {
			c[name] = value
		}
	}
}

// claimer is an ID token or what the endpoint of user info has answered.
type claimer interface{ Claims(v any) error }

func claimsOf(from claimer) (claims, error) {
	var raw json.RawMessage
	if err := from.Claims(&raw); err != nil {
		return nil, err
	}
	var c claims
	err := json.Unmarshal(raw, &c)
	return c, err
}

// person is whom the claims are about.
func (c claims) person(issuer, subject, groupsClaim string) (control.Person, error) {
	groups, err := c.list(groupsClaim)
	if err != nil {
		return control.Person{}, err
	}
	if len(groups) > groupsMax {
		return control.Person{}, fmt.Errorf("the claim %s has %d groups, and %d are the most: have the provider name those alone that have roles", groupsClaim, len(groups), groupsMax)
	}
	p := control.Person{
		Issuer: issuer, Subject: subject, Name: c.text("name"), Groups: groups,
		Email: c.text("email"), EmailVerified: c.isTrue("email_verified"),
	}
	// An address that the provider says is not proven could be anybody's, and names who did what.
	_, told := c["email_verified"]
	if p.Email == "" || told && !p.EmailVerified {
		p.Email, p.EmailVerified = subject, false
	}
	return p, nil
}
