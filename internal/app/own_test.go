package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"tidegate/internal/addresses/rebind"
	"tidegate/pipeline/logpush/sink/egress"
	"tidegate/schema"
)

// A job must not be able to send to the platform itself: on a laptop loopback destinations are
// allowed, and the engine there trusts whoever comes.
func TestOwnAddressesAreKnown(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/v1/traces")
	config := DefaultConfig(RoleAPI, RoleGateway)
	config.API.Addr, config.Gateway.Addr, config.OpsAddr = "127.0.0.1:0", "127.0.0.1:0", ":0"
	config.Kafka = []string{"kafka:9092"}
	config.ClickHouse = "http://user:secret@clickhouse:8123/tidegate"
	config.Database = "postgres://user:secret@postgres/tidegate?sslmode=disable"
	config.Gateway.APIURL = "http://balancer:8787"
	config.Logpush.Refuse = []string{"172.31.87.0/24", "grafana"}
	p := &process{config: config, log: slog.New(slog.DiscardHandler)}
	if err := p.listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closeAll(t, p) })
	own, err := p.ownAddresses(config.Gateway.APIURL, config.Logpush.Refuse)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		p.listeners[listenAPI].Addr().String(), p.listeners[listenGateway].Addr().String(), p.listeners[listenOps].Addr().String(),
		"kafka:9092", "clickhouse:8123", "postgres:5432", "balancer:8787", "otel:4318", "traces.example:443", "172.31.87.0/24", "grafana",
	} {
		if !slices.Contains(own, want) {
			t.Errorf("%s is not among the platform's own addresses %v", want, own)
		}
	}
	if _, err := egress.NewPlatform(own, nil, p.log); err != nil {
		t.Errorf("they cannot be read: %v", err)
	}
}

// --kafka names one broker of three, and the others are as much the platform's.
func TestNoDestinationIsABrokerOfTheCluster(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	config := DefaultConfig(RoleLogpush)
	config.Kafka, config.Logpush.AllowLoopback = cluster.ListenAddrs()[:1], true
	p := &process{config: config, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { closeAll(t, p) })
	if err := p.findPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, broker := range cluster.ListenAddrs() {
		conn, err := p.egress().Dial(t.Context(), "tcp", broker)
		if err == nil {
			_ = conn.Close()
			t.Errorf("%s is reached, to write to %s", broker, schema.Topic)
		} else if !strings.Contains(err.Error(), "platform's own addresses") {
			t.Errorf("%s: %v", broker, err)
		}
	}
	conn, err := p.egress().Dial(t.Context(), "tcp", other.Addr().String())
	if err != nil {
		t.Fatalf("another address on loopback: %v", err)
	}
	_ = conn.Close()
}

// A router on its own keeps origins from itself and from what its settings name. The gateway is open
// to everybody, and so to origins.
func TestNoOriginIsThePlatformOfARouter(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	config := DefaultConfig(RoleGateway)
	config.Gateway.Addr, config.OpsAddr = "127.0.0.1:0", "127.0.0.1:0"
	config.Kafka, config.Gateway.APIURL = cluster.ListenAddrs()[:1], "http://localhost:8787"
	config.Network.OriginsRefuse, config.Logpush.Refuse = []string{"172.31.87.0/24", "10.0.0.9:9093"}, []string{"10.0.0.8"}
	p := &process{config: config, log: slog.New(slog.DiscardHandler)}
	t.Cleanup(func() { closeAll(t, p) })
	if err := p.listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.findPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !p.notForOrigins.Has(netip.MustParseAddrPort(cluster.ListenAddrs()[2])) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond) // on a slow machine the brokers did not answer in time
		p.notForOrigins.Look(t.Context())
	}
	own := append(cluster.ListenAddrs(), p.listeners[listenOps].Addr().String(), "127.0.0.1:8787", "172.31.87.9:9093", "10.0.0.9:9093")
	for _, address := range own {
		if !p.notForOrigins.Has(netip.MustParseAddrPort(address)) {
			t.Errorf("an origin may be at %s", address)
		}
	}
	for _, address := range []string{p.listeners[listenGateway].Addr().String(), "127.0.0.1:9001", "10.0.0.9:80", "10.0.0.8:80"} {
		if p.notForOrigins.Has(netip.MustParseAddrPort(address)) {
			t.Errorf("no origin may be at %s", address)
		}
	}
}

