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

// findPlatform has destinations of this process kept from the platform itself, by what is
// listened on and what the settings name. The listeners are open by now.
func (p *process) findPlatform() error {
	if !p.config.has(RoleLogpush) && !p.config.has(RoleAPI) && !p.config.has(RoleRollback) {
		return nil // it connects to no destination
	}
	own, err := p.ownAddresses()
	if err != nil {
		return err
	}
	if len(p.config.Kafka) == 0 {
		p.platform, err = egress.NewPlatform(own, nil, p.log)
		return err
	}
	reader, err := p.reader()
	if err != nil {
		return err
	}
	p.platform, err = egress.NewPlatform(own, reader.Brokers, p.log)
	return err
}

// ownAddresses are the platform's own, as far as this process knows them: its listeners, and
// what it was given, by name. They trust whoever reaches them, or may, so no job may send
// anything there. Of other machines it knows what --logpush-refuse names.
func (p *process) ownAddresses() ([]string, error) {
	own := slices.Concat(p.config.Kafka, p.config.Logpush.Refuse)
	for _, listener := range p.listeners {
		own = append(own, listener.Addr().String())
	}
	for _, address := range append(telemetry.Endpoints(), p.config.ClickHouse, p.config.Gateway.APIURL) {
		u, err := url.Parse(address)
		if err != nil {
			return nil, fmt.Errorf("read where %s is, to keep destinations from it: %w", withoutPassword(address), err)
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
