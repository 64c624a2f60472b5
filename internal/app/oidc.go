package app

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"tidegate/internal/addresses"
	"tidegate/internal/certs"
	"tidegate/internal/signin"
)

// OIDCConfig names the identity provider at which people sign in to the dashboard. Its
// members are flags that begin with --oidc-.
type OIDCConfig struct {
	Issuer           string // without it nobody does
	Name             string // for people; empty for the issuer's host
	ClientID         string
	ClientSecretFile string // empty: a public client
	Scopes           []string
	GroupsClaim      string
	Roles            []string // each is one or more, as signin.ParseRoles reads them
	CAFile           string   // empty: the system's authorities
}

func (c *OIDCConfig) bind(f *pflag.FlagSet) {
	f.StringVar(&c.Issuer, "oidc-issuer", c.Issuer, "identity provider at which people sign in to the dashboard by OpenID Connect, such as https://id.example.com; empty for none")
	f.StringVar(&c.Name, "oidc-name", c.Name, "what the login page calls the identity provider; empty for the issuer's host")
	f.StringVar(&c.ClientID, "oidc-client-id", c.ClientID, "id that the identity provider knows this platform by")
	f.StringVar(&c.ClientSecretFile, "oidc-client-secret-file", c.ClientSecretFile, "file with the secret of --oidc-client-id; without it the platform is a public client, with PKCE")
	f.StringSliceVar(&c.Scopes, "oidc-scopes", c.Scopes, "what the identity provider is asked to tell of people; openid must be one of them")
	f.StringVar(&c.GroupsClaim, "oidc-groups-claim", c.GroupsClaim, "claim that lists somebody's groups")
	f.StringArrayVar(&c.Roles, "oidc-role", c.Roles, "what a group, a verified e-mail address, or * for everybody who signs in may do, as who=scopes@accounts, such as platform-team=admin@* or payments=scripts:edit,policy:edit@<account id>; may be repeated, or several separated by semicolons")
	f.StringVar(&c.CAFile, "oidc-ca-file", c.CAFile, "PEM file of the certificate authorities that the identity provider's certificate is from, where they are not the system's")
}

// validate names each flag that cannot be used, its value, and why. apiAddr and consoleURL are
// where people may come back to.
func (c *OIDCConfig) validate(apiAddr, consoleURL string) error {
	if c.Issuer == "" {
		return c.withoutIssuer()
	}
	var all faults
	u, err := url.Parse(c.Issuer)
	all.add(err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !addresses.LoopbackHost(u.Hostname())),
		"--oidc-issuer must be an https:// URL without a user, a query and a fragment; http:// is for this machine's loopback addresses alone") // without the value: it may hold a password
	all.add(c.ClientID == "", "--oidc-client-id is not set: the identity provider of --oidc-issuer knows this platform by it")
	all.add(!slices.Contains(c.Scopes, "openid"), "--oidc-scopes is %q: openid must be one of them", strings.Join(c.Scopes, ","))
	all.add(c.GroupsClaim == "", "--oidc-groups-claim is empty: it must be the claim that lists somebody's groups, such as groups")
	all.add(len(c.Roles) == 0, "--oidc-role is not set: nobody of --oidc-issuer could sign in. Say who may do what, such as --oidc-role 'platform-team=admin@*'")
	_, err = c.roles()
	host, _, addrErr := net.SplitHostPort(apiAddr)
	all.add(consoleURL == "" && (addrErr != nil || !addresses.LoopbackHost(host)), "--oidc-issuer needs --console-url, to which people come back: --api-addr (%s) is not on this machine alone", apiAddr)
	return errors.Join(append(all, err)...)
}

// withoutIssuer names what is set and would be for nobody.
func (c *OIDCConfig) withoutIssuer() error {
	var idle []string
	for _, flag := range []struct {
		name string
		set  bool
	}{
		{"name", c.Name != ""}, {"client-id", c.ClientID != ""}, {"client-secret-file", c.ClientSecretFile != ""}, {"role", len(c.Roles) > 0}, {"ca-file", c.CAFile != ""},
	} {
		if flag.set {
			idle = append(idle, "--oidc-"+flag.name)
		}
	}
	if len(idle) == 0 {
		return nil
	}
	return fmt.Errorf("--oidc-issuer is not set: it names the identity provider, without which nothing is done with %s", strings.Join(idle, ", "))
}

func (c *OIDCConfig) roles() ([]signin.Role, error) {
	var all []signin.Role
	for _, text := range c.Roles {
		roles, err := signin.ParseRoles(text)
		if err != nil {
			return nil, fmt.Errorf("--oidc-role has %w", err)
		}
		all = append(all, roles...)
	}
	return all, nil
}

// people is the identity provider; nil for none.
func (p *process) people() (*signin.Provider, error) {
	c := &p.config.OIDC
	if c.Issuer == "" {
		return nil, nil
	}
	roles, err := c.roles()
	if err != nil {
		return nil, err
	}
	config := signin.Config{
		Issuer: c.Issuer, Name: c.Name, ClientID: c.ClientID, Scopes: c.Scopes, GroupsClaim: c.GroupsClaim, Roles: roles, Logger: p.log,
	}
	if u, err := url.Parse(c.Issuer); err == nil && config.Name == "" {
		config.Name = u.Host
	}
	if c.ClientSecretFile != "" {
		secret, err := os.ReadFile(c.ClientSecretFile)
		if err != nil {
			return nil, fmt.Errorf("read the client's secret from --oidc-client-secret-file: %w", err)
		}
		if config.ClientSecret = strings.TrimSpace(string(secret)); config.ClientSecret == "" {
			return nil, fmt.Errorf("--oidc-client-secret-file: %s is empty", c.ClientSecretFile)
		}
	}
	if c.CAFile != "" {
		trusted, err := certs.Client{Peer: "the identity provider", CAFile: c.CAFile}.Config("")
		if err != nil {
			return nil, fmt.Errorf("--oidc-ca-file: %w", err)
		}
		config.CA = trusted.RootCAs
	}
	return signin.New(config), nil
}
