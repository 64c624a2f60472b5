package app

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// variablePrefix begins the names of the variables that are flags.
const variablePrefix = "TIDEGATE_"

// variableOf is the environment variable of a flag.
func variableOf(flag string) string {
	return variablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// commandFlags are what commands of tidegate read from the environment beside the flags of
// roles. A process takes them for known, because the same environment may be for both.
var commandFlags = []string{
	"account", "api", "chdb-library", "clickhouse-addr", "disable-jobs", "inserted-since", "json", "kafka-addr", "keep", "limit", "print", "replace", "since", "token-file",
}

// otherVariables have our prefix and are no flags: secrets, which no command line must hold; what
// docker-compose.yml fills in; and what builds and tests are told.
var otherVariables = []string{
	secretsKeyVariable, "TIDEGATE_TOKEN",
	"TIDEGATE_EDGE_SUBNET", "TIDEGATE_DATA_SUBNET", "TIDEGATE_PUBLISH", "TIDEGATE_PUBLISH_OPERATORS", "TIDEGATE_VERSION", "TIDEGATE_COMMIT", "TIDEGATE_COMMIT_DATE",
	"TIDEGATE_LONG", "TIDEGATE_REAL", "TIDEGATE_REQUIRE_SCAN", "TIDEGATE_VULNDB",
}

var otherPrefixes = []string{"TIDEGATE_BENCH_", "TIDEGATE_TEST_"}

// FromEnvironment sets every flag that the command line left alone and whose
// variable is set. It names the variables in its errors. One that is of no flag of any
// process or command is a fault: somebody believes that it holds.
func FromEnvironment(f *pflag.FlagSet) error {
	faults := unknownVariables(os.Environ(), f)
	f.VisitAll(func(flag *pflag.Flag) {
		name := variableOf(flag.Name)
		value, ok := os.LookupEnv(name)
		if !ok || flag.Changed {
			return
		}
		if err := f.Set(flag.Name, value); err != nil {
			faults = append(faults, fmt.Errorf("environment variable %s: %w", name, err))
			return
		}
		setSource(flag, name)
	})
	return errors.Join(faults...)
}

// unknownVariables has a fault for each, which does not show the value: it may be a secret.
func unknownVariables(environ []string, f *pflag.FlagSet) (faults []error) {
	flags := slices.Clone(commandFlags)
	collect := func(flag *pflag.Flag) { flags = append(flags, flag.Name) }
	f.VisitAll(collect)
	everything := pflag.NewFlagSet("", pflag.ContinueOnError)
	config := DefaultConfig(AllRoles...)
	config.Bind(everything)
	everything.VisitAll(collect)
	known := slices.Clone(otherVariables)
	for _, flag := range flags {
		known = append(known, variableOf(flag))
	}
	for _, variable := range environ {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, variablePrefix) || slices.Contains(known, name) || ofKubernetes(name, environ) ||
			slices.ContainsFunc(otherPrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
			continue
		}
		advice := "the variables are the names of the flags that --help lists; take it away"
		plain := strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, variablePrefix)), "_", "-")
		if near := nearest(plain, flags); near != "" {
			advice = fmt.Sprintf("did you mean %s?", variableOf(near))
		}
		faults = append(faults, fmt.Errorf("environment variable %s is no setting: %s", name, advice))
	}
	return faults
}

// kubernetesVariable is one of those that Kubernetes sets for a service, after its name:
// https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables.
var kubernetesVariable = regexp.MustCompile(`^(\w+?)_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// ofKubernetes reports whether a variable tells of a service whose name begins with ours.
func ofKubernetes(name string, environ []string) bool {
	match := kubernetesVariable.FindStringSubmatch(name)
	return match != nil && slices.ContainsFunc(environ, func(other string) bool { return strings.HasPrefix(other, match[1]+"_SERVICE_HOST=") })
}
