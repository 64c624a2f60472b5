package app

import (
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"

	"tidegate/internal/gateway"
	"tidegate/internal/gateway/listen"
	"tidegate/pipeline/stream"
)

// GatewayConfig is about what routes requests.
type GatewayConfig struct {
	Addr string // host:port
	// Domain is what scripts are served below, at <script>.<subdomain>.<domain>. A
	// control plane has to know it to keep accounts from each other's names; see servedBelow.
	Domain string
	// URL is where clients reach the gateway, such as https://example.com; empty
	// where the API's own process has the gateway.
	URL string
	// ProxyProtocol says that trusted proxies begin every connection with a header of the
	// PROXY protocol.
	ProxyProtocol bool
	// TLSAddr serves the same as Addr over TLS; empty for no TLS. The pairs are in files of
	// PEM, the nth certificate with the nth key, and are chosen by the name that a client asks for.
	TLSAddr string
	TLSCert []string
	TLSKey  []string
	ACME    ACMEConfig
	// MaxConnections bounds the clients' connections, over all listeners of the
	// gateway; 0 takes as many as the operating system does. MaxConnectionsPerClient
	// bounds those of one address that is not a trusted proxy's.
	MaxConnections          int
	MaxConnectionsPerClient int
	// BodyTimeout and SendTimeout are how long a client may send nothing of a body that it
	// has announced, and take nothing of a response; 0 is for ever.
	BodyTimeout time.Duration
	SendTimeout time.Duration
	ShowVersion bool // answer with the version and what chose it in response headers

	APIURL       string // where a gateway without a database gets its snapshots
	APITokenFile string
}

// defaultGateway knows no domain in a process without a gateway: it is another process's,
// which nobody here can guess.
func defaultGateway(here bool) GatewayConfig {
	c := GatewayConfig{
		Addr: "127.0.0.1:8080", ACME: ACMEConfig{Directory: listen.LetsEncrypt},
		BodyTimeout: gateway.DefaultConfig().BodyTimeout, SendTimeout: gateway.DefaultConfig().SendTimeout,
	}
	if here {
		c.Domain = "localhost"
	}
	return c
}

func (c *GatewayConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	if has(RoleAPI) {
		f.StringVar(&c.URL, "gateway-url", c.URL, "where clients reach the gateway, such as https://example.com, for the addresses of scripts that the API shows")
	}
	if has(RoleGateway) || has(RoleAPI) {
		f.StringVar(&c.Domain, "gateway-domain", c.Domain, "scripts are served at <script>.<subdomain>.<domain>; a control plane without it, and without --gateway-url, lets operators alone set routes and custom domains")
	}
	if !has(RoleGateway) {
		return
	}
	f.StringVar(&c.Addr, "gateway-addr", c.Addr, "address that serves scripts")
	f.StringVar(&c.TLSAddr, "gateway-tls-addr", c.TLSAddr, "address that serves scripts over TLS, beside --gateway-addr; empty for none")
	f.StringSliceVar(&c.TLSCert, "gateway-tls-cert", c.TLSCert, "PEM files of certificates with their chains, separated by commas; read again when they change")
	f.StringSliceVar(&c.TLSKey, "gateway-tls-key", c.TLSKey, "PEM files of the certificates' keys, in the same order")
	c.ACME.bind(f)
	f.BoolVar(&c.ProxyProtocol, "gateway-proxy-protocol", c.ProxyProtocol, "--trusted-proxies begin every connection with a PROXY protocol header, version 1 or 2")
	f.IntVar(&c.MaxConnections, "gateway-max-connections", c.MaxConnections, "connections of clients at once, over both listeners; the next one gets a 503, or over TLS is closed. 0 for as many as the system allows")
	f.IntVar(&c.MaxConnectionsPerClient, "gateway-max-connections-per-client", c.MaxConnectionsPerClient, "connections at once of one address, or one /64 of IPv6, other than --trusted-proxies; 0 for no bound")
	f.DurationVar(&c.BodyTimeout, "gateway-body-timeout", c.BodyTimeout, "how long a client may send nothing of a body that its version waits for before it answers; 0 for ever")
	f.DurationVar(&c.SendTimeout, "gateway-send-timeout", c.SendTimeout, "how long a client may take nothing of a response; 0 for ever")
	f.BoolVar(&c.ShowVersion, "show-version", c.ShowVersion, "answer with the version and what chose it in Tidegate-Version, Tidegate-Decision and Tidegate-Affinity-Rule")
	f.StringVar(&c.APIURL, "api-url", c.APIURL, "control plane to get snapshots from, where there is no --database")
	f.StringVar(&c.APITokenFile, "api-token-file", c.APITokenFile, "file with the token for --api-url")
}

