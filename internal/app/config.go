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

	"tidegate/internal/api"
	"tidegate/internal/clickhouse"
	"tidegate/internal/gateway"
	"tidegate/internal/gateway/listen"
	"tidegate/internal/notify"
	"tidegate/pipeline/ingest"
	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/egress"
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

// Config of a process. Each member is a flag, and an environment variable named
// TIDEGATE_ and the flag's name in capitals.
type Config struct {
	Roles   []Role
	DataDir string // local state: the gateway's snapshot and spool, embedded data

	APIAddr      string // host:port; port 0 picks one
	APIRateLimit int    // requests of one token in 5 minutes, at one control plane; 0 for no limit
	GatewayAddr  string
	OpsAddr      string // health and metrics; empty for none, and then the API has them
	// GatewayDomain is what scripts are served below, at <script>.<subdomain>.<domain>. A
	// control plane has to know it to keep accounts from each other's names; see gatewayDomain.
	GatewayDomain string
	// GatewayURL is where clients reach the gateway, such as https://example.com; empty
	// where the API's own process has the gateway.
	GatewayURL string
	// TrustedProxies are address ranges of balancers in front of the gateway and the API,
	// whose X-Forwarded-* headers, and at the gateway Forwarded ones, are believed.
	TrustedProxies []string
	// GatewayProxyProtocol says that they begin every connection with a header of the
	// PROXY protocol.
	GatewayProxyProtocol bool
	// GatewayTLSAddr serves the same as GatewayAddr over TLS; empty for no TLS. The pairs
	// are in files of PEM, the nth certificate with the nth key, and are chosen by the name
	// that a client asks for.
	GatewayTLSAddr string
	GatewayTLSCert []string
	GatewayTLSKey  []string
	GatewayACME    ACMEConfig
	// GatewayMaxConnections bounds the clients' connections, over all listeners of the
	// gateway; 0 takes as many as the operating system does. GatewayMaxConnectionsPerClient
	// bounds those of one address that is not a trusted proxy's.
	GatewayMaxConnections          int
	GatewayMaxConnectionsPerClient int
	// GatewayBodyTimeout and GatewaySendTimeout are how long a client may send nothing
	// of a body that it has announced, and take nothing of a response; 0 is for ever.
	GatewayBodyTimeout time.Duration
	GatewaySendTimeout time.Duration
	ShowVersion        bool // answer with the version and what chose it in response headers

	Network NetworkConfig

	Workerd string // path of the Workers runtime; empty for the one beside the executable
	// DurableObjects says that the one router of this platform keeps their storage: the
	// API takes versions that have them, and the gateway runs them. With several routers
	// each would find other objects.
	DurableObjects bool
	// WorkersMax bounds the processes of Workers; 0 is as many as fit into the machine's memory.
	WorkersMax int
	// WorkersAllowPrivate lets Workers reach private and loopback addresses, and so the
	// platform's own listeners on them.
	WorkersAllowPrivate bool

	Kafka []string // brokers, host:port
	// KafkaSecurity is how they are spoken to; the embedded broker knows none of it.
	KafkaSecurity stream.Security
	ClickHouse    string // http://[user:password@]host:port[/database]
	Cluster       string // ClickHouse cluster; empty for a single server
	// Retention is how many days ClickHouse's tables keep their rows; 0 is for ever.
	Retention clickhouse.Retention
	Database  string // path of a SQLite file, or postgres://...
	// SecretsKeyFile has the keys that secrets in the database are sealed with; empty where
	// the variable TIDEGATE_SECRETS_KEY holds them.
	SecretsKeyFile string

	APIURL       string // where a gateway without a database gets its snapshots
	APITokenFile string
	// RouterTokenFile has a token that opens to routers what they need and nothing else: a
	// start that finds none there makes one. Empty for none.
	RouterTokenFile string
	AdminTokenFile  string // the first start writes the admin token here, mode 0600
	ReadyFile       string // written when everything serves; empty for none
	// Terminal is told then how to sign in to the dashboard; nil for nobody. With Invite it is
	// given a link that does, which must not end up in a log. They have no flags.
	Terminal io.Writer
	Invite   bool

	// What the gateway's events may take while Kafka is away, in memory and on disk, and
	// what a loss of power may cost of the latter.
	EventQueueMaxEvents int
	EventQueueMaxBytes  int
	SpoolMaxBytes       int64
	SpoolFsync          stream.Fsync

	// DrainTimeout is how long requests in flight may go on at a stop and after a take-over.
	DrainTimeout time.Duration
	// TakeOver has a router take the sockets of the one that uses the same DataDir.
	TakeOver bool

	TopicPartitions  int
	TopicReplication int
	TopicRetention   time.Duration

	// IngestSessionTimeout is how long an ingest process may be silent before the others
	// get its partitions.
	IngestSessionTimeout time.Duration

	LogpushInterval      time.Duration // a job's batch closes after this, unless it says otherwise
	LogpushParallel      int           // uploads that a partition of a job may have under way
	LogpushMemoryBytes   int64         // what deliveries may hold of events
	IngestInserts        int           // blocks that are stored at once
	IngestMemoryBytes    int64         // what ingest may hold of events
	IngestNames          int           // combinations of script, version and outcome in use, of an account
	LogpushAllowHTTP     bool          // destinations may be plain http://
	LogpushAllowPrivate  bool          // destinations may be in private ranges
	LogpushAllowLoopback bool
	LogpushRefuse        []string      // host, host:port or range of addresses where no destination may be
	DeadLettersMax       int64         // of one job
	DeadLettersMaxBytes  int64         // of one job
	LogpushGoogleAmbient bool          // gs:// destinations may use this process's own credentials
	LogpushFileRoots     []string      // file:// destinations must lie below one of these
	LogpushJobsMax       int           // of one dataset in one account; 0 for none
	LogpushDisableAfter  time.Duration // a job fails for so long before it is disabled; 0: for ever
	LogpushAlertEvery    time.Duration // least time between two alerts of one job and type
	SMTP                 SMTPConfig
	ConsoleURL           string // where people reach the API and its start page, for links in notifications
	OIDC                 OIDCConfig
	LogLevel             string
	LogFormat            string // "text" or "json"
}

