package app

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"tidegate/internal/certs"
	"tidegate/internal/clickhouse"
	"tidegate/internal/patient"
	"tidegate/internal/runtime"
	"tidegate/pipeline/logpush/sink/egress"
)

// NetworkConfig says how the listeners and the clients of this process speak TLS, but for the
// gateway's listener and for Kafka, which have more to say, and where origins may be.
type NetworkConfig struct {
	APICert, APIKey string // PEM files of the API's certificate and key; empty for clear text
	// APIClientCA is the authority of clients' certificates. One that is presented must be
	// of it; with RoutersNeedCertificate a router must present one.
	APIClientCA            string
	RoutersNeedCertificate bool

	OpsCert, OpsKey string // the same for OpsAddr
	OpsClientCA     string // whose clients alone are let in; empty for everybody

	ClickHouse clickhouse.Access

	Origins       runtime.OriginAddresses // that a router connects to, but for what is the platform's own
	OriginsRefuse []string                // host, host:port or range of addresses where none may be

	// How a router without a database speaks to the control plane.
	ControlCA, ControlCert, ControlKey string
}

func (c *NetworkConfig) bind(f *pflag.FlagSet, has func(Role) bool) {
	f.StringVar(&c.OpsCert, "ops-tls-cert", c.OpsCert, "PEM file of a certificate with its chain: --ops-addr speaks TLS; read again when it changes")
	f.StringVar(&c.OpsKey, "ops-tls-key", c.OpsKey, "PEM file of that certificate's key")
	f.StringVar(&c.OpsClientCA, "ops-client-ca-file", c.OpsClientCA, "PEM file of the authority whose clients alone --ops-addr serves (mutual TLS); empty for everybody")
	if has(RoleAPI) || has(RoleRollback) || has(RoleIngest) || has(RoleLogpush) {
		bindClickHouseAccess(f, &c.ClickHouse)
	}
	if has(RoleAPI) {
		f.StringVar(&c.APICert, "api-tls-cert", c.APICert, "PEM file of a certificate with its chain: --api-addr speaks TLS; read again when it changes")
		f.StringVar(&c.APIKey, "api-tls-key", c.APIKey, "PEM file of that certificate's key")
		f.StringVar(&c.APIClientCA, "api-client-ca-file", c.APIClientCA, "PEM file of the authority that signs clients' certificates; a client may do without one")
		f.BoolVar(&c.RoutersNeedCertificate, "routers-need-certificate", c.RoutersNeedCertificate, "refuse what routers ask for, secrets among it, without a certificate of --api-client-ca-file")
	}
	if has(RoleGateway) {
		f.BoolVar(&c.Origins.DenyPrivate, "origins-deny-private", c.Origins.DenyPrivate, "refuse origins in private, loopback and other ranges that are not public, by the address that is connected to")
		f.BoolVar(&c.Origins.AllowLinkLocal, "origins-allow-link-local", c.Origins.AllowLinkLocal, "allow origins at link-local addresses, and at those where clouds give a machine its credentials")
		f.StringSliceVar(&c.OriginsRefuse, "origins-refuse", c.OriginsRefuse, "hosts, host:ports and address ranges, separated by commas, where no origin may be, whatever is allowed: the platform's other machines. What other settings of this process name is refused anyway")
		f.StringVar(&c.ControlCA, "api-ca-file", c.ControlCA, "PEM file of the authorities that sign the certificate of --api-url; without it the system's. The files of --api-... are read for each new connection")
		f.StringVar(&c.ControlCert, "api-cert-file", c.ControlCert, "PEM file of a certificate, with its chain, for a control plane that asks for one (mutual TLS)")
		f.StringVar(&c.ControlKey, "api-key-file", c.ControlKey, "PEM file of that certificate's key")
	}
}

func bindClickHouseAccess(f *pflag.FlagSet, a *clickhouse.Access) {
	f.StringVar(&a.TLS.CAFile, "clickhouse-ca-file", a.TLS.CAFile, "PEM file of the authorities that sign the certificate of --clickhouse; without it the system's. The files of --clickhouse-... are read for each new connection")
	f.StringVar(&a.TLS.CertFile, "clickhouse-cert-file", a.TLS.CertFile, "PEM file of a certificate, with its chain, for a server that asks for one (mutual TLS)")
	f.StringVar(&a.TLS.KeyFile, "clickhouse-key-file", a.TLS.KeyFile, "PEM file of that certificate's key")
	f.StringVar(&a.User, "clickhouse-user", a.User, "user who logs in, in place of one in the address")
	f.StringVar(&a.PasswordFile, "clickhouse-password-file", a.PasswordFile, "file with the user's password; without it the user is known by --clickhouse-cert-file")
}

