package stream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"tidegate/internal/certs"
)

// Security says how brokers are spoken to. The zero value is clear text without a
// login.
//
// Files are read anew for each connection, so that a certificate, an authority or a
// password that was replaced holds from the next connection on; open ones stay as
// they are. A file that cannot be used fails the connection, which is repeated.
type Security struct {
	TLS        bool   // without it the four below are not used
	CAFile     string // PEM of the authorities that sign brokers' certificates; empty for the system's
	CertFile   string // PEM of the certificate, with its chain, that brokers ask for; empty for none
	KeyFile    string // PEM of its key
	ServerName string // that brokers' certificates are for; empty for the host of each broker's address

	Mechanism    string // of a login, one of Mechanisms; empty for no login
	Username     string
	PasswordFile string // one line break at its end is no part of the password
}

// Mechanisms of a login. PLAIN gives the password away to whoever reads along, or
// answers as a broker, where there is no TLS; the others do not.
var Mechanisms = []string{plainMechanism, "SCRAM-SHA-256", "SCRAM-SHA-512"}

const plainMechanism = "PLAIN"

// Check reads every file once, so that a configuration which cannot work is told of
// when a process starts. The error names the file and what is wrong with it.
func (s Security) Check() error {
	if _, err := s.tlsConfig(""); err != nil {
		return err
	}
	_, err := s.mechanism()
	return err
}

// tlsConfig returns nil without TLS.
func (s Security) tlsConfig(host string) (*tls.Config, error) {
	if !s.TLS {
		return nil, nil
	}
	client := certs.Client{Peer: "Kafka", CAFile: s.CAFile, CertFile: s.CertFile, KeyFile: s.KeyFile}
	return client.Config(cmp.Or(s.ServerName, host))
}

// mechanism returns nil without a login.
func (s Security) mechanism() (sasl.Mechanism, error) {
	if s.Mechanism == "" {
		return nil, nil
	}
	text, err := os.ReadFile(s.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("read the password for Kafka: %w", err)
	}
	password := strings.TrimSuffix(strings.TrimSuffix(string(text), "\n"), "\r")
	if password == "" {
		return nil, fmt.Errorf("read the password for Kafka: %s is empty", s.PasswordFile)
	}
	var m sasl.Mechanism
	switch s.Mechanism {
	case plainMechanism:
		m = plain.Mechanism{Username: s.Username, Password: password}
	case scram.SHA256.Name():
		m, err = scram.Mechanism(scram.SHA256, s.Username, password)
	case scram.SHA512.Name():
		m, err = scram.Mechanism(scram.SHA512, s.Username, password)
	default:
		err = fmt.Errorf("%q is none of %s", s.Mechanism, strings.Join(Mechanisms, ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("prepare the login to Kafka as %q by %s, with the password in %s: %w", s.Username, s.Mechanism, s.PasswordFile, err)
	}
	return m, nil
}

// dial returns a connection to a broker on which requests can be sent: over TLS and
// logged in, if that is wanted. It takes dialTimeout at most. All connections to
// brokers are made here, so all clients share one way in, and no library's own.
func (s Security) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if !s.TLS && s.Mechanism == "" {
		return &firstAnswer{Conn: conn}, nil
	}
	secured, err := s.secure(ctx, conn, address)
	if err != nil {
		_ = conn.Close() // the first error counts
		return nil, fmt.Errorf("connect to the Kafka broker %s: %w", address, s.explain(err))
	}
	return secured, nil
}

func (s Security) secure(ctx context.Context, conn net.Conn, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	config, err := s.tlsConfig(host)
	if err != nil {
		return nil, err
	}
	mechanism, err := s.mechanism()
	if err != nil {
		return nil, err
	}
	// kafka-go's login looks at no context, and sets deadlines of its own.
	raw := conn
	defer context.AfterFunc(ctx, func() { _ = raw.Close() })()
	if config != nil {
		encrypted := tls.Client(conn, config)
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = encrypted
	}
	conn = &firstAnswer{Conn: conn}
	// The dialer is given the connection. It logs in on it and keeps nothing back: every
	// answer was waited for. The question after it has the answer to a client's
	// certificate, which in TLS 1.3 comes after the handshake.
	dialer := &kafka.Dialer{ClientID: clientID, SASLMechanism: mechanism, DialFunc: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	asked, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	if _, err := asked.ApiVersions(); err != nil {
		return nil, errors.Join(err, ctx.Err())
	}
	return conn, errors.Join(conn.SetDeadline(time.Time{}), ctx.Err())
}

// explain adds to an error what an operator can do about it.
func (s Security) explain(err error) error {
	if err == nil || errors.As(err, new(explained)) {
		return err
	}
	if hint := s.hint(err); hint != "" {
		return explained{err, hint}
	}
	return err
}

// explained is an error with a hint, which it has once.
type explained struct {
	error
	hint string
}

func (e explained) Error() string { return e.error.Error() + ": " + e.hint }
func (e explained) Unwrap() error { return e.error }

func (s Security) hint(err error) string {
	var (
		noTLS     tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	switch {
	case errors.As(err, &noTLS):
		return "it does not speak TLS on this port: name the port of a TLS listener, or leave TLS out"
	case errors.As(err, &authority):
		return "name the file of the authority that signed its certificate, if you trust it (CA file)"
	case errors.As(err, &name):
		return "reach it under a name that its certificate has, or set the server name to one that it has"
	case errors.As(err, &invalid):
		return "its certificate has to be renewed, or this machine's clock is wrong"
	case strings.Contains(err.Error(), "remote error: tls: "): // its type is not exported
		if s.CertFile == "" {
			return "it asks for a certificate of the client: name the files of one, and of its key, that it trusts"
		}
		return "it does not take the client's certificate in " + s.CertFile + ": check that the broker trusts its authority, and until when it is valid"
	case errors.Is(err, kafka.SASLAuthenticationFailed):
		return fmt.Sprintf("it refused the login as %q by %s: check the user name, the password in %s, and that the user exists for this mechanism", s.Username, s.Mechanism, s.PasswordFile)
	case errors.Is(err, kafka.UnsupportedSASLMechanism):
		return fmt.Sprintf("it does not offer the login mechanism %s: choose one that this listener has enabled", s.Mechanism)
	case errors.Is(err, kafka.IllegalSASLState):
		return "it does not ask for a login on this port: name the port of a SASL listener, or leave the login out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "it closed the connection: check which of TLS and a login this listener expects"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, net.ErrClosed): // a handshake that is given up ends by the latter
		return "it took the connection and did not answer in time: check which of TLS and a login this listener expects, and whether it is overloaded"
	}
	return ""
}
