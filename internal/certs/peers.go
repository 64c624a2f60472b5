package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"sync"
)

// peers are the connections on which clients have presented certificates.
type peers struct {
	mu   sync.Mutex
	open map[*peerConn][]*x509.Certificate // what was presented, the client's own first; nil before the handshake
}

// Listener speaks TLS. After AskClients a certificate that a client presents must be signed by
// one of those authorities, for clients; auth is VerifyClientCertIfGiven or
// RequireAndVerifyClientCert. Connections of clients whose certificates a new file of authorities
// does not vouch for are closed when it is loaded.
func (f *Files) Listener(inner net.Listener, auth tls.ClientAuthType) net.Listener {
	config := f.TLS()
	if f.clients == nil {
		return tls.NewListener(inner, config)
	}
	config.ClientAuth = auth
	// A resumed session would keep what an authority vouched for that has gone since.
	config.SessionTicketsDisabled = true
	return &peerListener{inner, config, f.clients, &f.peers}
}

type peerListener struct {
	net.Listener
	config  *tls.Config
	clients *authority
	peers   *peers
}

func (l *peerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &peerConn{Conn: conn, peers: l.peers}
	l.peers.add(c)
	return tls.Server(c, &tls.Config{
		MinVersion: l.config.MinVersion,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			config, pool := l.config.Clone(), l.clients.current.Load()
			config.ClientCAs = pool
			config.VerifyConnection = func(state tls.ConnectionState) error { return c.presented(state, l.clients, pool) }
			return config, nil
		},
	}), nil
}

func (p *peers) add(c *peerConn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.open == nil {
		p.open = map[*peerConn][]*x509.Certificate{}
	}
	p.open[c] = nil
}

// peerConn lies below TLS.
type peerConn struct {
	net.Conn
	peers *peers
}

func (c *peerConn) Close() error {
	c.peers.mu.Lock()
	delete(c.peers.open, c)
	c.peers.mu.Unlock()
	return c.Conn.Close()
}

// presented is the last step of a handshake, which has verified the certificates with the pool
// that was current when it began.
func (c *peerConn) presented(state tls.ConnectionState, a *authority, began *x509.CertPool) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	c.peers.mu.Lock()
	if _, open := c.peers.open[c]; open {
		c.peers.open[c] = state.PeerCertificates
	}
	c.peers.mu.Unlock()
	// Whoever replaces the pool from here on finds these certificates.
	if pool := a.current.Load(); pool != began {
		return vouches(pool, state.PeerCertificates)
	}
	return nil
}

// closeStrangers closes the connections of clients that a pool, which is current already, does
// not vouch for.
func (p *peers) closeStrangers(pool *x509.CertPool) (closed int) {
	p.mu.Lock()
	open := maps.Clone(p.open)
	p.mu.Unlock()
	for c, certificates := range open {
		if len(certificates) > 0 && vouches(pool, certificates) != nil {
			_ = c.Close() // nothing more is written to it
			closed++
		}
	}
	return closed
}

// vouches is nil for a client's certificate, before those that lead to it, that one of the
// authorities has signed.
func vouches(pool *x509.CertPool, certificates []*x509.Certificate) error {
	between := x509.NewCertPool()
	for _, c := range certificates[1:] {
		between.AddCert(c)
	}
	_, err := certificates[0].Verify(x509.VerifyOptions{Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return fmt.Errorf("verify the certificate of a client: %w", err)
	}
	return nil
}
