package certs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Client says whose servers are trusted, and who this process is to them. The zero value
// trusts the system's authorities and has no certificate. The files are read for each
// connection: what is replaced holds from the next one on, and a file that cannot be used
// fails it.
type Client struct {
	Peer     string      // who is connected to, for errors
	CAFile   string      // PEM of the authorities that sign its certificate; empty for the system's
	CertFile string      // PEM of our certificate with its chain; empty for none
	KeyFile  string      // PEM of its key
	Dialer   *net.Dialer // nil: Go's defaults
}

// handshakeTimeout is net/http's own for a server's clients.
const handshakeTimeout = 10 * time.Second

// Check reads every file once, so that a process which cannot connect does not start.
func (c Client) Check() error {
	_, err := c.Config("")
	return err
}

// Config is for one connection to host.
func (c Client) Config(host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read the authorities that %s is trusted by: %w", c.Peer, err)
		}
		if config.RootCAs, err = parseAuthorities(text); err != nil {
			return nil, fmt.Errorf("read the authorities that %s is trusted by: %s %w", c.Peer, c.CAFile, err)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("load the certificate %s with the key %s for %s: %s", c.CertFile, c.KeyFile, c.Peer, strings.TrimPrefix(err.Error(), "tls: "))
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// DialTLS returns a connection on which the server has proved to be the host of the
// address. It fits http.Transport.DialTLSContext; the protocol is HTTP/1.1.
func (c Client) DialTLS(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config, err := c.Config(host)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	conn, err := c.dialer().DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the first error counts
		return nil, fmt.Errorf("speak TLS to %s at %s: %w", c.Peer, address, c.Explain(err))
	}
	return &explaining{secure, c}, nil
}

func (c Client) dialer() *net.Dialer {
	if c.Dialer == nil {
		return new(net.Dialer)
	}
	return c.Dialer
}

// Transport is http.DefaultTransport, with connections over TLS as the Client says. Where
// there are files it uses no proxy of the environment, whose tunnels would be without them.
func (c Client) Transport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	if c.Dialer != nil {
		t.DialContext = c.Dialer.DialContext
	}
	t.DialTLSContext = c.DialTLS
	if c.CAFile != "" || c.CertFile != "" {
		t.Proxy = nil
	}
	return t
}

// explaining is a connection whose first read may hold the answer to our certificate,
// which in TLS 1.3 comes after the handshake.
type explaining struct {
	*tls.Conn
	client Client
}

func (c *explaining) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && isAlert(err) {
		err = c.client.Explain(err)
	}
	return n, err
}

// isAlert reports whether the other side ended a handshake; the type is not exported
// for errors of a connection in use.
func isAlert(err error) bool { return strings.Contains(err.Error(), "remote error: tls: ") }

// Explain adds to the error of a handshake what an operator can do about it.
func (c Client) Explain(err error) error {
	if hint := c.hint(err); hint != "" {
		return fmt.Errorf("%w: %s", err, hint)
	}
	return err
}

func (c Client) hint(err error) string {
	var (
		noTLS     tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &noTLS):
		return "it does not speak TLS on this port: name the port that does, or its address with http://"
	case errors.As(err, &authority):
		return "name the file of the authority that signed its certificate, if you trust it (CA file)"
	case errors.As(err, &name):
		return "reach it under a name that its certificate has"
	case errors.As(err, &invalid):
		return "its certificate has to be renewed, or this machine's clock is wrong"
	case isAlert(err) && c.CertFile == "":
		return "it asks for a certificate of the client: name the files of one, and of its key, that it trusts"
	case isAlert(err):
		return "it does not take the client's certificate in " + c.CertFile + ": check that it trusts its authority, and until when it is valid"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection: check whether it speaks TLS on this port"
	}
	return ""
}
