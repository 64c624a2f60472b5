// Package egress makes the connections to destinations. A destination is named
// by a user, so each address is checked after its name is resolved and before
// anything is sent: otherwise a job could reach our own network.
package egress

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"tidegate/internal/addresses"
	"tidegate/pipeline/logpush"
)

// Limits of one connection, as Logpush documents them.
const (
	dialTimeout = 5 * time.Second
	tlsTimeout  = 5 * time.Second
	noProgress  = 10 * time.Second
	// stalled is how long a destination may take nothing of a request on a connection that
	// others use. A slow line may need long for what a transport takes at a time, half a
	// megabyte at most.
	stalled = 5 * time.Minute
)

// Policy says where destinations may be, besides public addresses. The zero
// Policy is the safe one.
type Policy struct {
	AllowHTTP     bool // plain http, for whoever asks Scheme
	AllowPrivate  bool // private and other special ranges, but for link-local and metadata addresses
	AllowLoopback bool

	// Own is never connected to, whatever is allowed. While it cannot tell all of its
	// addresses, nothing in a private range is.
	Own *Platform

	// SkipVerify takes any certificate: for a destination whose owner says so.
	SkipVerify bool

	// NoProgress breaks a connection off on which no byte moved for so long, in
	// either direction; 10 s when zero.
	NoProgress time.Duration
}

// One of these is in the chain of a refused dial.
var (
	errBlocked = errors.New("destinations in this address range are not allowed")
	errOwn     = errors.New("destinations must not be the platform's own addresses")
	errUnsure  = errors.New("destinations in private address ranges are refused as long as the platform cannot resolve its own addresses: the operator's log names them")
)

// Allows reports whether a destination may be at addr.
func (p Policy) Allows(addr netip.Addr) bool {
	addr = addr.Unmap()
	if addr.IsLoopback() {
		return p.AllowLoopback
	}
	if addr.IsUnspecified() || addr.IsMulticast() || addresses.LinkLocal(addr) {
		return false
	}
	return p.AllowPrivate || !addresses.Special(addr)
}

// CheckScheme refuses plain http unless it is allowed.
func (p Policy) CheckScheme(scheme string) error {
	if scheme == "https" || scheme == "http" && p.AllowHTTP {
		return nil
	}
	if scheme == "http" {
		return errors.New("plain http:// is not allowed here: use https://, or ask the operator to allow it")
	}
	return fmt.Errorf("the scheme %q cannot be used: https:// is possible", scheme)
}

// CheckURL refuses a URL whose scheme or address the policy does not allow, without
// looking up a name: where that leads is checked by every connection.
func (p Policy) CheckURL(u *url.URL) error {
	if err := p.CheckScheme(u.Scheme); err != nil {
		return err
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	addr, err := netip.ParseAddr(host)
	switch {
	case err == nil && !p.Allows(addr.WithZone("")):
		return fmt.Errorf("%w: %s", errBlocked, addr)
	case err != nil && !p.AllowLoopback && (host == "localhost" || strings.HasSuffix(host, ".localhost")): // RFC 6761, section 6.3
		return fmt.Errorf("%w: %s", errBlocked, host)
	}
	return nil
}

// Client returns an HTTP client that obeys the policy and follows no redirects:
// a redirect would send credentials to wherever an answer says. It uses no proxy
// from the environment, which would hide the address from the check.
func (p Policy) Client() *http.Client {
	transport := &http.Transport{
		DialContext:         p.Dial,
		TLSHandshakeTimeout: tlsTimeout,
		TLSClientConfig: &tls.Config{
			MinVersion:         tls.VersionTLS12,
			InsecureSkipVerify: p.SkipVerify, //nolint:gosec // G402: the owner of the destination asks for it, by a parameter named so
		},
		ForceAttemptHTTP2:      true,
		ResponseHeaderTimeout:  p.answer(),
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    4,
		// Less than NoProgress, which would break idle connections off too, and than servers
		// keep them: a POST that meets their end fails.
		IdleConnTimeout: min(p.progress(), noProgress) / 2,
	}
	return &http.Client{
		Transport:     patient{transport, stalled, p.answer()},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Dial connects as the policy allows, for destinations that do not speak HTTP. The
// connection fails once nothing moved on it for NoProgress.
func (p Policy) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: p.control}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err, address}
	}
	return &watchedConn{Conn: conn, limit: p.progress()}, nil
}

