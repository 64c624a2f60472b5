// Package compose checks docker-compose.yml and the files it mounts, the units of systemd, and
// the flags that the Helm chart passes: what neither a container engine nor a cluster is needed
// for to know that it is wrong.
package compose

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/spf13/pflag"

	"tidegate/internal/app"
)

var root = filepath.Join("..", "..")

// secrets are the variables that .env.example leaves empty.
var secrets = []string{"POSTGRES_PASSWORD", "CLICKHOUSE_PASSWORD", "GRAFANA_PASSWORD", "GRAFANA_CLICKHOUSE_PASSWORD", "S3_SECRET_KEY", keysVariable}

// keysVariable is of the processes, and no flag of theirs.
const keysVariable = "TIDEGATE_SECRETS_KEY"

// secretValue would show up wherever a secret ends.
const secretValue = "verysecret1"

func load(t *testing.T, env ...string) (*types.Project, error) {
	t.Helper()
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithWorkingDirectory(root), cli.WithEnv(env), cli.WithConsistency(true))
	if err != nil {
		t.Fatal(err)
	}
	return options.LoadProject(t.Context())
}

func loaded(t *testing.T, env ...string) *types.Project {
	t.Helper()
	for _, name := range secrets {
		env = append(env, name+"="+secretValue)
	}
	project, err := load(t, env...)
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) < 10 {
		t.Fatalf("docker-compose.yml has %d services: %v", len(project.Services), project.ServiceNames())
	}
	return project
}

// reason is the text of an extension field that excuses a service from a rule.
func reason(s types.ServiceConfig, extension string) string {
	text, _ := s.Extensions[extension].(string)
	return text
}

func TestTheProductionShapeIsThere(t *testing.T) {
	project := loaded(t)
	f := func(image string, services ...string) {
		t.Helper()
		for _, name := range services {
			if s, ok := project.Services[name]; !ok || !strings.HasPrefix(s.Image, image+":") {
				t.Errorf("service %s: got image %q, want %s", name, s.Image, image)
			}
		}
	}
	f("tidegate", "router-1", "router-2", "ingest-1", "ingest-2", "jobs-api-1", "jobs-api-2")
	f("haproxy", "balancer")
	f("apache/kafka", "kafka")
	f("clickhouse/clickhouse-server", "clickhouse")
	f("postgres", "postgres")
	f("versity/versitygw", "s3")
	f("grafana/grafana", "grafana")
	f("prom/prometheus", "prometheus")
	f("prom/alertmanager", "alertmanager")
	f("otel/opentelemetry-collector-contrib", "otel-collector")
}

func TestEveryServiceIsSafeToRun(t *testing.T) {
	tag := regexp.MustCompile(`:[a-z0-9][a-zA-Z0-9._-]*$`)
	for name, s := range loaded(t).Services {
		switch {
		case !tag.MatchString(s.Image) || strings.HasSuffix(s.Image, ":latest"):
			t.Errorf("%s: image %q has no tag that stays", name, s.Image)
		case s.Privileged || s.NetworkMode == "host" || s.Pid == "host":
			t.Errorf("%s: is part of the host", name)
		case !slices.Contains(s.CapDrop, "ALL") || !slices.Contains(s.SecurityOpt, "no-new-privileges:true"):
			t.Errorf("%s: keeps capabilities or may gain some", name)
		case s.User == "" || (strings.HasPrefix(s.User, "0") && reason(s, "x-root") == ""):
			t.Errorf("%s: runs as user %q, and x-root gives no reason", name, s.User)
		case s.HealthCheck == nil && reason(s, "x-no-healthcheck") == "":
			t.Errorf("%s: has neither a health check nor a reason in x-no-healthcheck", name)
		case s.Deploy == nil || s.Deploy.Resources.Limits == nil || s.Deploy.Resources.Limits.MemoryBytes == 0 || s.Deploy.Resources.Limits.NanoCPUs == 0:
			t.Errorf("%s: has no limit of memory or processors", name)
		}
	}
}

