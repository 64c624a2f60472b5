package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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

// ReloadInterval is how often a listener's files are read again. Reading them needs no
// notice from the file system, which network and projected volumes do not give.
const ReloadInterval = 5 * time.Second

// Results of a reload, in the order of their counters.
var reloadResults = []string{"loaded", "refused"}

const (
	resultLoaded = iota
	resultRefused
)

// Pair names the PEM files of a certificate, with its chain, and of its key.
type Pair struct{ Cert, Key string }

// Metrics are the names of what a listener's certificates are told by, spelled in full.
type Metrics struct {
	Reloads string // a counter, by result
	Expiry  string // a gauge in seconds since 1970, by the certificate's file
}

// What describes the metrics of these names.
const (
	ReloadsHelp = "Certificate files that changed while they were in use, by result: loaded, or refused because the new ones do not work."
	ExpiryHelp  = "When a certificate in use ceases to be valid, in seconds since 1970, by its file."
)

// Files are the pairs that a TLS listener presents, and the authority whose clients it
// trusts. Their methods may be called concurrently, but for Run and Reload.
type Files struct {
	log      *slog.Logger
	metrics  Metrics
	pairs    []*pair
	clients  *authority // nil: clients are not asked for a certificate
	peers    peers      // of Listener, where clients are asked
	interval time.Duration
	reloads  [2]atomic.Int64 // by result
}

// pair is one certificate. All but current belongs to whoever calls Reload.
type pair struct {
	Pair
	current atomic.Pointer[tls.Certificate]
	content []byte // of both files, as they were accepted
	trouble trouble
}

// authority is a file of certificates that others are signed by. All but current belongs
// to whoever calls Reload.
type authority struct {
	file    string
	current atomic.Pointer[x509.CertPool]
	content []byte // as it was accepted
	latest  []byte // what the latest reload read; nil where it could not be used
	trouble trouble
}

// Load reads all pairs. One that cannot be read, or whose key belongs to another
// certificate, is an error; one that is out of date is logged only, because a listener
// that does not start serves nobody. There may be none.
func Load(pairs []Pair, metrics Metrics, log *slog.Logger) (*Files, error) {
	f := &Files{log: log, metrics: metrics, interval: ReloadInterval}
	for _, names := range pairs {
		p := &pair{Pair: names}
		content, err := p.read()
		if err != nil {
			return nil, err
		}
		certificate, err := p.parse(content)
		if err != nil {
			return nil, err
		}
		if err := InDate(certificate, time.Now()); err != nil {
			log.Warn("clients will refuse a certificate", "certificate", p.Cert, "error", err)
		}
		p.content = bytes.Join(content[:], nil)
		p.current.Store(certificate)
		f.pairs = append(f.pairs, p)
	}
	return f, nil
}

// AskClients has Listener ask clients for a certificate that an authority in the file signed.
// Call it before anything else.
func (f *Files) AskClients(file string) error {
	a := &authority{file: file}
	content, pool, err := a.read()
	if err != nil {
		return err
	}
	a.content = content
	a.current.Store(pool)
	f.clients = a
	return nil
}

// For returns the first pair that fits the name a client asks for and what it can
// verify; nil for none.
func (f *Files) For(hello *tls.ClientHelloInfo) *tls.Certificate {
	for _, p := range f.pairs {
		if current := p.current.Load(); hello.SupportsCertificate(current) == nil {
			return current
		}
	}
	return nil
}

// First returns the first pair; nil for none.
func (f *Files) First() *tls.Certificate {
	if len(f.pairs) == 0 {
		return nil
	}
	return f.pairs[0].current.Load()
}

// TLS returns the configuration of a listener that asks clients for no certificate: TLS 1.2 or
// newer, HTTP/2 where the client has it.
func (f *Files) TLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{"h2", "http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := f.For(hello); c != nil {
				return c, nil
			}
			return f.First(), nil // the client may know better than its hello; if not, it says why it goes
		},
	}
}

// Run reads the files again and again until ctx ends, and reports to OpenTelemetry
// in the meantime. Connections keep the certificate that they were opened with.
func (f *Files) Run(ctx context.Context) error {
	observed, err := f.observe()
	if err != nil {
		return err
	}
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return observed.Unregister()
		case now := <-tick.C:
			f.Reload(ctx, now)
		}
	}
}