func (c *GatewayConfig) validate(behindProxies bool) error {
	faults := []error{
		ValidAddr("gateway-addr", c.Addr), ValidAddr("gateway-tls-addr", c.TLSAddr),
		validURL("gateway-url", c.URL), validURL("api-url", c.APIURL), c.ACME.validate(),
	}
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if len(c.TLSCert) != len(c.TLSKey) {
		fault("--gateway-tls-cert names %d files and --gateway-tls-key %d: each certificate needs its key, in the same order", len(c.TLSCert), len(c.TLSKey))
	}
	if (c.TLSAddr == "") != (len(c.TLSCert) == 0 && !c.ACME.Agree) {
		fault("--gateway-tls-addr is needed together with --gateway-tls-cert and --gateway-tls-key, or with --gateway-acme-agree")
	}
	if c.MaxConnections < 0 || c.MaxConnectionsPerClient < 0 || c.BodyTimeout < 0 || c.SendTimeout < 0 {
		fault("--gateway-max-connections (%d), --gateway-max-connections-per-client (%d), --gateway-body-timeout (%s) and --gateway-send-timeout (%s) must not be negative: 0 is no bound",
			c.MaxConnections, c.MaxConnectionsPerClient, c.BodyTimeout, c.SendTimeout)
	}
	if c.ProxyProtocol && !behindProxies {
		fault("--gateway-proxy-protocol needs --trusted-proxies: from anybody else the header is not believed")
	}
	return errors.Join(faults...)
}

// servedBelow is the domain that scripts are served below, and empty for a control plane that
// was not told. Another process's gateway may have told it by its URL alone.
func (c *GatewayConfig) servedBelow() string {
	if u, err := url.Parse(c.URL); c.Domain == "" && err == nil {
		return u.Hostname()
	}
	return c.Domain
}

// WorkersConfig is about the Workers runtime.
type WorkersConfig struct {
	Workerd string // path of the runtime; empty for the one beside the executable
	// DurableObjects says that the one router of this platform keeps their storage: the
	// API takes versions that have them, and the gateway runs them. With several routers
	// each would find other objects.
	DurableObjects bool
	// Max bounds the processes of Workers; 0 is as many as fit into the machine's memory.
	Max int
	// AllowPrivate lets Workers reach private and loopback addresses, and so the
	// platform's own listeners on them.
	AllowPrivate bool
}

func (c *WorkersConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	if has(RoleAPI) || has(RoleGateway) {
		f.StringVar(&c.Workerd, "workerd", c.Workerd, "the Workers runtime; without it the one that make deps installs")
		f.BoolVar(&c.DurableObjects, "durable-objects", c.DurableObjects, "take and run Durable Objects; set it on the control planes and on one single router, which keeps their storage in its data directory")
	}
	if has(RoleGateway) {
		f.IntVar(&c.Max, "workers-max", c.Max, "processes of Workers at once, one for each version; 0 for one for each 32 MiB of memory")
		f.BoolVar(&c.AllowPrivate, "workers-allow-private", c.AllowPrivate, "Workers may reach private and loopback addresses, also what trusts everybody there")
	}
}

// EventsConfig is what the gateway's events may take while Kafka is away, in memory and on
// disk, and what a loss of power may cost of the latter.
type EventsConfig struct {
	QueueMaxEvents int
	QueueMaxBytes  int
	SpoolMaxBytes  int64
	SpoolFsync     stream.Fsync
}

func defaultEvents() EventsConfig {
	return EventsConfig{QueueMaxEvents: stream.QueueEventsDefault, QueueMaxBytes: stream.QueueBytesDefault, SpoolMaxBytes: stream.SpoolBytesDefault}
}

func (c *EventsConfig) bind(f *pflag.FlagSet) {
	f.IntVar(&c.QueueMaxEvents, "event-queue-max-events", c.QueueMaxEvents, "events that wait in memory to be sent, at most; what comes beyond is dropped and counted")
	f.IntVar(&c.QueueMaxBytes, "event-queue-max-bytes", c.QueueMaxBytes, "bytes of events that wait in memory to be sent, at most")
	f.Int64Var(&c.SpoolMaxBytes, "spool-max-bytes", c.SpoolMaxBytes, "bytes on disk of events that wait for Kafka, at most; what comes beyond is dropped and counted")
	f.Var(&c.SpoolFsync, "spool-fsync", "when events on disk are made to survive a loss of power: always (before they count as spooled), never (as the kernel likes), or an interval such as 200ms")
}

// eventBoundMin has room for one batch of events.
const eventBoundMin = 1 << 20

func (c *EventsConfig) validate() error {
	if c.QueueMaxEvents < 1 || c.QueueMaxBytes < eventBoundMin || c.SpoolMaxBytes < eventBoundMin {
		return fmt.Errorf("--event-queue-max-events (%d) must be at least 1, --event-queue-max-bytes (%d) and --spool-max-bytes (%d) at least %d, which is a batch",
			c.QueueMaxEvents, c.QueueMaxBytes, c.SpoolMaxBytes, eventBoundMin)
	}
	return nil
}