func TestPortsAreDistinctAndLocalByDefault(t *testing.T) {
	owner := map[string]string{}
	for name, s := range loaded(t).Services {
		for _, port := range s.Ports {
			if port.HostIP != "127.0.0.1" {
				t.Errorf("%s: publishes %s on %q, want 127.0.0.1 unless the operator says otherwise", name, port.Published, port.HostIP)
			}
			if other, taken := owner[port.Published]; taken {
				t.Errorf("%s and %s both publish port %s", name, other, port.Published)
			}
			owner[port.Published] = name
		}
	}
	for _, port := range []string{"8080", "8787"} {
		if owner[port] != "balancer" {
			t.Errorf("port %s belongs to %q, want the balancer", port, owner[port])
		}
	}
}

// Who opens the platform to others does not open with it what asks nobody who they are.
func TestOperatorsPortsAreOpenedByThemselves(t *testing.T) {
	f := func(variable string, want ...string) {
		t.Helper()
		var got []string
		for _, s := range loaded(t, variable+"=192.0.2.1").Services {
			for _, port := range s.Ports {
				if port.HostIP == "192.0.2.1" {
					got = append(got, port.Published)
				}
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s opens %v, want %v", variable, got, want)
		}
	}
	f("TIDEGATE_PUBLISH", "8080", "8787")
	f("TIDEGATE_PUBLISH_OPERATORS", "3000", "7070", "9090", "9093")
}

func TestMountsExist(t *testing.T) {
	project := loaded(t)
	used := map[string]bool{}
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			switch v.Type {
			case types.VolumeTypeVolume:
				used[v.Source] = true // an undeclared one does not load
			case types.VolumeTypeBind:
				if _, err := os.Stat(v.Source); err != nil {
					t.Errorf("%s mounts %s: %v", name, v.Source, err)
				}
				if !v.ReadOnly {
					t.Errorf("%s may write to %s, which git tracks", name, v.Source)
				}
			default:
				t.Errorf("%s: unexpected %s mount", name, v.Type)
			}
		}
	}
	for volume := range project.Volumes {
		if !used[volume] {
			t.Errorf("volume %s is declared and not used", volume)
		}
	}
}

func TestDependenciesCanBeMet(t *testing.T) {
	project := loaded(t)
	for name, s := range project.Services {
		for needed, d := range s.DependsOn {
			dependency := project.Services[needed]
			if d.Condition == types.ServiceConditionHealthy && dependency.HealthCheck == nil {
				t.Errorf("%s waits until %s is healthy, which nobody checks", name, needed)
			}
			if d.Condition == types.ServiceConditionCompletedSuccessfully && dependency.Restart != "" {
				t.Errorf("%s waits until %s has ended, which restarts for ever", name, needed)
			}
		}
	}
}

// No secret has a default, and none is written down or shown on a command line.
func TestSecretsComeFromTheOperator(t *testing.T) {
	for _, missing := range secrets {
		var env []string
		for _, name := range secrets {
			if name != missing {
				env = append(env, name+"="+secretValue)
			}
		}
		if _, err := load(t, env...); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without %s: got error %v, want one that names it", missing, err)
		}
	}
	for name, s := range loaded(t).Services {
		if strings.Contains(strings.Join(s.Command, " "), secretValue) {
			t.Errorf("%s: its command line shows a secret", name)
		}
		for key, value := range s.Environment {
			named := regexp.MustCompile(`PASSWORD|SECRET|TOKEN`).MatchString(key)
			if named && value != nil && !strings.Contains(*value, secretValue) {
				t.Errorf("%s: %s is written down in docker-compose.yml", name, key)
			}
		}
	}
	example := readFile(t, ".env.example")
	for _, name := range secrets {
		if !strings.Contains(example, "\n"+name+"=\n") {
			t.Errorf(".env.example does not ask for %s", name)
		}
	}
}

var binaries = map[string][]app.Role{
	"router":   {app.RoleGateway},
	"ingest":   {app.RoleIngest, app.RoleLogpush},
	"jobs-api": {app.RoleAPI, app.RoleRollback},
}

// accepted is the configuration of a process with a command line and an environment, all of
// which it must know, and in which it must find nothing missing.
func accepted(t *testing.T, who, binary string, args []string, env map[string]string) (config app.Config) {
	t.Helper()
	roles, ok := binaries[binary]
	if !ok {
		t.Errorf("%s runs %q, which is no binary of ours", who, binary)
		return config
	}
	config = app.DefaultConfig(roles...)
	flags := pflag.NewFlagSet(binary, pflag.ContinueOnError)
	flags.SetOutput(io.Discard)
	config.Bind(flags)
	if err := flags.Parse(args); err != nil {
		t.Errorf("%s: %v", who, err)
		return config
	}
	t.Setenv(keysVariable, "")
	for key, value := range env {
		if key == keysVariable {
			t.Setenv(key, value)
			continue
		}
		if flag, ours := strings.CutPrefix(key, "TIDEGATE_"); ours {
			if err := flags.Set(strings.ToLower(strings.ReplaceAll(flag, "_", "-")), value); err != nil {
				t.Errorf("%s: %s: %v", who, key, err)
			}
		}
	}
	if err := config.Validate(); err != nil {
		t.Errorf("%s: %v", who, err)
	}
	return config
}