// One balancer may be in front of the API and of customers' origins, or of the gateway: over TLS the API knows whoever asks,
// and is no reason to refuse them. In clear text it is inside.
func TestAnAPIOverTLSRefusesNoOrigins(t *testing.T) {
	f := func(apiURL string, refused, origin bool, refuse ...string) {
		t.Helper()
		config := DefaultConfig(RoleGateway, RoleLogpush)
		config.Gateway.APIURL, config.Network.OriginsRefuse = apiURL, refuse
		p := &process{config: config, log: slog.New(slog.DiscardHandler)}
		if err := p.findPlatform(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := p.notForOrigins.Has(netip.MustParseAddrPort("10.0.0.7:443")); got != origin {
			t.Errorf("with %s, refused for origins is %t", apiURL, got)
		}
		p.platform.Look(t.Context())
		if got := p.platform.Has(netip.MustParseAddrPort("10.0.0.7:443")); got != refused {
			t.Errorf("with %s, refused for destinations is %t", apiURL, got)
		}
	}
	f("https://10.0.0.7", true, false)
	f("HTTPS://10.0.0.7:443/", true, false)
	f("https://10.0.0.7", true, true, "10.0.0.7:443")
	f("http://10.0.0.7:443", true, true)
	f("http://10.0.0.8:443", false, false)
}

// What is refused while the platform cannot be told is said as long as that is so, and not when it is over.
func TestWhatIsRefusedMeanwhileIsToldMeanwhile(t *testing.T) {
	rebind.Resolve(t, []netip.Addr{netip.MustParseAddr("10.0.0.1")})
	served := net.DefaultResolver
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("no name server")
	}} // until the end of the test, when what was before rebind.Resolve comes back
	var log strings.Builder
	config := DefaultConfig(RoleGateway, RoleLogpush)
	config.Network.OriginsRefuse, config.Logpush.Refuse = []string{rebind.Name}, []string{rebind.Name}
	p := &process{config: config, log: slog.New(slog.NewTextHandler(&log, nil))}
	if err := p.findPlatform(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.platform.Look(t.Context())
	for _, want := range []string{
		`meanwhile="origins are refused where what is missing was found before; what never was found is not refused"`,
		`meanwhile="destinations in private ranges are refused"`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in %q", want, log.String())
		}
	}
	net.DefaultResolver = served
	log.Reset()
	for deadline := time.Now().Add(time.Minute); strings.Count(log.String(), "can be told again") < 2; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("that it is over is never told: %q", log.String())
		}
		p.notForOrigins.Look(t.Context())
		p.platform.Look(t.Context())
	}
	if strings.Contains(log.String(), "meanwhile") {
		t.Errorf("when it is over: %q", log.String())
	}
}

// PostgreSQL's own default falls back to clear text, and sslmode=disable is nothing else: who has
// either to another machine is told, by doctor and at the start.
func TestWhoMayEndInClearTextIsTold(t *testing.T) {
	t.Setenv("PGSSLMODE", "")
	f := func(address string, want bool) {
		t.Helper()
		c := DoctorConfig{Config: DefaultConfig(RoleAPI)}
		c.Database = address
		list := c.clearTextFindings()
		if (len(list) > 0) != want {
			t.Errorf("%s: %v", address, list)
		}
		if want {
			says(t, list[0], JudgedWarning, "db.internal:5432 may be spoken to in clear text")
		}
		var log strings.Builder
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // nothing is connected to
		p := &process{config: c.Config, log: slog.New(slog.NewTextHandler(&log, nil))}
		if err := p.open(ctx); err == nil {
			t.Errorf("%s: it was opened", address)
		}
		if got := strings.Contains(log.String(), "in clear text"); got != want || strings.Contains(log.String(), "secret") {
			t.Errorf("%s: the start says %q", address, log.String())
		}
	}
	f("postgres://u:secret@db.internal/d", true)
	f("postgres://u:secret@db.internal/d?sslmode=prefer", true)
	f("postgres://u:secret@db.internal/d?sslmode=allow", true)
	f("postgres://u:secret@db.internal/d?sslmode=verify-full", false)
	f("postgres://u:secret@db.internal/d?sslmode=disable", true)
	f("postgres://u:secret@127.0.0.1/d", false)
	f("postgres://u:secret@localhost/d", false)
	f("postgres://u:secret@localhost/d?sslmode=disable", false)
	f("postgres://u:secret@/d?host=/run/postgresql&sslmode=disable", false)
}

// What a router is sent has the text of secrets in it, and ClickHouse's address a password: who sends either over a network in clear
// text is told at the start, as with PostgreSQL.
func TestPlainHTTPToOtherMachinesIsTold(t *testing.T) {
	f := func(address string, want bool) {
		t.Helper()
		var log strings.Builder
		p := &process{config: DefaultConfig(RoleGateway), log: slog.New(slog.NewTextHandler(&log, nil))}
		p.config.Gateway.APIURL = address
		p.config.Gateway.APITokenFile = filepath.Join(t.TempDir(), "none")
		if _, err := p.controlPlane(t.Context()); err == nil {
			t.Errorf("%s: there is no token", address)
		}
		if got := strings.Contains(log.String(), "control plane is spoken to in clear text"); got != want || strings.Contains(log.String(), "secret@") {
			t.Errorf("%s: the start of a router says %q", address, log.String())
		}
		log.Reset()
		p.config = DefaultConfig(RoleIngest)
		p.config.ClickHouse = address
		if err := p.open(t.Context()); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		closeAll(t, p)
		if got := strings.Contains(log.String(), "ClickHouse is spoken to in clear text"); got != want || strings.Contains(log.String(), "secret@") {
			t.Errorf("%s: the start of ingest says %q", address, log.String())
		}
	}
	f("http://u:secret@server.internal:8123", true)
	f("http://10.0.0.7", true)
	f("http://[fd00::7]:8123", true)
	f("https://u:secret@server.internal:8443", false)
	f("http://127.0.0.1:8123", false)
	f("http://[::1]:8123", false)
	f("http://localhost:8123", false)
}

func closeAll(t *testing.T, p *process) {
	t.Helper()
	for _, closeIt := range p.closers {
		if err := closeIt(); err != nil {
			t.Error(err)
		}
	}
}