// dialError says what was dialed as the destination has it, with the name and not with an address
// that our network has for it.
type dialError struct {
	error
	named string
}

func (e *dialError) Unwrap() error { return e.error }

// Timeout is asked of it by the error that net/http puts around it, which asks none further inside.
func (e *dialError) Timeout() bool { return isTimeout(e.error) }

// DialTLS is Dial with a TLS handshake, in which the server must prove to be name.
func (p Policy) DialTLS(ctx context.Context, network, address, name string) (net.Conn, error) {
	conn, err := p.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	secure := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name})
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return secure, nil
}

// Slower returns the policy with so many times its NoProgress, for destinations that say
// nothing while they work.
func (p Policy) Slower(times int) Policy {
	p.NoProgress = time.Duration(times) * p.progress()
	return p
}

func (p Policy) progress() time.Duration {
	if p.NoProgress == 0 {
		return noProgress
	}
	return p.NoProgress
}

// answer is how long the header of an answer may take, and its body: one that drips in
// makes progress for ever.
func (p Policy) answer() time.Duration { return 3 * p.progress() }

// control sees the address that is about to be connected to, after resolution.
func (p Policy) control(ctx context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("check the address %s: %w", address, err)
	}
	own, complete := p.Own.look(ctx)
	switch addr := at.Addr().Unmap(); {
	case refuses(own, at):
		return errOwn
	case !p.Allows(addr):
		return errBlocked
	case !complete && addresses.Special(addr) && !addr.IsLoopback(): // which of ours are on loopback needs no look-up
		return errUnsure
	}
	return nil
}

// watchedConn fails a read or a write during which nothing moved for a while.
// Each byte in either direction is progress, so a large body on a slow line is
// fine, and so is a slow answer after a fast upload only within the limit.
type watchedConn struct {
	net.Conn
	limit time.Duration
}

func (c *watchedConn) Read(b []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *watchedConn) Write(b []byte) (int, error) {
	// A pending read waits for the answer to what is written now.
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// CloseWrite tells the other side that nothing more comes, as net.TCPConn does.
func (c *watchedConn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// Classify turns the error of an exchange that got no HTTP answer into an
// *logpush.UploadError. It tells what failed, and nothing of our network but what the destination names.
func Classify(err error) *logpush.UploadError {
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return &logpush.UploadError{Status: logpush.StatusNameUnresolved, Text: fmt.Sprintf("the name %s cannot be resolved", dns.Name)}
	}
	for _, refusal := range []error{errBlocked, errOwn} {
		if errors.Is(err, refusal) {
			return &logpush.UploadError{Text: refusal.Error(), Permanent: true}
		}
	}
	if errors.Is(err, errUnsure) {
		return &logpush.UploadError{Text: errUnsure.Error()}
	}
	timeout := errors.Is(err, os.ErrDeadlineExceeded) || isTimeout(err)
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		if timeout {
			return &logpush.UploadError{Status: logpush.StatusConnectTimeout, Text: "connection timeout"}
		}
		text := "connection failed: "
		if dialed, ok := errors.AsType[*dialError](err); ok {
			text += dialed.named + ": "
		}
		return &logpush.UploadError{Text: text + reason(op.Err)}
	}
	if timeout {
		return &logpush.UploadError{Status: logpush.StatusTimeout, Text: "timeout: the destination made no progress"}
	}
	if cert, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return &logpush.UploadError{Text: "the certificate is not trusted: " + reason(cert.Err)}
	}
	return &logpush.UploadError{Text: "the connection broke: " + reason(err)}
}

func isTimeout(err error) bool {
	t, ok := errors.AsType[net.Error](err)
	return ok && t.Timeout()
}

// reason is the innermost part of an error, which names neither URL nor addresses.
func reason(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