func environment(s types.ServiceConfig) map[string]string {
	env := map[string]string{}
	for key, value := range s.Environment {
		env[key] = *value
	}
	return env
}

// The processes would start: their own configuration takes the command line and
// the environment, and finds nothing missing.
func TestRolesAcceptTheirConfiguration(t *testing.T) {
	checked := 0
	for name, s := range loaded(t).Services {
		if !strings.HasPrefix(s.Image, "tidegate:") {
			continue
		}
		checked++
		config := accepted(t, name, s.Command[0], s.Command[1:], environment(s))
		// The address that the health check, the balancer and Prometheus ask.
		if config.OpsAddr != ":9464" {
			t.Errorf("%s: operations are at %q, want :9464", name, config.OpsAddr)
		}
	}
	if checked != 6 {
		t.Errorf("checked %d processes, want 6", checked)
	}
}

// Jobs may reach private addresses, and none of the networks on which the platform talks to itself.
func TestJobsReachNoneOfThePlatformsNetworks(t *testing.T) {
	project := loaded(t)
	own := ownNetworks(t, project)
	for name, s := range project.Services {
		_, sends := s.Networks["destinations"]
		if name == "s3" {
			if !sends || len(s.Networks) != 1 {
				t.Errorf("the S3 server is in %v: jobs reach it in the network destinations alone", s.NetworksByPriority())
			}
			continue
		}
		refuses := strings.Contains(strings.Join(s.Command, " "), "--logpush-refuse "+strings.Join(own, ","))
		if ours := len(s.Command) > 0 && (s.Command[0] == "ingest" || s.Command[0] == "jobs-api"); sends != ours || refuses != ours {
			t.Errorf("%s: in the network destinations %t, refuses %v %t", name, sends, own, refuses)
		}
	}
}

// Origins may be at private addresses, and none on the networks on which the platform talks to itself:
// Prometheus and Alertmanager ask nobody who they are.
func TestNoOriginIsInThePlatformsNetworks(t *testing.T) {
	project := loaded(t)
	own := ownNetworks(t, project)
	for name, s := range project.Services {
		_, reaches := s.Networks["origins"]
		refuses := strings.Contains(strings.Join(s.Command, " "), "--origins-refuse "+strings.Join(own, ","))
		if ours := len(s.Command) > 0 && s.Command[0] == "router"; reaches != ours || refuses != ours {
			t.Errorf("%s: in the network origins %t, refuses %v %t", name, reaches, own, refuses)
		}
	}
}

// ownNetworks are the subnets of the networks on which the platform talks to itself.
func ownNetworks(t *testing.T, project *types.Project) (subnets []string) {
	t.Helper()
	for _, name := range []string{"edge", "data"} {
		ipam := project.Networks[name].Ipam.Config
		if len(ipam) != 1 {
			t.Fatalf("the network %s has the subnets %v, want one that is known", name, ipam)
		}
		subnets = append(subnets, ipam[0].Subnet)
	}
	return subnets
}

// The story: the control planes took the balancer for the client, so that ten failed attempts to
// sign in, of anybody, kept everybody out for five minutes.
func TestControlPlanesKnowWhoAsks(t *testing.T) {
	project := loaded(t, "TIDEGATE_CONSOLE_URL=https://tidegate.example.com")
	edge := project.Networks["edge"].Ipam.Config[0].Subnet
	for _, name := range []string{"router-1", "router-2", "jobs-api-1", "jobs-api-2"} {
		s := project.Services[name]
		config := accepted(t, name, s.Command[0], s.Command[1:], environment(s))
		if !slices.Equal(config.TrustedProxies, []string{edge}) {
			t.Errorf("%s believes %v of who asks, want the balancer's network %s", name, config.TrustedProxies, edge)
		}
		if api := s.Command[0] == "jobs-api"; api && config.ConsoleURL != "https://tidegate.example.com" {
			t.Errorf("%s takes its own address for %q", name, config.ConsoleURL)
		}
	}
	if _, inEdge := project.Services["balancer"].Networks["edge"]; !inEdge || !strings.Contains(readFile(t, "deploy/haproxy/haproxy.cfg"), "\n    option forwardfor\n") {
		t.Error("the balancer is not in edge, or does not say who asks")
	}
}