// Reload takes over the pairs whose files have changed. A new pair that does not
// work is refused, and the old one stays.
func (f *Files) Reload(ctx context.Context, now time.Time) {
	for _, p := range f.pairs {
		switch changed, err := p.reload(now); {
		case err != nil && p.trouble.lasts(err):
			f.reloads[resultRefused].Add(1)
			f.log.ErrorContext(ctx, "a new certificate was refused, the old one stays", "certificate", p.Cert, "key", p.Key, "error", err)
		case changed:
			f.reloads[resultLoaded].Add(1)
			f.log.InfoContext(ctx, "a new certificate was loaded", "certificate", p.Cert, "until", p.current.Load().Leaf.NotAfter)
		}
	}
	if f.clients == nil {
		return
	}
	switch changed, err := f.clients.reload(); {
	case err != nil && f.clients.trouble.lasts(err):
		f.reloads[resultRefused].Add(1)
		f.log.ErrorContext(ctx, "a new authority of clients was refused, the old one stays", "authority", f.clients.file, "error", err)
	case changed:
		f.reloads[resultLoaded].Add(1)
		closed := f.peers.closeStrangers(f.clients.current.Load())
		f.log.InfoContext(ctx, "a new authority of clients was loaded", "authority", f.clients.file, "connections_closed", closed)
	}
}

func (p *pair) reload(now time.Time) (changed bool, err error) {
	content, err := p.read()
	if err != nil {
		return false, err
	}
	joined := bytes.Join(content[:], nil)
	if bytes.Equal(joined, p.content) {
		p.trouble = trouble{}
		return false, nil
	}
	certificate, err := p.parse(content)
	if err == nil {
		err = InDate(certificate, now)
	}
	if err != nil {
		return false, fmt.Errorf("%w (%d bytes)", err, len(joined))
	}
	p.content, p.trouble = joined, trouble{}
	p.current.Store(certificate)
	return true, nil
}

// reload takes over what two reads in a row have found: a file that is being written is
// well-formed at the end of each certificate, and what is still to come would be trusted no more.
func (a *authority) reload() (changed bool, err error) {
	content, pool, err := a.read()
	before := a.latest
	a.latest = content
	if err != nil {
		return false, err
	}
	a.trouble = trouble{}
	if bytes.Equal(content, a.content) || !bytes.Equal(content, before) {
		return false, nil
	}
	a.content = content
	a.current.Store(pool)
	return true, nil
}

func (a *authority) read() ([]byte, *x509.CertPool, error) {
	content, err := os.ReadFile(a.file)
	if err != nil {
		return nil, nil, fmt.Errorf("load the authority of clients: %w", err)
	}
	pool, err := parseAuthorities(content)
	if err != nil {
		return nil, nil, fmt.Errorf("load the authority of clients: %s %w", a.file, err)
	}
	return content, pool, nil
}

// parseAuthorities finishes a sentence that began with the file. One certificate that cannot
// be read is an error: left out, its authority would be trusted no more without a word.
func parseAuthorities(content []byte) (*x509.CertPool, error) {
	pool, count := x509.NewCertPool(), 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		count++
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("cannot be used, because of certificate %d in it: %w", count, err)
		}
		pool.AddCert(certificate)
	}
	// Decode passes over what has no end, or is no base64.
	if begun := bytes.Count(content, []byte("-----BEGIN CERTIFICATE-----")); begun != count {
		return nil, fmt.Errorf("cannot be used: %d certificates begin in it, and %d of them are whole PEM", begun, count)
	}
	if count == 0 {
		return nil, fmt.Errorf("holds no certificate in PEM")
	}
	return pool, nil
}

// trouble is how the latest attempt at a file failed; the zero value after a success.
type trouble struct {
	text     string
	reported bool // it has been logged and counted
}

// lasts reports whether a failure is to be told of: once, and not before it has
// lasted for a whole interval, because two files cannot be replaced in one step.
func (t *trouble) lasts(err error) bool {
	if t.text != err.Error() {
		*t = trouble{text: err.Error()}
		return false
	}
	if t.reported {
		return false
	}
	t.reported = true
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

// InDate returns an error where a certificate is not valid now.
func InDate(c *tls.Certificate, now time.Time) error {
	if now.After(c.Leaf.NotAfter) {
		return fmt.Errorf("it was valid until %s", c.Leaf.NotAfter)
	}
	if now.Before(c.Leaf.NotBefore) {
		return fmt.Errorf("it is not valid before %s", c.Leaf.NotBefore)
	}
	return nil
}

func (f *Files) observe() (metric.Registration, error) {
	meter := telemetry.Meter("tidegate/internal/certs")
	reloads, err := meter.Int64ObservableCounter(f.metrics.Reloads, metric.WithDescription(ReloadsHelp))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of certificates: %w", err)
	}
	expiry, err := meter.Float64ObservableGauge(f.metrics.Expiry, metric.WithDescription(ExpiryHelp))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of certificates: %w", err)
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, result := range reloadResults {
			o.ObserveInt64(reloads, f.reloads[i].Load(), metric.WithAttributes(attribute.String("result", result)))
		}
		for _, p := range f.pairs {
			o.ObserveFloat64(expiry, float64(p.current.Load().Leaf.NotAfter.Unix()), metric.WithAttributes(attribute.String("certificate", p.Cert)))
		}
		return nil
	}, reloads, expiry)
}
