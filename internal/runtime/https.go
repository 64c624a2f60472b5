package runtime

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"tidegate/schema"
)

// https speaks HTTP/2 or HTTP/1.1 over TLS to one origin, through http.Transport:
// the cost of TLS hides that of its goroutines.
type https struct {
	transport *http.Transport
	upgrades  *http.Transport // HTTP/1.1 only, because HTTP/2 has no Upgrade
	host      string          // of the origin, with its port
	prefix    string
	own       bool // send host as Host
}

func newHTTPS(cfg Config, u *url.URL) *https {
	return &https{
		transport: newTLSTransport(cfg, u, "h2", "http/1.1"),
		upgrades:  newTLSTransport(cfg, u, "http/1.1"),
		host:      u.Host, prefix: pathPrefix(u), own: cfg.OriginHost,
	}
}

func newTLSTransport(cfg Config, u *url.URL, protocols ...string) *http.Transport {
	tlsConfig := &tls.Config{MinVersion: tls.VersionTLS12}
	if cfg.TLS != nil {
		tlsConfig = cfg.TLS.Clone()
	}
	if tlsConfig.ServerName == "" {
		tlsConfig.ServerName = u.Hostname()
	}
	tlsConfig.NextProtos = protocols
	addr := hostPort(u)
	dialer := net.Dialer{Timeout: cfg.DialTimeout}
	return &http.Transport{
		Proxy:                  nil, // the environment is not the operator's word on where traffic goes
		DisableCompression:     true,
		ForceAttemptHTTP2:      slices.Contains(protocols, "h2"),
		MaxIdleConns:           cfg.IdleConnsMax,
		MaxIdleConnsPerHost:    cfg.IdleConnsMax,
		IdleConnTimeout:        cfg.IdleTimeout,
		ResponseHeaderTimeout:  cfg.ResponseHeaderTimeout,
		ExpectContinueTimeout:  cfg.ContinueTimeout,
		MaxResponseHeaderBytes: headBytesMax,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, dialFault(ctx, addr, err)
			}
			ctx, cancel := context.WithTimeout(ctx, cfg.DialTimeout)
			defer cancel()
			tc := tls.Client(c, tlsConfig)
			if err := tc.HandshakeContext(ctx); err != nil {
				_ = c.Close() // the handshake's error is the one that matters
				return nil, &Error{schema.ErrorKindTLS, "TLS handshake with " + addr, err}
			}
			return tc, nil
		},
	}
}

func (t *https) close() {
	t.transport.CloseIdleConnections()
	t.upgrades.CloseIdleConnections()
}

// RoundTrip sends the request. It never changes req.
func (t *https) RoundTrip(req *http.Request) (*http.Response, error) {
	out := *req
	out.URL = &url.URL{Scheme: "https", Host: t.host}
	path, query, hasQuery := strings.Cut(t.prefix+req.RequestURI, "?")
	// Opaque reaches the wire as it is, where Path would be escaped anew. Only a
	// leading // would be taken for a host.
	if strings.HasPrefix(path, "//") {
		if err := setPath(out.URL, path); err != nil {
			closeBody(req)
			return nil, &Error{schema.ErrorKindProtocol, "send the request", err}
		}
	} else {
		out.URL.Opaque = path
	}
	out.URL.RawQuery, out.URL.ForceQuery = query, hasQuery && query == ""
	out.RequestURI = ""
	if t.own {
		out.Host = t.host
	}
	transport := t.transport
	if req.Header.Get("Upgrade") != "" {
		transport = t.upgrades
	}
	resp, err := transport.RoundTrip(&out)
	if err != nil {
		return nil, fault(req.Context(), "send the request to "+t.host, err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols { // whose body is also a writer
		resp.Body = &faultReader{resp.Body, req.Context()}
	}
	return resp, nil
}

func setPath(u *url.URL, escaped string) error {
	path, err := url.PathUnescape(escaped)
	u.Path, u.RawPath = path, escaped
	return err
}

// faultReader gives the errors of a response body their kind.
type faultReader struct {
	io.ReadCloser
	ctx context.Context
}

func (b *faultReader) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = fault(b.ctx, "read the response", err)
	}
	return n, err
}