// What is fetched has a version that is released once: a tag of two numbers follows the third
// (PostgreSQL's versions have two), and a plugin without any is the newest of the day.
func TestWhatIsFetchedHasAWholeVersion(t *testing.T) {
	project := loaded(t, "TIDEGATE_VERSION=v1.2.3", "TIDEGATE_COMMIT=0123abcd", "TIDEGATE_COMMIT_DATE=2026-01-02T03:04:05Z")
	whole := regexp.MustCompile(`:v?\d+\.\d+\.\d+|^postgres:\d+\.\d+`)
	for name, s := range project.Services {
		if !whole.MatchString(s.Image) {
			t.Errorf("%s: the tag of %s moves with the next release", name, s.Image)
		}
		for arg, want := range map[string]string{"VERSION": "v1.2.3", "COMMIT": "0123abcd", "COMMIT_DATE": "2026-01-02T03:04:05Z"} {
			if s.Build != nil && (s.Build.Args[arg] == nil || *s.Build.Args[arg] != want) {
				t.Errorf("%s: the build is not told %s", name, arg)
			}
		}
	}
	for plugin := range strings.SplitSeq(*project.Services["grafana"].Environment["GF_PLUGINS_PREINSTALL"], ",") {
		if _, version, _ := strings.Cut(plugin, "@"); strings.Count(version, ".") != 2 {
			t.Errorf("Grafana's plugin %s has no version", plugin)
		}
	}
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+:\S+) AS`).FindAllStringSubmatch(readFile(t, "Dockerfile"), -1) {
		if !regexp.MustCompile(`:\d+\.\d+`).MatchString(from[1]) {
			t.Errorf("the Dockerfile begins with %s", from[1])
		}
	}
}

// The image holds the program that each process runs.
func TestTheImageHoldsWhatIsStarted(t *testing.T) {
	dockerfile := readFile(t, "Dockerfile")
	for name, s := range loaded(t).Services {
		if !strings.HasPrefix(s.Image, "tidegate:") {
			continue
		}
		stage := regexp.MustCompile(`(?ms)^FROM \S+ AS ` + s.Build.Target + `$.*?(?:^FROM|\z)`).FindString(dockerfile)
		if !strings.Contains(stage, "/src/bin/"+s.Command[0]+" ") {
			t.Errorf("%s runs %s, which the stage %q of the Dockerfile does not copy", name, s.Command[0], s.Build.Target)
		}
		if _, err := os.Stat(filepath.Join(root, "cmd", s.Command[0])); err != nil {
			t.Errorf("%s runs %s, which is not built: %v", name, s.Command[0], err)
		}
	}
}

// Files beside docker-compose.yml name services and ports; a name that no service
// has would only be found out on the way up.
func TestMountedFilesNameServicesThatExist(t *testing.T) {
	project := loaded(t)
	f := func(path, pattern string, atLeast int) {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(readFile(t, path), -1)
		if len(found) < atLeast {
			t.Errorf("%s names %d services, want at least %d", path, len(found), atLeast)
		}
		for _, match := range found {
			if _, ok := project.Services[match[1]]; !ok {
				t.Errorf("%s names %s, which is no service", path, match[1])
			}
		}
	}
	f("deploy/haproxy/haproxy.cfg", `(?m)^\s+server \S+ ([a-z0-9-]+):\d+`, 4)
	f("deploy/prometheus/prometheus.yml", `([a-z][a-z0-9-]*):(?:9464|8888|9093)`, 9)
	f("deploy/otel-collector/config.yaml", `tcp://([a-z0-9-]+):9000`, 1)
	f("deploy/grafana/provisioning/datasources/tidegate.yaml", `host: ([a-z0-9-]+)`, 1)
	f("deploy/grafana/provisioning/datasources/tidegate.yaml", `url: http://([a-z0-9-]+):9090`, 1)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
