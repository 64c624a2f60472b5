package app

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"

	"tidegate/internal/certs"
	"tidegate/internal/gateway"
	"tidegate/internal/gateway/listen"
)

// serveGateway adds the public's servers: in clear text and, where there are
// certificates, over TLS, with one handler. With ACME, hosts says for whom certificates
// may be asked for.
func (p *process) serveGateway(handler http.Handler, hosts servedHosts, trusted []netip.Prefix) error {
	acme, err := p.acme(hosts)
	if err != nil {
		return err
	}
	bounds, err := listen.NewBounds(listen.BoundsConfig{
		ConnectionsMax: p.config.Gateway.MaxConnections, ConnectionsPerClientMax: p.config.Gateway.MaxConnectionsPerClient, Exempt: trusted,
		SendTimeout: p.config.Gateway.SendTimeout,
	})
	if err != nil {
		return err
	}
	for _, name := range []string{listenGateway, listenTLS} {
		inner := p.listeners[name]
		if inner == nil {
			continue
		}
		public, err := p.publicListener(name, bounds.Listener(inner, name != listenTLS), acme, trusted)
		if err != nil {
			return err
		}
		p.listeners[name] = public
		server := gateway.NewServer(answersChallenges(name, acme, handler))
		if server.HTTP.ErrorLog, err = listen.ErrorLog(p.log); err != nil {
			return err
		}
		if err := listen.CountHTTP2Errors(server.HTTP); err != nil {
			return err
		}
		if err := listen.CountPaths(server, name); err != nil {
			return err
		}
		p.serveOn(name, server)
	}
	p.ready.Gateway = p.baseURL(listenGateway)
	if tlsListener := p.listeners[listenTLS]; tlsListener != nil {
		p.ready.GatewayTLS = "https://" + tlsListener.Addr().String()
	}
	return nil
}

// publicListener puts what the configuration asks for around a listener: the PROXY
// header comes before TLS.
func (p *process) publicListener(name string, l net.Listener, acme *listen.ACME, trusted []netip.Prefix) (net.Listener, error) {
	if p.config.Gateway.ProxyProtocol {
		var err error
		if l, err = listen.ProxyProtocol(l, trusted); err != nil {
			return nil, err
		}
	}
	if name != listenTLS {
		return l, nil
	}
	var pairs []certs.Pair
	for i, cert := range p.config.Gateway.TLSCert {
		pairs = append(pairs, certs.Pair{Cert: cert, Key: p.config.Gateway.TLSKey[i]})
	}
	certificates, err := listen.LoadCertificates(pairs, acme, p.log)
	if err != nil {
		return nil, err
	}
	p.services = append(p.services, service{"certificates", stageRouting, certificates.Run})
	return tls.NewListener(l, certificates.TLS()), nil
}