// DefaultConfig is the configuration of a process with the given roles before
// flags and environment are read.
func DefaultConfig(roles ...Role) Config {
	domain := "localhost"
	if !slices.Contains(roles, RoleGateway) {
		domain = "" // another process's, which nobody here can guess
	}
	return Config{
		Roles:         roles,
		DataDir:       "./data",
		APIAddr:       "127.0.0.1:8787",
		GatewayAddr:   "127.0.0.1:8080",
		GatewayDomain: domain,
		APIRateLimit:  api.RateLimitDefault,

		GatewayBodyTimeout: gateway.DefaultConfig().BodyTimeout,
		GatewaySendTimeout: gateway.DefaultConfig().SendTimeout,

		EventQueueMaxEvents: stream.QueueEventsDefault,
		EventQueueMaxBytes:  stream.QueueBytesDefault,
		SpoolMaxBytes:       stream.SpoolBytesDefault,

		TopicPartitions:  4,
		TopicReplication: 1,
		TopicRetention:   24 * time.Hour,
		Retention:        clickhouse.DefaultConfig("").Retention,
		GatewayACME:      ACMEConfig{Directory: listen.LetsEncrypt},
		DrainTimeout:     drainTimeout,
		LogpushInterval:  30 * time.Second, // Logpush's own default (reference/logpush.md, 2.1)

		IngestSessionTimeout: 10 * time.Second,

		LogpushJobsMax:      1000, // as much as an account's own max_jobs can be
		LogpushDisableAfter: 24 * time.Hour, LogpushAlertEvery: 24 * time.Hour,
		SMTP:           SMTPConfig{TLS: string(notify.MailStartTLS)},
		OIDC:           OIDCConfig{Scopes: []string{"openid", "email", "profile"}, GroupsClaim: "groups"},
		DeadLettersMax: 1000, DeadLettersMaxBytes: 100 << 20,
		LogpushParallel:    4,
		LogpushMemoryBytes: 512 << 20,
		IngestInserts:      ingest.InsertsDefault, IngestMemoryBytes: ingest.MemoryBytesDefault, IngestNames: ingest.NamesDefault,
		LogLevel:  "info",
		LogFormat: "text",
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

	c.Network.bind(f, c.has)
	if c.has(RoleGateway) {
		f.StringVar(&c.DataDir, "data-dir", c.DataDir, "folder for local state")
		f.StringVar(&c.GatewayAddr, "gateway-addr", c.GatewayAddr, "address that serves scripts")
		f.StringVar(&c.GatewayTLSAddr, "gateway-tls-addr", c.GatewayTLSAddr, "address that serves scripts over TLS, beside --gateway-addr; empty for none")
		f.StringSliceVar(&c.GatewayTLSCert, "gateway-tls-cert", c.GatewayTLSCert, "PEM files of certificates with their chains, separated by commas; read again when they change")
		f.StringSliceVar(&c.GatewayTLSKey, "gateway-tls-key", c.GatewayTLSKey, "PEM files of the certificates' keys, in the same order")
		c.GatewayACME.bind(f)
		f.BoolVar(&c.GatewayProxyProtocol, "gateway-proxy-protocol", c.GatewayProxyProtocol, "--trusted-proxies begin every connection with a PROXY protocol header, version 1 or 2")
		f.IntVar(&c.GatewayMaxConnections, "gateway-max-connections", c.GatewayMaxConnections, "connections of clients at once, over both listeners; the next one gets a 503, or over TLS is closed. 0 for as many as the system allows")
		f.IntVar(&c.GatewayMaxConnectionsPerClient, "gateway-max-connections-per-client", c.GatewayMaxConnectionsPerClient, "connections at once of one address, or one /64 of IPv6, other than --trusted-proxies; 0 for no bound")
		f.DurationVar(&c.GatewayBodyTimeout, "gateway-body-timeout", c.GatewayBodyTimeout, "how long a client may send nothing of a body that its version waits for before it answers; 0 for ever")
		f.DurationVar(&c.GatewaySendTimeout, "gateway-send-timeout", c.GatewaySendTimeout, "how long a client may take nothing of a response; 0 for ever")
		f.IntVar(&c.WorkersMax, "workers-max", c.WorkersMax, "processes of Workers at once, one for each version; 0 for one for each 32 MiB of memory")
		f.BoolVar(&c.WorkersAllowPrivate, "workers-allow-private", c.WorkersAllowPrivate, "Workers may reach private and loopback addresses, also what trusts everybody there")
		f.BoolVar(&c.ShowVersion, "show-version", c.ShowVersion, "answer with the version and what chose it in Tidegate-Version, Tidegate-Decision and Tidegate-Affinity-Rule")
		f.IntVar(&c.EventQueueMaxEvents, "event-queue-max-events", c.EventQueueMaxEvents, "events that wait in memory to be sent, at most; what comes beyond is dropped and counted")
		f.IntVar(&c.EventQueueMaxBytes, "event-queue-max-bytes", c.EventQueueMaxBytes, "bytes of events that wait in memory to be sent, at most")
		f.Int64Var(&c.SpoolMaxBytes, "spool-max-bytes", c.SpoolMaxBytes, "bytes on disk of events that wait for Kafka, at most; what comes beyond is dropped and counted")
		f.Var(&c.SpoolFsync, "spool-fsync", "when events on disk are made to survive a loss of power: always (before they count as spooled), never (as the kernel likes), or an interval such as 200ms")
		f.StringVar(&c.APIURL, "api-url", c.APIURL, "control plane to get snapshots from, where there is no --database")
		f.StringVar(&c.APITokenFile, "api-token-file", c.APITokenFile, "file with the token for --api-url")
	}
	if c.has(RoleGateway) || c.has(RoleAPI) {
		f.StringVar(&c.GatewayDomain, "gateway-domain", c.GatewayDomain, "scripts are served at <script>.<subdomain>.<domain>; a control plane without it, and without --gateway-url, lets operators alone set routes and custom domains")
		f.StringSliceVar(&c.TrustedProxies, "trusted-proxies", c.TrustedProxies, "address ranges, such as 10.0.0.0/8, of balancers whose X-Forwarded-* or Forwarded headers are believed")
		f.DurationVar(&c.DrainTimeout, "drain-timeout", c.DrainTimeout, "how long requests in flight may go on at a stop, and after a take-over; WebSockets only after a take-over")
	}
	if c.replaceable() {
		f.BoolVar(&c.TakeOver, "take-over", c.TakeOver, "take the listening sockets of the router that uses the same --data-dir, if there is one, which then drains and ends")
	}
	if c.has(RoleAPI) {
		f.StringVar(&c.APIAddr, "api-addr", c.APIAddr, "address of the API and its start page")
		f.StringVar(&c.GatewayURL, "gateway-url", c.GatewayURL, "where clients reach the gateway, such as https://example.com, for the addresses of scripts that the API shows")
		f.IntVar(&c.APIRateLimit, "api-rate-limit", c.APIRateLimit, "requests that one API token, and the sessions that stand for it, may send this control plane in 5 minutes; what routers ask is not counted. 0 for no limit")
		f.StringVar(&c.RouterTokenFile, "router-token-file", c.RouterTokenFile, "a start that finds no valid token in this file makes one for --api-token-file of routers, which opens what they need and nothing else; empty for none")
		f.StringVar(&c.AdminTokenFile, "admin-token-file", c.AdminTokenFile, "the first start writes the admin token to this file")
		c.OIDC.bind(f)
	}
	if c.has(RoleAPI) || c.has(RoleGateway) {
		f.StringVar(&c.Workerd, "workerd", c.Workerd, "the Workers runtime; without it the one that make deps installs")
		f.BoolVar(&c.DurableObjects, "durable-objects", c.DurableObjects, "take and run Durable Objects; set it on the control planes and on one single router, which keeps their storage in its data directory")
	}
	if c.has(RoleAPI) || c.has(RoleRollback) || c.has(RoleLogpush) {
		f.StringVar(&c.Database, "database", c.Database, "control state: a SQLite file, or postgres://user:password@host/name")
		f.StringVar(&c.SecretsKeyFile, "secrets-key-file", c.SecretsKeyFile, "file with the keys that secrets in the database are sealed with, the same for every process that has it; the variable TIDEGATE_SECRETS_KEY holds the keys themselves")
	}
	if c.has(RoleAPI) || c.has(RoleRollback) || c.has(RoleIngest) || c.has(RoleLogpush) { // Logpush replays what Kafka no longer has
		f.StringVar(&c.ClickHouse, "clickhouse", c.ClickHouse, "ClickHouse's HTTP interface, http://[user:password@]host:8123[/database]")
		f.StringVar(&c.Cluster, "clickhouse-cluster", c.Cluster, "cluster for replicated and distributed tables; empty for one server")
	}
	if c.has(RoleIngest) || c.has(RoleAPI) { // ingest sets it, the API chooses tables by it
		f.IntVar(&c.Retention.EventDays, "retention-events-days", c.Retention.EventDays, "days that ClickHouse keeps single events, at least, up to 18250; 0 for ever. The same for ingest and the API, like the other days")
		f.IntVar(&c.Retention.QuarantineDays, "retention-quarantine-days", c.Retention.QuarantineDays, "days that ClickHouse keeps records that are no events; 0 for ever")
		f.IntVar(&c.Retention.SecondRateDays, "retention-1s-days", c.Retention.SecondRateDays, "days that ClickHouse keeps rates by second, which rollback judges by; 0 for ever")
		f.IntVar(&c.Retention.MinuteRateDays, "retention-1m-days", c.Retention.MinuteRateDays, "days that ClickHouse keeps rates by minute, in parts of a month; 0 for ever")
		f.IntVar(&c.Retention.HourRateDays, "retention-1h-days", c.Retention.HourRateDays, "days that ClickHouse keeps rates by hour, in parts of a year; 0 for ever")
	}
	reader := c.has(RoleGateway) || c.has(RoleIngest) || c.has(RoleLogpush)
	if reader || c.has(RoleAPI) { // the API needs Kafka for those who watch a script
		f.StringSliceVar(&c.Kafka, "kafka", c.Kafka, "Kafka brokers, host:port, separated by commas")
		bindKafkaSecurity(f, &c.KafkaSecurity)
		f.IntVar(&c.TopicPartitions, "topic-partitions", c.TopicPartitions, "partitions of a topic, if it has to be created")
		f.IntVar(&c.TopicReplication, "topic-replication", c.TopicReplication, "replicas of a topic, if it has to be created")
	}
	if reader {
		f.DurationVar(&c.TopicRetention, "topic-retention", c.TopicRetention, "how long the event topic keeps events, if it has to be created")
	}
	if c.has(RoleIngest) {
		f.IntVar(&c.IngestInserts, "ingest-inserts", c.IngestInserts, "blocks of events that are decoded and stored in ClickHouse at once, at most; further partitions wait, and their blocks grow")
		f.Int64Var(&c.IngestMemoryBytes, "ingest-memory-bytes", c.IngestMemoryBytes, "what ingest may hold of events that are not stored yet; at the bound it stops to fetch")
		f.IntVar(&c.IngestNames, "ingest-names", c.IngestNames, "combinations of script, version and outcome that an account may have in use within an hour; events of further ones go to the quarantine")
		f.DurationVar(&c.IngestSessionTimeout, "ingest-session-timeout", c.IngestSessionTimeout, "how long an ingest process may be silent before others take its partitions over; Kafka takes 6s to 5m unless it is told otherwise")
	}
	if c.has(RoleLogpush) || c.has(RoleAPI) || c.has(RoleRollback) { // the API tests a destination before it stores a job
		f.BoolVar(&c.LogpushAllowHTTP, "logpush-allow-http", c.LogpushAllowHTTP, "allow plain http:// destinations, and targets of notifications")
		f.BoolVar(&c.LogpushAllowPrivate, "logpush-allow-private", c.LogpushAllowPrivate, "allow destinations, and targets of notifications, in private address ranges; link-local ones and those of clouds' metadata are never")
		f.BoolVar(&c.LogpushAllowLoopback, "logpush-allow-loopback", c.LogpushAllowLoopback, "allow destinations, and targets of notifications, on this machine's loopback addresses")
		f.StringSliceVar(&c.LogpushRefuse, "logpush-refuse", c.LogpushRefuse, "hosts, host:ports and address ranges, separated by commas, where no destination or target of notifications may be, whatever is allowed: the platform's other machines. What other settings of this process name is refused anyway")
	}
	if c.has(RoleRollback) || c.has(RoleAPI) { // the API sends test messages
		c.SMTP.bind(f)
		f.StringVar(&c.ConsoleURL, "console-url", c.ConsoleURL, "where people reach the API and its start page, such as https://tidegate.example.com, for links in notifications; empty for none")
	}
	if c.has(RoleLogpush) || c.has(RoleAPI) {
		f.BoolVar(&c.LogpushGoogleAmbient, "logpush-google-ambient", c.LogpushGoogleAmbient, "let gs:// destinations without credentials write with this process's own (Application Default Credentials)")
		f.StringSliceVar(&c.LogpushFileRoots, "logpush-file-roots", c.LogpushFileRoots, "folders that file:// destinations may write below")
	}
	if c.has(RoleAPI) {
		f.IntVar(&c.LogpushJobsMax, "logpush-jobs-max", c.LogpushJobsMax, "Logpush jobs of one dataset that any account may have, whatever its own max_jobs says; 0 for none")
	}
	if c.has(RoleLogpush) {
		f.DurationVar(&c.LogpushDisableAfter, "logpush-disable-after", c.LogpushDisableAfter, "how long a job may fail without one success before it is disabled; 0 is for ever")
		f.DurationVar(&c.LogpushAlertEvery, "logpush-alert-every", c.LogpushAlertEvery, "least time between two alerts of one job and type")
		f.Int64Var(&c.DeadLettersMax, "logpush-dead-letters-max", c.DeadLettersMax, "dead letters of a job that may wait; at the bound its delivery waits")
		f.Int64Var(&c.DeadLettersMaxBytes, "logpush-dead-letters-max-bytes", c.DeadLettersMaxBytes, "bytes, compressed, of a job's dead letters that may wait")
		f.DurationVar(&c.LogpushInterval, "logpush-interval", c.LogpushInterval, "how long a batch may wait, for jobs that do not say")
		f.IntVar(&c.LogpushParallel, "logpush-parallel", c.LogpushParallel, "how many uploads a partition of a job may have under way, 1 to 16")
		f.Int64Var(&c.LogpushMemoryBytes, "logpush-memory-bytes", c.LogpushMemoryBytes, "what Logpush may hold of events in memory")
	}
}

// gatewayDomain is what scripts are served below, and empty for a control plane that was not
// told. Another process's gateway may have told it by its URL alone.
func (c *Config) gatewayDomain() string {
	if u, err := url.Parse(c.GatewayURL); c.GatewayDomain == "" && err == nil {
		return u.Hostname()
	}
	return c.GatewayDomain
}

// eventBoundMin has room for one batch of events.
const eventBoundMin = 1 << 20

// Validate names every member that cannot be used, its value, and why, each in an error of
// its own, joined.
func (c *Config) Validate() error {
	if len(c.Roles) == 0 {
		return fmt.Errorf("--roles is empty: name at least one of %v", AllRoles)
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	needs := func(member, value string, roles ...Role) {
		for _, role := range roles {
			if c.has(role) && value == "" {
				fault("--%s is not set: the role %s needs it", member, role)
				return
			}
		}
	}
	needs("database", c.Database, RoleAPI, RoleRollback, RoleLogpush)
	needs("clickhouse", c.ClickHouse, RoleAPI, RoleRollback, RoleIngest)
	needs("gateway-domain", c.GatewayDomain, RoleGateway)
	needs("kafka", strings.Join(c.Kafka, ","), RoleGateway, RoleIngest, RoleLogpush)
	if c.has(RoleGateway) && c.Database == "" && c.APIURL == "" {
		fault("--api-url is not set: a gateway without a database gets its snapshots from there")
	}
	for _, text := range c.LogpushRefuse {
		if err := egress.Check(text); err != nil {
			fault("--logpush-refuse: %w", err)
		}
	}
	_, proxies := prefixes(c.TrustedProxies)
	_, logger := NewLogger(*c)
	faults = append(faults, c.validateKafka(),
		validURL("api-url", c.APIURL), validURL("clickhouse", c.ClickHouse), validURL("gateway-url", c.GatewayURL), validURL("console-url", c.ConsoleURL),
		c.SMTP.validate(), c.OIDC.validate(c.APIAddr, c.ConsoleURL), validateClickHouse(c.ClickHouse, c.Network.ClickHouse), c.validateSecrets(),
		validAddr("api-addr", c.APIAddr), validAddr("gateway-addr", c.GatewayAddr), validAddr("gateway-tls-addr", c.GatewayTLSAddr), validAddr("ops-addr", c.OpsAddr),
		c.validateTLS(), proxies, logger)
	if c.DeadLettersMax < 1 || c.DeadLettersMaxBytes < 1 {
		fault("--logpush-dead-letters-max (%d) and --logpush-dead-letters-max-bytes (%d) must be positive", c.DeadLettersMax, c.DeadLettersMaxBytes)
	}
	if c.LogpushDisableAfter < 0 || c.LogpushAlertEvery < 0 {
		fault("--logpush-disable-after (%s) and --logpush-alert-every (%s) must not be negative", c.LogpushDisableAfter, c.LogpushAlertEvery)
	}
	if c.TopicPartitions < 1 || c.TopicReplication < 1 || c.TopicRetention <= 0 || c.LogpushInterval <= 0 {
		fault("--topic-partitions (%d), --topic-replication (%d), --topic-retention (%s) and --logpush-interval (%s) must be positive",
			c.TopicPartitions, c.TopicReplication, c.TopicRetention, c.LogpushInterval)
	}
	if c.has(RoleIngest) && (c.IngestSessionTimeout < time.Second || c.IngestSessionTimeout > ingest.SessionTimeoutMax) {
		fault("--ingest-session-timeout is %s: it must be from 1s to %s, because a block may be half stored until others take its partition over", c.IngestSessionTimeout, ingest.SessionTimeoutMax)
	}
	if c.has(RoleIngest) && (c.IngestNames < ingest.NamesMin || c.IngestNames > ingest.NamesMax) {
		fault("--ingest-names is %d: it must be from %d to %d", c.IngestNames, ingest.NamesMin, ingest.NamesMax)
	}
	if c.has(RoleIngest) && (c.IngestInserts < 1 || c.IngestInserts > ingest.InsertsMax || c.IngestMemoryBytes < ingest.MemoryBytesMin(c.IngestInserts)) {
		fault("--ingest-inserts (%d) must be from 1 to %d, --ingest-memory-bytes (%d) at least %d for as many",
			c.IngestInserts, ingest.InsertsMax, c.IngestMemoryBytes, ingest.MemoryBytesMin(c.IngestInserts))
	}
	if c.has(RoleLogpush) && (c.LogpushParallel < 1 || c.LogpushParallel > logpush.ParallelMax || c.LogpushMemoryBytes < logpush.MemoryBytesMin) {
		fault("--logpush-parallel (%d) must be from 1 to %d, --logpush-memory-bytes (%d) at least %d",
			c.LogpushParallel, logpush.ParallelMax, c.LogpushMemoryBytes, logpush.MemoryBytesMin)
	}
	if c.has(RoleGateway) && (c.EventQueueMaxEvents < 1 || c.EventQueueMaxBytes < eventBoundMin || c.SpoolMaxBytes < eventBoundMin) {
		fault("--event-queue-max-events (%d) must be at least 1, --event-queue-max-bytes (%d) and --spool-max-bytes (%d) at least %d, which is a batch",
			c.EventQueueMaxEvents, c.EventQueueMaxBytes, c.SpoolMaxBytes, eventBoundMin)
	}
	if err := c.Retention.Validate(); err != nil {
		fault("--retention-events-days, -quarantine-days, -1s-days, -1m-days and -1h-days: %w", err)
	}
	if c.APIRateLimit < 0 {
		fault("--api-rate-limit is %d: it must be 0, for no limit, or more", c.APIRateLimit)
	}
	if c.LogpushJobsMax < 0 {
		fault("--logpush-jobs-max is %d: it must be 0, for none, or more", c.LogpushJobsMax)
	}
	if c.DrainTimeout <= 0 {
		fault("--drain-timeout is %s: it must be positive", c.DrainTimeout)
	}
	if c.TakeOver && !c.replaceable() {
		fault("--take-over is for a router alone: the roles %v keep what one process has at a time", c.Roles)
	}
	if c.TakeOver && c.DurableObjects {
		fault("--take-over and --durable-objects do not go together: one process at a time may open the storage of Durable Objects, so stop the old router, then start the new one")
	}
	if c.GatewayMaxConnections < 0 || c.GatewayMaxConnectionsPerClient < 0 || c.GatewayBodyTimeout < 0 || c.GatewaySendTimeout < 0 {
		fault("--gateway-max-connections (%d), --gateway-max-connections-per-client (%d), --gateway-body-timeout (%s) and --gateway-send-timeout (%s) must not be negative: 0 is no bound",
			c.GatewayMaxConnections, c.GatewayMaxConnectionsPerClient, c.GatewayBodyTimeout, c.GatewaySendTimeout)
	}
	if c.GatewayProxyProtocol && len(c.TrustedProxies) == 0 {
		fault("--gateway-proxy-protocol needs --trusted-proxies: from anybody else the header is not believed")
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fault("--log-format is %q: it must be text or json", c.LogFormat)
	}
	return errors.Join(faults...)
}

func validAddr(member, addr string) error {
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

func (c *Config) validateTLS() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.GatewayTLSCert) != len(c.GatewayTLSKey) {
		fault("--gateway-tls-cert names %d files and --gateway-tls-key %d: each certificate needs its key, in the same order", len(c.GatewayTLSCert), len(c.GatewayTLSKey))
	}
	if (c.GatewayTLSAddr == "") != (len(c.GatewayTLSCert) == 0 && !c.GatewayACME.Agree) {
		fault("--gateway-tls-addr is needed together with --gateway-tls-cert and --gateway-tls-key, or with --gateway-acme-agree")
	}
	return errors.Join(append(faults, c.Network.validate(c.OpsAddr, c.APIURL), c.GatewayACME.validate())...)
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
