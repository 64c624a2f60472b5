package app

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/clickhouse"
	"tidegate/internal/notify"
	"tidegate/pipeline/stream"
)

// Role is one part of the platform that a process can play.
type Role string

const (
	RoleGateway  Role = "gateway"  // routes requests, emits trace events
	RoleIngest   Role = "ingest"   // Kafka to ClickHouse
	RoleLogpush  Role = "logpush"  // Kafka to the destinations of jobs
	RoleAPI      Role = "api"      // the v4 API and the dashboard
	RoleRollback Role = "rollback" // judges deployments
)

// AllRoles in the order in which they start.
var AllRoles = []Role{RoleAPI, RoleRollback, RoleIngest, RoleLogpush, RoleGateway}

// What the binaries of one machine each play.
var (
	RouterRoles  = []Role{RoleGateway}
	IngestRoles  = []Role{RoleIngest, RoleLogpush}
	JobsAPIRoles = []Role{RoleAPI, RoleRollback}
)

// Config of a process. Each member, also of its parts, is a flag, and an environment variable
// named TIDEGATE_ and the flag's name in capitals.
type Config struct {
	Roles   []Role
	DataDir string // local state: the gateway's snapshot and spool, embedded data

	OpsAddr string // health and metrics; empty for none, and then the API has them
	// OpsPprof serves Go's profiles of the process there.
	OpsPprof bool
	// TrustedProxies are address ranges of balancers in front of the gateway and the API,
	// whose X-Forwarded-* headers, and at the gateway Forwarded ones, are believed.
	TrustedProxies []string
	Network        NetworkConfig
	// DrainTimeout is how long requests in flight may go on at a stop and after a take-over.
	DrainTimeout time.Duration
	// TakeOver has a router take the sockets of the one that uses the same DataDir.
	TakeOver bool

	API     APIConfig
	OIDC    OIDCConfig
	Gateway GatewayConfig
	Workers WorkersConfig
	Events  EventsConfig
	Ingest  IngestConfig
	Logpush LogpushConfig
	SMTP    SMTPConfig
	// ConsoleURL is where people reach the API and its start page, for links in notifications.
	ConsoleURL string

	Kafka []string // brokers, host:port
	// KafkaSecurity is how they are spoken to; the embedded broker knows none of it.
	KafkaSecurity stream.Security
	Topic         TopicConfig
	ClickHouse    string // http://[user:password@]host:port[/database]
	Cluster       string // ClickHouse cluster; empty for a single server
	// Retention is how many days ClickHouse's tables keep their rows; 0 is for ever.
	Retention clickhouse.Retention
	Database  string // path of a SQLite file, or postgres://...
	// SecretsKeyFile has the keys that secrets in the database are sealed with; empty where
	// the variable TIDEGATE_SECRETS_KEY holds them.
	SecretsKeyFile string

	ReadyFile string // written when everything serves; empty for none
	// Terminal is told then how to sign in to the dashboard; nil for nobody. With Invite it is
	// given a link that does, which must not end up in a log. They have no flags.
	Terminal io.Writer
	Invite   bool

	LogLevel  string
	LogFormat string // "text" or "json"
}

// DefaultConfig is the configuration of a process with the given roles before
// flags and environment are read.
func DefaultConfig(roles ...Role) Config {
	return Config{
		Roles:        roles,
		DataDir:      "./data",
		API:          defaultAPI(),
		OIDC:         OIDCConfig{Scopes: []string{"openid", "email", "profile"}, GroupsClaim: "groups"},
		Gateway:      defaultGateway(slices.Contains(roles, RoleGateway)),
		Events:       defaultEvents(),
		Ingest:       defaultIngest(),
		Logpush:      defaultLogpush(),
		SMTP:         SMTPConfig{TLS: string(notify.MailStartTLS)},
		Topic:        TopicConfig{Partitions: 4, Replication: 1, Retention: 24 * time.Hour},
		Retention:    clickhouse.DefaultConfig("").Retention,
		DrainTimeout: drainTimeout,
		LogLevel:     "info",
		LogFormat:    "text",
	}
}

// has reports whether the process plays a role.
func (c *Config) has(role Role) bool { return slices.Contains(c.Roles, role) }

