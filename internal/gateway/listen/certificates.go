// Package listen is what stands between the network and the gateway's HTTP
// servers: TLS with certificates from files and from ACME, and the PROXY protocol.
package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// reloadInterval is how often the files are read again. Reading them needs no
// notice from the file system, which network and projected volumes do not give.
const reloadInterval = 5 * time.Second

// Results of a reload, in the order of their counters.
var reloadResults = []string{"loaded", "refused"}

const (
	resultLoaded = iota
	resultRefused
)

// KeyPair names the PEM files of a certificate, with its chain, and of its key.
type KeyPair struct{ Cert, Key string }

// Certificates are what TLS listeners present. A connection gets the first of the
// files' pairs that fits the name it asks for and what it can verify, else what ACME has
// or gets for that name, else the first of all pairs.
// Their methods may be called concurrently, but for Run and Reload.
type Certificates struct {
	log      *slog.Logger
	pairs    []*pair
	acme     *ACME // nil for files alone
	interval time.Duration
	reloads  [2]atomic.Int64 // by result
}

// pair is one certificate. All but current belongs to whoever calls Reload.
type pair struct {
	KeyPair
	current  atomic.Pointer[tls.Certificate]
	content  []byte // of both files, as they were accepted
	failing  string // how the latest attempt failed, and on what; empty after a success
	reported bool   // failing has been logged and counted
}

// LoadCertificates reads all pairs. One that cannot be read, or whose key belongs to
// another certificate, is an error; one that is out of date is logged only, because
// a gateway that does not start serves nobody. There may be none with ACME, which may
// be nil and whose Run is the caller's.
func LoadCertificates(files []KeyPair, acme *ACME, log *slog.Logger) (*Certificates, error) {
	if len(files) == 0 && acme == nil {
		return nil, fmt.Errorf("load certificates: there must be one at least")
	}
	c := &Certificates{log: log, acme: acme, interval: reloadInterval}
	for _, f := range files {
		p := &pair{KeyPair: f}
		content, err := p.read()
		if err != nil {
			return nil, err
		}
		certificate, err := p.parse(content)
		if err != nil {
			return nil, err
		}
		if err := inDate(certificate, time.Now()); err != nil {
			log.Warn("clients will refuse a certificate", "certificate", f.Cert, "error", err)
		}
		p.content = bytes.Join(content[:], nil)
		p.current.Store(certificate)
		c.pairs = append(c.pairs, p)
	}
	return c, nil
}

// TLS returns the configuration of a listener: TLS 1.2 or newer, HTTP/2 where the
// client has it.
func (c *Certificates) TLS() *tls.Config {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: c.get,
	}
	if c.acme != nil {
		challenge := c.acme.challengeTLS()
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if isChallenge(hello) {
				return challenge, nil
			}
			return nil, nil // the listener's own
		}
	}
	return config
}

func (c *Certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	for _, p := range c.pairs {
		if current := p.current.Load(); hello.SupportsCertificate(current) == nil {
			return current, nil
		}
	}
	if c.acme != nil {
		if certificate, err := c.acme.get(hello); err == nil || len(c.pairs) == 0 {
			return certificate, err
		}
	}
	// The client may know better than its hello; if not, it says why it goes.
	return c.pairs[0].current.Load(), nil
}

// Run reads the files again and again until ctx ends, and reports to OpenTelemetry
// in the meantime. Connections keep what they were opened with.
func (c *Certificates) Run(ctx context.Context) error {
	observed, err := c.observe()
	if err != nil {
		return err
	}
	tick := time.NewTicker(c.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return observed.Unregister()
		case now := <-tick.C:
			c.Reload(ctx, now)
		}
	}
}

// Reload takes over the pairs whose files have changed. A new pair that does not
// work is refused, and the old one stays.
func (c *Certificates) Reload(ctx context.Context, now time.Time) {
	for _, p := range c.pairs {
		switch changed, err := p.reload(now); {
		case err != nil && p.refused(err):
			c.reloads[resultRefused].Add(1)
			c.log.ErrorContext(ctx, "a new certificate was refused, the old one stays", "certificate", p.Cert, "key", p.Key, "error", err)
		case changed:
			c.reloads[resultLoaded].Add(1)
			c.log.InfoContext(ctx, "a new certificate was loaded", "certificate", p.Cert, "until", p.current.Load().Leaf.NotAfter)
		}
	}
}

func (p *pair) reload(now time.Time) (changed bool, err error) {
	content, err := p.read()
	if err != nil {
		return false, err
	}
	joined := bytes.Join(content[:], nil)
	if bytes.Equal(joined, p.content) {
		p.failing = ""
		return false, nil
	}
	certificate, err := p.parse(content)
	if err == nil {
		err = inDate(certificate, now)
	}
	if err != nil {
		return false, fmt.Errorf("%w (%d bytes)", err, len(joined))
	}
	p.content, p.failing = joined, ""
	p.current.Store(certificate)
	return true, nil
}

// refused reports whether a failure is to be told of: once, and not before it has
// lasted for a whole interval, because two files cannot be replaced in one step.
func (p *pair) refused(err error) bool {
	if p.failing != err.Error() {
		p.failing, p.reported = err.Error(), false
		return false
	}
	if p.reported {
		return false
	}
	p.reported = true
	return true
}

// read returns the content of the two files.
func (p *pair) read() (content [2][]byte, err error) {
	for i, name := range [...]string{p.Cert, p.Key} {
		if content[i], err = os.ReadFile(name); err != nil {
			return content, fmt.Errorf("load a certificate: %w", err)
		}
	}
	return content, nil
}

func (p *pair) parse(content [2][]byte) (*tls.Certificate, error) {
	certificate, err := tls.X509KeyPair(content[0], content[1])
	if err != nil {
		return nil, fmt.Errorf("load the certificate %s with the key %s: %s", p.Cert, p.Key, strings.TrimPrefix(err.Error(), "tls: "))
	}
	return &certificate, nil
}

func inDate(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("it was valid until %s", c.Leaf.NotAfter)
	}
	if now.Before(c.Leaf.NotBefore) {
		return fmt.Errorf("it is not valid before %s", c.Leaf.NotBefore)
	}
	return nil
}

// The gauge of both kinds of certificates.
const (
	expiryName = "tidegate_gateway_certificate_expiry_timestamp_seconds"
	expiryHelp = "When a certificate in use ceases to be valid, in seconds since 1970, by its file."
)

func (c *Certificates) observe() (metric.Registration, error) {
	meter := telemetry.Meter("tidegate/gateway/listen")
	reloads, err := meter.Int64ObservableCounter("tidegate_gateway_certificate_reloads_total",
		metric.WithDescription("Certificate files that changed while they were in use, by result: loaded, or refused because the new ones do not work."))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of certificates: %w", err)
	}
	expiry, err := meter.Float64ObservableGauge(expiryName, metric.WithDescription(expiryHelp))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of certificates: %w", err)
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, result := range reloadResults {
			o.ObserveInt64(reloads, c.reloads[i].Load(), metric.WithAttributes(attribute.String("result", result)))
		}
		for _, p := range c.pairs {
			o.ObserveFloat64(expiry, float64(p.current.Load().Leaf.NotAfter.Unix()), metric.WithAttributes(attribute.String("certificate", p.Cert)))
		}
		return nil
	}, reloads, expiry)
}