// validateClickHouse is for an address that is a URL, or empty.
func validateClickHouse(address string, a clickhouse.Access) error {
	u, err := url.Parse(address)
	switch {
	case err != nil || a == (clickhouse.Access{}):
		return nil
	case address == "":
		return fmt.Errorf("the flags that begin with --clickhouse- need --clickhouse: they are about a server of your own")
	}
	var all faults
	all.add((a.TLS.CertFile == "") != (a.TLS.KeyFile == ""), "--clickhouse-cert-file (%q) and --clickhouse-key-file (%q) are needed together", a.TLS.CertFile, a.TLS.KeyFile)
	all.add(a.TLS != (certs.Client{}) && u.Scheme != "https", "--clickhouse-ca-file and --clickhouse-cert-file need a --clickhouse that begins with https://: in clear text nobody proves who they are")
	all.add(a.User == "" && a.PasswordFile != "", "--clickhouse-password-file needs --clickhouse-user")
	all.add(a.User != "" && u.User != nil, "--clickhouse-user is %q, and the address in --clickhouse names a user too: name one of them", a.User)
	all.add(a.User != "" && a.PasswordFile == "" && a.TLS.CertFile == "", "--clickhouse-user is %q without --clickhouse-password-file or --clickhouse-cert-file: one of them says that it is this user", a.User)
	return errors.Join(all...)
}

// faults of settings, each of which is told.
type faults []error

func (f *faults) add(wrong bool, format string, args ...any) {
	if wrong {
		*f = append(*f, fmt.Errorf(format, args...))
	}
}

// validate refuses what is given by half: left out silently it would mean a connection
// that is less safe than the operator believes.
func (c *NetworkConfig) validate(opsAddr string, opsPprof bool, apiURL string) error {
	var all faults
	for _, pair := range []struct{ certFlag, cert, keyFlag, key string }{
		{"api-tls-cert", c.APICert, "api-tls-key", c.APIKey},
		{"ops-tls-cert", c.OpsCert, "ops-tls-key", c.OpsKey},
		{"api-cert-file", c.ControlCert, "api-key-file", c.ControlKey},
	} {
		all.add((pair.cert == "") != (pair.key == ""), "--%s (%q) and --%s (%q) are needed together", pair.certFlag, pair.cert, pair.keyFlag, pair.key)
	}
	for _, text := range c.OriginsRefuse {
		err := egress.Check(text)
		all.add(err != nil, "--origins-refuse: %w", err)
	}
	all.add(c.OpsCert != "" && opsAddr == "", "--ops-tls-cert needs --ops-addr: without it nothing listens there")
	all.add(opsPprof && opsAddr == "", "--ops-pprof needs --ops-addr: the API's address has no profiles")
	all.add(c.OpsClientCA != "" && c.OpsCert == "", "--ops-client-ca-file needs --ops-tls-cert: only TLS has certificates of clients")
	all.add(c.APIClientCA != "" && c.APICert == "", "--api-client-ca-file needs --api-tls-cert: only TLS has certificates of clients, and a proxy that speaks it in front keeps them to itself")
	all.add(c.RoutersNeedCertificate && c.APIClientCA == "", "--routers-need-certificate needs --api-client-ca-file, which says whose certificates count")
	// The authority alone, in the environment of a platform that has its own control plane, is for the commands.
	all.add((c.ControlCA != "" && apiURL != "" || c.ControlCert != "") && !isHTTPS(apiURL), "--api-ca-file and --api-cert-file need an --api-url that begins with https://: in clear text nobody proves who they are")
	return errors.Join(all...)
}

func isHTTPS(address string) bool { return strings.HasPrefix(address, "https://") }

// controlClient is how a router speaks TLS to the control plane. It finds out that this is
// cut off while it waits for a snapshot.
func (c *NetworkConfig) controlClient() certs.Client {
	return certs.Client{Peer: "the control plane", CAFile: c.ControlCA, CertFile: c.ControlCert, KeyFile: c.ControlKey, Dialer: patient.Dialer()}
}

// secureListeners puts TLS around the listeners of the API and of ops, where there are
// certificates for them.
func (p *process) secureListeners() error {
	c := p.config.Network
	for _, l := range []struct {
		name     string
		pair     certs.Pair
		clientCA string
		auth     tls.ClientAuthType
		metrics  certs.Metrics
	}{
		{listenAPI, certs.Pair{Cert: c.APICert, Key: c.APIKey}, c.APIClientCA, tls.VerifyClientCertIfGiven,
			certs.Metrics{Reloads: "tidegate_api_certificate_reloads_total", Expiry: "tidegate_api_certificate_expiry_timestamp_seconds"}},
		{listenOps, certs.Pair{Cert: c.OpsCert, Key: c.OpsKey}, c.OpsClientCA, tls.RequireAndVerifyClientCert,
			certs.Metrics{Reloads: "tidegate_ops_certificate_reloads_total", Expiry: "tidegate_ops_certificate_expiry_timestamp_seconds"}},
	} {
		inner := p.listeners[l.name]
		if inner == nil || l.pair.Cert == "" {
			continue
		}
		files, err := certs.Load([]certs.Pair{l.pair}, l.metrics, p.log)
		if err != nil {
			return fmt.Errorf("serve the %s over TLS: %w", l.name, err)
		}
		if l.clientCA != "" {
			if err := files.AskClients(l.clientCA); err != nil {
				return fmt.Errorf("serve the %s over TLS: %w", l.name, err)
			}
		}
		p.services = append(p.services, service{"certificates of the " + l.name, stageRouting, files.Run})
		p.listeners[l.name] = secured{files.Listener(inner, l.auth)}
	}
	return nil
}

// secured is a listener that speaks TLS, for those who name its address.
type secured struct{ net.Listener }
