package certs

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
)

// peers are the connections on which clients have presented certificates.
type peers struct {
	mu   sync.Mutex
	open map[*peerConn][]*x509.Certificate // what was presented, the client's own first; nil before the handshake
}

// Listener speaks TLS as Files.TLS says. Connections of clients whose certificates a new file of
// authorities does not vouch for are closed when it is loaded.
func (f *Files) Listener(inner net.Listener, auth tls.ClientAuthType) net.Listener {
	config := f.TLS(auth)
	if f.clients != nil {
		inner = &peerListener{inner, &f.peers}
	}
	return tls.NewListener(inner, config)
}

type peerListener struct {
	net.Listener
	peers *peers
}

func (l *peerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &peerConn{Conn: conn, peers: l.peers}
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if c.peers.open == nil {
		c.peers.open = map[*peerConn][]*x509.Certificate{}
	}
	c.peers.open[c] = nil
	return c, nil
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

// presented is the last step of a handshake. The authorities may have been replaced since it
// began.
func (c *peerConn) presented(state tls.ConnectionState, a *authority) error {
	if len(state.PeerCertificates) == 0 {
		return nil
	}
	c.peers.mu.Lock()
	defer c.peers.mu.Unlock()
	if _, open := c.peers.open[c]; open {
		c.peers.open[c] = state.PeerCertificates
	}
	return vouches(a.current.Load(), state.PeerCertificates)
}

// closeStrangers closes the connections of clients that a pool does not vouch for.
func (p *peers) closeStrangers(pool *x509.CertPool) (closed int) {
	var strangers []*peerConn
	p.mu.Lock()
	for c, certificates := range p.open {
		if len(certificates) > 0 && vouches(pool, certificates) != nil {
			strangers = append(strangers, c)
		}
	}
	p.mu.Unlock()
	for _, c := range strangers {
		_ = c.Close() // nothing more is written to it
	}
	return len(strangers)
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
