package app

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	"tidegate/internal/api"
	"tidegate/schema/control"
)

// invite tells on the terminal where the dashboard is, with a link that signs in as the
// admin token does. Where nobody is at the terminal, or the token's file was put away, there
// is no link.
func (p *process) invite(ctx context.Context) {
	address := p.dashboardURL()
	text := fmt.Sprintf("\n  Dashboard: %s\n  Sign in with an API token, or with a link that \"tidegate dashboard\" makes.\n\n", address)
	if p.config.Invite {
		code, err := p.adminLink(ctx)
		if err == nil {
			text = fmt.Sprintf("\n  Dashboard: %s\n  This link signs in once, within %d minutes; \"tidegate dashboard\" makes another.\n\n",
				api.SessionLink(address, code), int(control.SessionLinkLifetime.Minutes()))
		} else {
			p.log.InfoContext(ctx, "no link to sign in to the dashboard was made", "reason", err)
		}
	}
	if _, err := fmt.Fprint(p.config.Terminal, text); err != nil {
		p.log.WarnContext(ctx, "the way to the dashboard could not be printed", "error", err)
	}
}

// adminLink makes the code of a link for the token in the admin token's file.
func (p *process) adminLink(ctx context.Context) (code string, err error) {
	secret, err := os.ReadFile(p.config.API.AdminTokenFile)
	if err != nil {
		return "", err
	}
	token, err := p.store.Authenticate(ctx, strings.TrimSpace(string(secret)))
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.config.API.AdminTokenFile, err)
	}
	code, _, err = p.store.CreateSessionLink(ctx, token.ID)
	return code, err
}

// dashboardURL is what the operator says, else the API's own address, which for a
// listener on every address is that of this machine.
func (p *process) dashboardURL() string {
	if p.config.ConsoleURL != "" {
		return p.config.ConsoleURL
	}
	u, err := url.Parse(p.ready.API)
	if err != nil {
		return p.ready.API
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = net.JoinHostPort("localhost", u.Port())
	}
	return u.String()
}
