package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"tidegate/internal/certs"
)

// Limits on what an authority is asked for. Let's Encrypt's are 300 orders in 3 hours
// and, for each name, 5 failed validations an hour.
const (
	ordersAtOnce   = 4
	ordersInterval = 3 * time.Hour / 300
	ordersBurst    = 50
	// After a failure a name is left alone: 5 minutes, twice as long each time, up to
	// 6 hours. That makes 4 attempts in the first hour, and 3 of 6 hours are short
	// beside the third of its life that a certificate has left when it is renewed.
	retryAfterMin = 5 * time.Minute
	retryAfterMax = 6 * time.Hour
	orderTimeout  = 2 * time.Minute
	// handshakeWait is how long a client waits for a certificate that is being made.
	// net/http gives a handshake 10 s.
	handshakeWait = 8 * time.Second
)

// ACME gets certificates from an authority, keeps and renews them. Its methods may be
// called concurrently, but for Run, which is called once.
type ACME struct {
	cfg     ACMEConfig
	log     *slog.Logger
	folder  *acmeFolder
	ask     func(ctx context.Context, host string) (*tls.Certificate, error) // order, but for tests
	now     func() time.Time
	slots   chan struct{} // holds one for each order under way
	orders  *rate.Limiter
	account accountHolder
	counts  acmeCounts

	running context.Context // until Run ends
	stop    context.CancelFunc
	work    sync.WaitGroup // attempts

	mu      sync.Mutex
	stopped bool
	hosts   map[string]*issued // what Allowed has let through, and what was on disk
}

// issued is what is known of a host; all under ACME's mu.
type issued struct {
	certificate *tls.Certificate // nil before the first
	attempt     *attempt         // under way; nil
	failures    int              // since the last success
	retryAt     time.Time        // nobody asks earlier
	err         error            // of the latest failure
}

// attempt is one try to get a certificate. err may be read when done is closed.
type attempt struct {
	done chan struct{}
	err  error
}

// Reasons why nobody asks for a certificate that a client wants.
var (
	errNotAllowed = errors.New("no certificate may be asked for: this gateway does not serve the name")
	errTooMany    = errors.New("too many certificates are being asked for at the moment")
	errNoName     = errors.New("the client names no host that could have a certificate")
	errStopped    = errors.New("the gateway is stopping")
)

// failedBefore is what a host gets until its next attempt.
type failedBefore struct {
	host string
	till time.Time
	err  error
}

func (e failedBefore) Error() string {
	return fmt.Sprintf("no certificate is asked for %s before %s, because the last attempt failed: %v", e.host, e.till.Format(time.RFC3339), e.err)
}

func (e failedBefore) Unwrap() error { return e.err }

// NewACME opens the folder and reads the certificates that are there; the authority is
// not called before it is needed.
func NewACME(cfg ACMEConfig) (*ACME, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if len(cfg.Challenges) == 0 {
		cfg.Challenges = acmeChallenges
	}
	folder, err := openACMEFolder(filepath.Join(cfg.Dir, fileName(cfg.Directory)))
	if err != nil {
		return nil, err
	}
	a := &ACME{
		cfg: cfg, log: cfg.Logger, folder: folder, now: time.Now,
		slots: make(chan struct{}, ordersAtOnce), orders: rate.NewLimiter(rate.Every(ordersInterval), ordersBurst),
		hosts: map[string]*issued{},
	}
	a.ask = a.order
	a.running, a.stop = context.WithCancel(context.Background())
	found, damaged := folder.certificates()
	for host, certificate := range found {
		a.hosts[host] = &issued{certificate: certificate}
	}
	for name, err := range damaged {
		a.log.Error("a certificate on disk is of no use, another one will be asked for", "certificate", name, "error", err)
	}
	return a, nil
}

// Run renews certificates, and asks for those of Hosts, until ctx ends. Then it waits
// for what is under way to give up.
func (a *ACME) Run(ctx context.Context) error {
	observed, err := a.observe()
	if err != nil {
		return err
	}
	tick := time.NewTicker(certs.ReloadInterval)
	defer tick.Stop()
	for {
		a.renew(a.now())
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		a.mu.Lock()
		a.stopped = true
		a.mu.Unlock()
		a.stop()
		a.work.Wait()
		return observed.Unregister()
	}
}

// renew takes what others have got, begins what is due, and forgets what has run out and is no longer served.
func (a *ACME) renew(now time.Time) {
	a.folder.removeOldChallenges(now)
	a.adopt(now)
	var wanted, expired []string
	a.mu.Lock()
	for host, i := range a.hosts {
		if i.certificate != nil && due(i.certificate, now) {
			wanted = append(wanted, host)
		}
	}
	a.mu.Unlock()
	for _, host := range a.cfg.Hosts {
		if a.lookUp(host) == nil {
			wanted = append(wanted, host)
		}
	}
	for _, host := range wanted {
		if !a.cfg.Allowed(host) {
			if certificate := a.lookUp(host); certificate != nil && certs.InDate(certificate, now) != nil {
				expired = append(expired, host)
			}
			continue
		}
		// A failure is logged by the attempt; what is put off comes again with the next tick.
		_, _ = a.begin(host, now)
	}
	for _, host := range expired {
		if err := a.forget(host); err != nil {
			a.log.Warn("a certificate that has run out, and whose host is no longer served, stays on disk", "host", host, "error", err)
		}
	}
}