// Bind adds the flags that the roles read.
func (c *Config) Bind(f *pflag.FlagSet) {
	f.String(configFlag, "", "YAML file with settings, whose keys are the names of these flags; the command line and the environment come before it")
	f.Var((*rolesValue)(&c.Roles), "roles", "parts that this process plays, separated by commas")
	f.StringVar(&c.LogLevel, "log-level", c.LogLevel, "debug, info, warn or error")
	f.StringVar(&c.LogFormat, "log-format", c.LogFormat, "text or json")
	f.StringVar(&c.OpsAddr, "ops-addr", c.OpsAddr, "address for /healthz, /readyz and /metrics; empty for none, and then the API has them")
	f.BoolVar(&c.OpsPprof, "ops-pprof", c.OpsPprof, "serve Go's profiles of CPU, memory and goroutines at /debug/pprof/ of --ops-addr, for whoever may read /metrics")
	c.Network.bind(f, c.has)
	c.API.bind(f, c.has)
	c.Gateway.bind(f, c.has)
	c.Workers.bind(f, c.has)
	c.Logpush.bind(f, c.has)
	if c.has(RoleGateway) {
		f.StringVar(&c.DataDir, "data-dir", c.DataDir, "folder for local state")
		c.Events.bind(f)
	}
	if c.has(RoleGateway) || c.has(RoleAPI) {
		f.StringSliceVar(&c.TrustedProxies, "trusted-proxies", c.TrustedProxies, "address ranges, such as 10.0.0.0/8, of balancers whose X-Forwarded-* or Forwarded headers are believed")
		f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long requests in flight may go on at a stop, and after a take-over; WebSockets only after a take-over")
	}
	if c.replaceable() {
		f.BoolVar(&c.TakeOver, "take-over", c.TakeOver, "take the listening sockets of the router that uses the same --data-dir, if there is one, which then drains and ends")
	}
	if c.has(RoleAPI) {
		c.OIDC.bind(f)
	}
	if c.has(RoleIngest) {
		c.Ingest.bind(f)
	}
	if c.has(RoleRollback) || c.has(RoleAPI) { // the API sends test messages
		c.SMTP.bind(f)
		f.StringVar(&c.ConsoleURL, "console-url", c.ConsoleURL, "where people reach the API and its start page, such as https://tidegate.example.com, for links in notifications; empty for none")
	}
	c.bindServices(f)
}

// bindServices adds the flags of what the roles store in and read from.
func (c *Config) bindServices(f *pflag.FlagSet) {
	if c.has(RoleAPI) || c.has(RoleRollback) || c.has(RoleLogpush) {
		f.StringVar(&c.Database, "database", c.Database, "control state: a SQLite file, or postgres://user:password@host/name")
		f.StringVar(&c.SecretsKeyFile, "secrets-key-file", c.SecretsKeyFile, "file with the keys that secrets in the database are sealed with, the same for every process that has it; the variable TIDEGATE_SECRETS_KEY holds the keys themselves")
	}
	if c.has(RoleAPI) || c.has(RoleRollback) || c.has(RoleIngest) || c.has(RoleLogpush) { // Logpush replays what Kafka no longer has
		f.StringVar(&c.ClickHouse, "clickhouse", c.ClickHouse, "ClickHouse's HTTP interface, http://[user:password@]host:8123[/database]")
		f.StringVar(&c.Cluster, "clickhouse-cluster", c.Cluster, "cluster for replicated and distributed tables; empty for one server")
	}
	if c.has(RoleIngest) || c.has(RoleAPI) { // ingest sets it, the API chooses tables by it
		bindRetention(f, &c.Retention)
	}
	reader := c.has(RoleGateway) || c.has(RoleIngest) || c.has(RoleLogpush)
	if reader || c.has(RoleAPI) { // the API needs Kafka for those who watch a script
		f.StringSliceVar(&c.Kafka, "kafka", c.Kafka, "Kafka brokers, host:port, separated by commas")
		bindKafkaSecurity(f, &c.KafkaSecurity)
		c.Topic.bind(f, reader)
	}
}

