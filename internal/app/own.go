package app

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"tidegate/internal/addresses"
	"tidegate/internal/store"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/logpush/sink/egress"
)

// findPlatform has the destinations and origins that this process connects to kept from the
// platform itself, by what is listened on and what the settings name. The listeners are open by now.
func (p *process) findPlatform(ctx context.Context) error {
	destinations := p.config.has(RoleLogpush) || p.config.has(RoleAPI) || p.config.has(RoleRollback)
	origins := p.config.has(RoleGateway)
	var brokers func(context.Context) ([]string, error)
	if len(p.config.Kafka) > 0 && (destinations || origins) {
		reader, err := p.reader()
		if err != nil {
			return err
		}
		brokers = reader.Brokers
	}
	if destinations {
		own, err := p.ownAddresses(p.config.Gateway.APIURL, p.config.Logpush.Refuse)
		if err != nil {
			return err
		}
		if p.platform, err = egress.NewPlatform(own, brokers, p.log); err != nil {
			return err
		}
		p.platform.Meanwhile = "destinations in private ranges are refused"
	}
	if !origins {
		return nil
	}
	// An API that is spoken to over TLS may be reached by others, too: it knows whoever asks, and the balancer before
	// it may be that of customers' origins, or of the gateway.
	apiURL := p.config.Gateway.APIURL
	if u, err := url.Parse(apiURL); err == nil && u.Scheme == "https" {
		apiURL = ""
	}
	// The gateway may be an origin: another script, whose loops it ends itself.
	own, err := p.ownAddresses(apiURL, p.config.Network.OriginsRefuse, listenGateway, listenTLS)
	if err != nil {
		return err
	}
	if p.notForOrigins, err = egress.NewPlatform(own, brokers, p.log); err != nil {
		return err
	}
	p.notForOrigins.Meanwhile = "origins are refused where what is missing was found before; what never was found is not refused"
	p.notForOrigins.Look(ctx)
	p.services = append(p.services, service{"own addresses", stageEdge, p.notForOrigins.Run})
	return nil
}

// ownAddresses are the platform's own, as far as this process knows them: its listeners, but for
// those that are open to such connections, and what it was given, by name. They trust whoever
// reaches them, or may. Of other machines it knows what refuse names.
func (p *process) ownAddresses(apiURL string, refuse []string, open ...string) ([]string, error) {
	own := slices.Concat(p.config.Kafka, refuse)
	for name, listener := range p.listeners {
		if !slices.Contains(open, name) {
			own = append(own, listener.Addr().String())
		}
	}
	for _, address := range append(telemetry.Endpoints(), p.config.ClickHouse, apiURL) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("read where %s is, to keep destinations and origins from it: %w", withoutPassword(address), err)
		}
		for host := range strings.SplitSeq(u.Host, ",") { // of ClickHouse there may be several
			if host != "" {
				own = append(own, withPort(&url.URL{Scheme: u.Scheme, Host: host}))
			}
		}
	}
	if p.config.Database == "" {
		return own, nil
	}
	servers, err := store.Servers(p.config.Database)
	for _, s := range servers {
		own = append(own, s.Address)
	}
	return own, err
}

// withPort is the host of a URL with its port, which may be that of its scheme.
func withPort(u *url.URL) string {
	port := "80"
	if u.Scheme == "https" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), port))
}

// inClearText are those of the database's servers that are spoken to in clear text, or may be.
// Loopback leads to nobody else.
func (c *Config) inClearText() (list []string, err error) {
	servers, err := store.Servers(c.Database)
	for _, s := range servers {
		if s.ClearText && !addresses.LoopbackHost(s.Address) {
			list = append(list, s.Address)
		}
	}
	return list, err
}

// warnOfClearText tells of a URL that is spoken to in clear text and leads to another machine: who is in between
// reads what goes there. There may be several hosts in it.
func (p *process) warnOfClearText(ctx context.Context, address, message, advice string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		return
	}
	for host := range strings.SplitSeq(u.Host, ",") {
		if !addresses.LoopbackHost(host) {
			p.log.WarnContext(ctx, message, "server", host, "advice", advice)
		}
	}
}

const clearTextAdvice = "Add sslmode=verify-full to --database, unless the network between is yours alone."