// adopt takes what another process has got for hosts that this one failed for.
func (a *ACME) adopt(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for host, i := range a.hosts {
		if i.failures == 0 || i.attempt != nil {
			continue
		}
		if certificate, err := a.folder.certificate(host); err == nil && !due(certificate, now) {
			i.succeeded(certificate)
		}
	}
}

// succeeded forgets the failures before.
func (i *issued) succeeded(certificate *tls.Certificate) {
	i.certificate, i.failures, i.err, i.retryAt = certificate, 0, nil, time.Time{}
}

// due says that two thirds of a certificate's life are over, which is when authorities
// want to be asked again.
func due(c *tls.Certificate, now time.Time) bool {
	return now.After(c.Leaf.NotBefore.Add(c.Leaf.NotAfter.Sub(c.Leaf.NotBefore) * 2 / 3))
}

func (a *ACME) lookUp(host string) *tls.Certificate {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.hosts[host]; i != nil {
		return i.certificate
	}
	return nil
}

func (a *ACME) forget(host string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := a.hosts[host]; i == nil || i.attempt != nil {
		return nil
	}
	delete(a.hosts, host)
	return a.folder.removeCertificate(host)
}

// get returns the certificate of the name that a client asks for. Where there is none
// it asks for one, if it may, and waits a while.
func (a *ACME) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	host := plainName(hello.ServerName)
	if !validHost(host) {
		return nil, errNoName
	}
	now := a.now()
	old := a.lookUp(host)
	if old != nil && certs.InDate(old, now) == nil {
		return old, nil
	}
	if !a.cfg.Allowed(host) {
		a.counts.refused[refusedHost].Add(1)
		return nil, errNotAllowed
	}
	certificate, err := a.await(hello.Context(), host, now)
	switch {
	case errors.Is(err, errTooMany):
		a.counts.refused[refusedTooMany].Add(1)
	case errors.As(err, new(failedBefore)):
		a.counts.refused[refusedFailed].Add(1)
	}
	if err != nil && old != nil {
		return old, nil // the client sees for itself that it has run out
	}
	return certificate, err
}

func (a *ACME) await(ctx context.Context, host string, now time.Time) (*tls.Certificate, error) {
	try, err := a.begin(host, now)
	if err != nil {
		return nil, err
	}
	patience := time.NewTimer(handshakeWait)
	defer patience.Stop()
	select {
	case <-try.done:
	case <-patience.C:
		return nil, fmt.Errorf("the certificate of %s is still being asked for", host)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if try.err != nil {
		return nil, try.err
	}
	return a.lookUp(host), nil
}

// begin starts an attempt, or returns the one under way. A host that failed a while
// ago gets that error again.
func (a *ACME) begin(host string, now time.Time) (*attempt, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	i := a.hosts[host]
	switch {
	case a.stopped:
		return nil, errStopped
	case i != nil && i.attempt != nil:
		return i.attempt, nil
	case i != nil && now.Before(i.retryAt):
		return nil, failedBefore{host, i.retryAt, i.err}
	}
	select {
	case a.slots <- struct{}{}:
	default:
		return nil, errTooMany
	}
	if i == nil {
		i = &issued{}
		a.hosts[host] = i
	}
	i.attempt = &attempt{done: make(chan struct{})}
	a.work.Go(func() {
		defer func() { <-a.slots }()
		a.try(host, i)
	})
	return i.attempt, nil
}

// try gets a certificate and settles the attempt.
func (a *ACME) try(host string, i *issued) {
	ctx, cancel := context.WithTimeout(a.running, orderTimeout)
	defer cancel()
	certificate, asked, err := a.obtain(ctx, host)
	a.mu.Lock()
	defer a.mu.Unlock()
	this := i.attempt
	i.attempt, this.err = nil, err
	defer close(this.done)
	switch {
	case err == nil:
		i.succeeded(certificate)
		if asked {
			a.counts.results[resultIssued].Add(1)
			a.log.Info("a certificate was issued", "host", host, "until", certificate.Leaf.NotAfter)
		}
	case errors.Is(err, errTooMany), a.running.Err() != nil: // no fault of the host's
	default:
		wait := retryAfter(i.failures)
		i.failures++
		i.err, i.retryAt = err, a.now().Add(wait)
		a.counts.results[resultFailed].Add(1)
		a.log.Error("no certificate was issued", "host", host, "failures", i.failures, "retry_after", wait.String(), "error", err)
	}
	if i.certificate == nil && i.failures == 0 {
		delete(a.hosts, host) // nothing to remember
	}
}

func retryAfter(failures int) time.Duration {
	if failures > 10 { // far beyond the longest
		return retryAfterMax
	}
	return min(retryAfterMin<<failures, retryAfterMax)
}

// obtain takes what another process has got meanwhile, or asks the authority.
func (a *ACME) obtain(ctx context.Context, host string) (_ *tls.Certificate, asked bool, err error) {
	unlock, err := a.folder.lock(ctx, host)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if certificate, err := a.folder.certificate(host); err == nil && !due(certificate, a.now()) {
		return certificate, false, nil
	}
	if !a.orders.Allow() {
		return nil, false, errTooMany
	}
	certificate, err := a.ask(ctx, host)
	if err != nil {
		return nil, true, fmt.Errorf("get a certificate for %s from %s: %w", host, a.cfg.Directory, err)
	}
	return certificate, true, nil
}
