package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// parsedAPI is the configuration of a control plane with some flags.
func parsedAPI(t *testing.T, flags ...string) (Config, error) {
	t.Helper()
	c := DefaultConfig(RoleAPI)
	set := pflag.NewFlagSet("jobs-api", pflag.ContinueOnError)
	c.Bind(set)
	if err := set.Parse(append([]string{"--database", "control.db", "--secrets-key-file", "keys", "--clickhouse", "http://127.0.0.1:8123"}, flags...)); err != nil {
		return c, err
	}
	if err := FromEnvironment(set); err != nil {
		return c, err
	}
	return c, c.Validate()
}

func TestIdentityProviderIsConfiguredByFlags(t *testing.T) {
	issuer := []string{"--oidc-issuer", "https://id.example.com/realms/staff", "--oidc-client-id", "tidegate"}
	with := func(flags ...string) []string { return append(issuer, flags...) }
	c, err := parsedAPI(t, with("--oidc-role", "platform-team=admin@*", "--oidc-role", "payments=scripts:edit,policy:edit@00000000000000000000000000000001")...)
	if err != nil || strings.Join(c.OIDC.Scopes, " ") != "openid email profile" || c.OIDC.GroupsClaim != "groups" {
		t.Errorf("read as %+v, %v", c.OIDC, err)
	}
	if roles, err := c.OIDC.roles(); err != nil || len(roles) != 2 || roles[1].Who != "payments" || len(roles[1].Rights[0].Scopes) != 2 {
		t.Errorf("the roles are %+v, %v", roles, err)
	}
	t.Run("by variables", func(t *testing.T) {
		t.Setenv("TIDEGATE_OIDC_ISSUER", "https://id.example.com")
		t.Setenv("TIDEGATE_OIDC_CLIENT_ID", "tidegate")
		t.Setenv("TIDEGATE_OIDC_ROLE", "platform-team=admin@*; payments=scripts:edit,policy:edit@00000000000000000000000000000001")
		c, err := parsedAPI(t)
		if roles, rolesErr := c.OIDC.roles(); err != nil || rolesErr != nil || len(roles) != 2 {
			t.Errorf("the roles are %+v, %v, %v", roles, err, rolesErr)
		}
	})

	f := func(want string, flags ...string) {
		t.Helper()
		if _, err := parsedAPI(t, flags...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	role := "--oidc-role=ops=admin@*"
	f("--oidc-issuer is not set: it names the identity provider, without which nothing is done with --oidc-role", role)
	f("nothing is done with --oidc-name, --oidc-client-id, --oidc-client-secret-file, --oidc-ca-file",
		"--oidc-name", "Staff", "--oidc-ca-file", "ca.pem", "--oidc-client-id", "tidegate", "--oidc-client-secret-file", "secret")
	f("--oidc-issuer must be an https:// URL", "--oidc-issuer", "http://id.example.com", "--oidc-client-id", "tidegate", role)
	f("--oidc-issuer must be an https:// URL", "--oidc-issuer", "id.example.com", "--oidc-client-id", "tidegate", role)
	f("--oidc-client-id is not set", "--oidc-issuer", "https://id.example.com", role)
	f("--oidc-role is not set", issuer...)
	f(`--oidc-role has "ops=root@*": "root" is no scope`, with("--oidc-role", "ops=root@*")...)
	f(`--oidc-scopes is "email": openid`, with(role, "--oidc-scopes", "email")...)
	f("--oidc-groups-claim is empty", with(role, "--oidc-groups-claim", "")...)
	f("needs --console-url", with(role, "--api-addr", "0.0.0.0:8787")...)
	if _, err := parsedAPI(t, "--oidc-issuer", "ftp://id.example.com", "--oidc-scopes", "email"); len(each(err)) != 4 {
		t.Errorf("four faults are told as %v", err)
	}
	if _, err := parsedAPI(t, with(role, "--api-addr", "0.0.0.0:8787", "--console-url", "https://tidegate.example.com")...); err != nil {
		t.Error(err)
	}
	if _, err := parsedAPI(t, "--oidc-issuer", "http://127.0.0.1:9998", "--oidc-client-id", "tidegate", role); err != nil {
		t.Error(err)
	}
}

func TestFilesOfTheIdentityProviderAreRead(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := func(want string, flags ...string) {
		t.Helper()
		c, err := parsedAPI(t, append(flags, "--oidc-issuer", "https://id.example.com", "--oidc-client-id", "tidegate", "--oidc-role", "ops=admin@*")...)
		if err != nil {
			t.Fatal(err)
		}
		p := &process{config: c}
		people, err := p.people()
		if want == "" {
			if err != nil || people.Provider() != "id.example.com" {
				t.Errorf("%q: %v", flags, err)
			}
			return
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", flags, err, want)
		}
	}
	f("")
	f("--oidc-client-secret-file: "+empty+" is empty", "--oidc-client-secret-file", empty)
	f("from --oidc-client-secret-file", "--oidc-client-secret-file", empty+"-not")
	f(empty+" holds no certificate", "--oidc-ca-file", empty)
	f("--oidc-ca-file: read the authorities that the identity provider is trusted by: open "+empty+"-not", "--oidc-ca-file", empty+"-not")
}