// Validate names every member that cannot be used, its value, and why, each in an error of
// its own, joined.
func (c *Config) Validate() error {
	if len(c.Roles) == 0 {
		return fmt.Errorf("--roles is empty: name at least one of %v", AllRoles)
	}
	_, proxies := prefixes(c.TrustedProxies)
	_, logger := NewLogger(*c)
	faults := []error{
		c.validateNeeds(), c.validateProcess(), proxies, logger,
		c.API.validate(), c.Gateway.validate(len(c.TrustedProxies) > 0), c.Logpush.validate(c.has(RoleLogpush)), c.Topic.validate(),
		c.validateKafka(), c.SMTP.validate(), c.OIDC.validate(c.API.Addr, c.ConsoleURL), c.validateSecrets(),
		validateClickHouse(c.ClickHouse, c.Network.ClickHouse), c.Network.validate(c.OpsAddr, c.OpsPprof, c.Gateway.APIURL),
		validURL("clickhouse", c.ClickHouse), validURL("console-url", c.ConsoleURL), ValidAddr("ops-addr", c.OpsAddr),
	}
	if c.has(RoleIngest) {
		faults = append(faults, c.Ingest.validate())
	}
	if c.has(RoleGateway) {
		faults = append(faults, c.Events.validate())
	}
	if err := c.Retention.Validate(); err != nil {
		faults = append(faults, fmt.Errorf("--retention-events-days, -quarantine-days, -1s-days, -1m-days and -1h-days: %w", err))
	}
	return errors.Join(faults...)
}

// validateNeeds names what the roles cannot be without.
func (c *Config) validateNeeds() error {
	var faults []error
	needs := func(member, value string, roles ...Role) {
		for _, role := range roles {
			if c.has(role) && value == "" {
				faults = append(faults, fmt.Errorf("--%s is not set: the role %s needs it", member, role))
				return
			}
		}
	}
	needs("database", c.Database, RoleAPI, RoleRollback, RoleLogpush)
	needs("clickhouse", c.ClickHouse, RoleAPI, RoleRollback, RoleIngest)
	needs("gateway-domain", c.Gateway.Domain, RoleGateway)
	needs("kafka", strings.Join(c.Kafka, ","), RoleGateway, RoleIngest, RoleLogpush)
	if c.has(RoleGateway) && c.Database == "" && c.Gateway.APIURL == "" {
		faults = append(faults, errors.New("--api-url is not set: a gateway without a database gets its snapshots from there"))
	}
	return errors.Join(faults...)
}

// validateProcess is about what any process has.
func (c *Config) validateProcess() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.DrainTimeout <= 0 {
		fault("--drain-timeout is %s: it must be positive", c.DrainTimeout)
	}
	if c.TakeOver && !c.replaceable() {
		fault("--take-over is for a router alone: the roles %v keep what one process has at a time", c.Roles)
	}
	if c.TakeOver && c.Workers.DurableObjects {
		fault("--take-over and --durable-objects do not go together: one process at a time may open the storage of Durable Objects, so stop the old router, then start the new one")
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("--log-format is %q: it must be text or json", c.LogFormat)
	}
	return errors.Join(faults...)
}

// ValidAddr refuses an address of a flag that nothing can listen on; empty is none.
func ValidAddr(member, addr string) error {
	if addr == "" {
		return nil
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--%s is %q: it must be host:port", member, addr)
	}
	if n, err := strconv.Atoi(port); err == nil && (n < 0 || n > math.MaxUint16) {
		return fmt.Errorf("--%s is %q: a port is from 0 to %d", member, addr, math.MaxUint16)
	}
	return nil
}

func prefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--trusted-proxies has %q: it must be an address range such as 10.0.0.0/8", text)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func validURL(member, value string) error {
	if value == "" {
		return nil
	}
	u, err := url.Parse(value)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("--%s is not an http:// or https:// URL", member) // without the value: it may hold a password
	}
	return nil
}

// rolesValue reads a list of roles and refuses unknown ones.
type rolesValue []Role

func (v *rolesValue) Type() string { return "roles" }

func (v *rolesValue) String() string { return strings.Join(v.GetSlice(), ",") }

func (v *rolesValue) Set(s string) error { return v.Replace(strings.Split(s, ",")) }

// Append, Replace and GetSlice make it a list for files with settings.
func (v *rolesValue) Append(name string) error { return v.Replace(append(v.GetSlice(), name)) }

func (v *rolesValue) Replace(names []string) error {
	var roles []Role
	for _, name := range names {
		role := Role(strings.TrimSpace(name))
		if !slices.Contains(AllRoles, role) {
			return fmt.Errorf("unknown role %q: there are %v", role, AllRoles)
		}
		roles = append(roles, role)
	}
	*v = roles
	return nil
}

func (v *rolesValue) GetSlice() []string {
	names := make([]string, len(*v))
	for i, role := range *v {
		names[i] = string(role)
	}
	return names
}
