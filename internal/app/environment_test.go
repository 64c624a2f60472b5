package app

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestVariablesThatAreNoSettings(t *testing.T) {
	c := DefaultConfig(RoleGateway)
	f := pflag.NewFlagSet("router", pflag.ContinueOnError)
	c.Bind(f)
	service := []string{
		"TIDEGATE_JOBS_API_SERVICE_HOST=10.0.0.1", "TIDEGATE_JOBS_API_SERVICE_PORT=8787", "TIDEGATE_JOBS_API_SERVICE_PORT_API=8787", "TIDEGATE_JOBS_API_PORT=tcp://10.0.0.1:8787",
		"TIDEGATE_JOBS_API_PORT_8787_TCP=tcp://10.0.0.1:8787", "TIDEGATE_JOBS_API_PORT_8787_TCP_PROTO=tcp", "TIDEGATE_JOBS_API_PORT_8787_TCP_PORT=8787", "TIDEGATE_JOBS_API_PORT_8787_TCP_ADDR=10.0.0.1",
		"TIDEGATE_SERVICE_HOST=10.0.0.2", "TIDEGATE_SERVICE_PORT=80", "TIDEGATE_PORT=tcp://10.0.0.2:80", "TIDEGATE_PORT_80_TCP_ADDR=10.0.0.2",
	}
	taken := append([]string{
		"PATH=/bin", "XTIDEGATE_TLS=1", "TIDEGATE_KAFKA=a:1", "TIDEGATE_API_RATE_LIMIT=1", // a control plane's, in the environment of both
		"TIDEGATE_SECRETS_KEY=k", "TIDEGATE_TOKEN=t", "TIDEGATE_JSON=true", "TIDEGATE_PUBLISH=0.0.0.0", "TIDEGATE_TEST_KAFKA=a:1", "TIDEGATE_CONFIG=x.yaml",
	}, service...)
	if faults := unknownVariables(taken, f); len(faults) > 0 {
		t.Errorf("refused: %v", faults)
	}
	// Who starts docker-compose.yml from a shell may start a command from it, too.
	compose, err := os.ReadFile("../../docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	filled := regexp.MustCompile(`\$\{(TIDEGATE_\w+)`).FindAllStringSubmatch(string(compose), -1)
	if len(filled) == 0 {
		t.Error("docker-compose.yml fills in nothing")
	}
	for _, match := range filled {
		if faults := unknownVariables([]string{match[1] + "=x"}, f); len(faults) > 0 {
			t.Errorf("docker-compose.yml: %v", faults)
		}
	}
	for variable, want := range map[string]string{
		"TIDEGATE_ROUTERS_NEED_CERTIFICATES=true": "environment variable TIDEGATE_ROUTERS_NEED_CERTIFICATES is no setting: did you mean TIDEGATE_ROUTERS_NEED_CERTIFICATE?",
		"TIDEGATE_OPS_CLIENT_CA_FIL=/ca":          "did you mean TIDEGATE_OPS_CLIENT_CA_FILE?",
		"TIDEGATE_ORIGIN_DENY_PRIVATE=s3cret":     "did you mean TIDEGATE_ORIGINS_DENY_PRIVATE?",
		"TIDEGATE_WEATHER=fine":                   "--help",
		"TIDEGATE_ROUTER_PORT=tcp://10.0.0.3:80":  "TIDEGATE_ROUTER_PORT is no setting", // of no service that there is
	} {
		faults := unknownVariables(append([]string{variable}, taken...), f)
		if len(faults) != 1 || !strings.Contains(faults[0].Error(), want) || strings.Contains(faults[0].Error(), "s3cret") {
			t.Errorf("%s: %v, want one fault with %q", variable, faults, want)
		}
	}
}

// A start ends there, and a check names it beside what else is wrong.
func TestSettingsWithAMisspeltVariableAreRefused(t *testing.T) {
	t.Setenv("TIDEGATE_OPS_CLIENT_CA_FIEL", "/ca.pem")
	t.Setenv("TIDEGATE_DRAIN_TIMEOUT", "45")
	c := DefaultConfig(RoleGateway)
	f := pflag.NewFlagSet("router", pflag.ContinueOnError)
	c.Bind(f)
	faults := CheckSettings(f, func() error { return nil })
	for _, want := range []string{"TIDEGATE_OPS_CLIENT_CA_FIEL is no setting", "TIDEGATE_DRAIN_TIMEOUT"} {
		if !slices.ContainsFunc(faults, func(err error) bool { return strings.Contains(err.Error(), want) }) {
			t.Errorf("the check says %v, and not %q", faults, want)
		}
	}
	wantError(t, ReadSettings(f), "TIDEGATE_OPS_CLIENT_CA_FIEL", "did you mean TIDEGATE_OPS_CLIENT_CA_FILE?")
}
