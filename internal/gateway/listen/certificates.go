// Package listen is what stands between the network and the gateway's HTTP
// servers: TLS with certificates from files and from ACME, and the PROXY protocol.
package listen

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"tidegate/internal/certs"
)

// Certificates are what TLS listeners present. A connection gets the first of the
// files' pairs that fits the name it asks for and what it can verify, else what ACME has
// or gets for that name, else the first of all pairs.
// Their methods may be called concurrently, but for Run.
type Certificates struct {
	files *certs.Files
	acme  *ACME // nil for files alone
}

// LoadCertificates reads all pairs, as certs.Load does. There may be none with ACME, which
// may be nil and whose Run is the caller's.
func LoadCertificates(pairs []certs.Pair, acme *ACME, log *slog.Logger) (*Certificates, error) {
	if len(pairs) == 0 && acme == nil {
		return nil, fmt.Errorf("load certificates: there must be one at least")
	}
	files, err := certs.Load(pairs, certs.Metrics{Reloads: "tidegate_gateway_certificate_reloads_total", Expiry: expiryName}, log)
	if err != nil {
		return nil, err
	}
	return &Certificates{files, acme}, nil
}

// expiryName is the gauge of both kinds of certificates.
const expiryName = "tidegate_gateway_certificate_expiry_timestamp_seconds"

// TLS returns the configuration of a listener: TLS 1.2 or newer, HTTP/2 where the
// client has it.
func (c *Certificates) TLS() *tls.Config {
	config := c.files.TLS()
	if c.acme == nil {
		return config
	}
	config.GetCertificate = c.get
	challenge := c.acme.challengeTLS()
	config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if isChallenge(hello) {
			return challenge, nil
		}
		return nil, nil // the listener's own
	}
	return config
}

func (c *Certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if fits := c.files.For(hello); fits != nil {
		return fits, nil
	}
	first := c.files.First()
	if certificate, err := c.acme.get(hello); err == nil || first == nil {
		return certificate, err
	}
	return first, nil // the client may know better than its hello; if not, it says why it goes
}

// Run reads the files again and again until ctx ends, and reports to OpenTelemetry
// in the meantime. Connections keep what they were opened with.
func (c *Certificates) Run(ctx context.Context) error { return c.files.Run(ctx) }
