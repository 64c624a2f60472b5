package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"tidegate/dashboards"
	"tidegate/internal/api"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/rollback"
	"tidegate/pipeline/logpush"
	"tidegate/schema/control"
)

// destinations tests a destination as a job's first upload would.
type destinations struct{ sinks logpush.Sinks }

func (d destinations) Test(ctx context.Context, conf string) error {
	return d.sinks.TestUpload(ctx, conf)
}

func (d destinations) NeedsChallenge(conf string) (bool, error) { return d.sinks.NeedsChallenge(conf) }

func (d destinations) PutChallenge(ctx context.Context, conf, name, text string) (string, error) {
	return d.sinks.PutChallenge(ctx, conf, name, text)
}

func (d destinations) SendLetter(ctx context.Context, j logjob.Job, l logjob.DeadLetter) (int, error) {
	return d.sinks.SendLetter(ctx, j.DestinationConf, j.Dataset, &l)
}

// addAPI makes the first account on an empty database and adds the control
// plane's server.
func (p *process) addAPI(ctx context.Context) error {
	if err := p.bootstrap(ctx); err != nil {
		return err
	}
	if err := p.routerToken(ctx); err != nil {
		return err
	}
	deps, err := p.apiDeps()
	if err != nil {
		return err
	}
	proxies, err := prefixes(p.config.TrustedProxies)
	if err != nil {
		return err
	}
	server, err := api.New(api.Config{Logger: p.log, GatewayURL: p.gatewayURL(), DashboardURL: p.config.ConsoleURL, TrustedProxies: proxies, DurableObjects: p.config.Workers.DurableObjects,
		LogpushJobsMax: &p.config.Logpush.JobsMax, RateLimit: p.config.API.RateLimit,
		RoutersNeedCertificate: p.config.Network.RoutersNeedCertificate, CheckURL: p.egress().CheckURL}, deps)
	if err != nil {
		return err
	}
	listener := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	listener.RegisterOnShutdown(server.StopWaiting)
	p.serve(listenAPI, listener)
	p.addTails(server)
	if err := p.addDeletions(); err != nil {
		return err
	}
	if err := p.addRetention(); err != nil {
		return err
	}
	p.ready.API = p.baseURL(listenAPI)
	p.ready.AccountID = control.FirstAccountID
	p.ready.TokenFile = p.config.API.AdminTokenFile
	return nil
}

// apiDeps are the adapters that the API works with.
func (p *process) apiDeps() (api.Deps, error) {
	events, err := p.tailEvents()
	if err != nil {
		return api.Deps{}, err
	}
	instant, err := p.instantEvents()
	if err != nil {
		return api.Deps{}, err
	}
	live, err := p.liveEvents()
	if err != nil {
		return api.Deps{}, err
	}
	sinks := p.sinks()
	previews, err := p.previews(sinks)
	if err != nil {
		return api.Deps{}, err
	}
	deps := api.Deps{
		Accounts: p.store, Tokens: p.store, Sessions: p.store, AuditLog: p.store, Scripts: p.store, Policies: p.store,
		Jobs: p.store, Letters: p.store, Health: p.store, Replays: p.store, Deletions: p.store, Snapshots: p.store,
		Routers: p.store, Triggers: p.store, Tails: p.store, InstantLogs: p.store, Keys: p.store, Notifications: p.store,
		Archive: p.rates, Metrics: p.rates, Events: p.rates,
		TailEvents: events, InstantEvents: instant, LiveEvents: live,
		Destinations: destinations{sinks}, Previews: previews,
		System: systemProbe{p.store, p.rates, p.stream()},
		Ready:  p.missing, Dashboard: dashboards.Handler(),
	}
	if p.config.OpsAddr == "" { // else they are there alone, where their readers may have to show a certificate
		deps.Prometheus = p.tel.Handler()
	}
	deps.Trials = rollback.NewHistory(rollback.HistoryConfig{Rates: p.rates, Scripts: p.store, Kept: p.rates.BlocksKept(), Now: time.Now})
	if deps.Notifier, err = p.notifications(); err != nil {
		return api.Deps{}, err
	}
	checker, err := p.checker()
	if err != nil {
		return api.Deps{}, err
	}
	if checker != nil {
		deps.Runtime = checker
	}
	people, err := p.people()
	if err != nil {
		return api.Deps{}, err
	}
	if people != nil {
		deps.People = people
	}
	return deps, nil
}

// gatewayURL is where clients reach scripts: what the operator says, else this
// process's own gateway, and "" for a control plane that has none and was told of none.
func (p *process) gatewayURL() string {
	if p.config.Gateway.URL != "" || p.listeners[listenGateway] == nil {
		return p.config.Gateway.URL
	}
	_, port, err := net.SplitHostPort(p.listeners[listenGateway].Addr().String())
	if err != nil {
		return ""
	}
	return "http://" + net.JoinHostPort(p.config.Gateway.Domain, port)
}

// bootstrap makes the first account on an empty database and leaves its token in
// a file. The token cannot be read again, so the file is written before the
// account is committed: a crash in between leaves a token that opens nothing, and
// the next start writes another.
func (p *process) bootstrap(ctx context.Context) error {
	first := control.Account{ID: control.FirstAccountID, Name: "Tidegate", Subdomain: "dev"}
	_, err := p.store.Bootstrap(ctx, first, func(token string) error {
		if p.config.API.AdminTokenFile == "" {
			return errors.New("the database is empty: --admin-token-file must say where to leave the admin token")
		}
		if err := replaceFile(p.config.API.AdminTokenFile, []byte(token+"\n")); err != nil {
			return fmt.Errorf("write the admin token: %w", err)
		}
		p.log.InfoContext(ctx, "made the first account", "account_id", first.ID, "token_file", p.config.API.AdminTokenFile)
		return nil
	})
	return err
}

// routerToken leaves a token for routers in its file, unless a valid one is there.
func (p *process) routerToken(ctx context.Context) error {
	path := p.config.API.RouterTokenFile
	if path == "" {
		return nil
	}
	switch text, err := os.ReadFile(path); {
	case err == nil:
		token, err := p.store.Authenticate(ctx, strings.TrimSpace(string(text)))
		if err == nil && !token.Rights().Routes() {
			return fmt.Errorf("the token in %s, the file of --router-token-file, has not the scope %s: name another file", path, control.Routers)
		}
		if errs.KindOf(err) != errs.Unauthorized { // else it was deleted, or is another database's
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("read the routers' token: %w", err)
	}
	token, secret, err := p.store.CreateToken(ctx, control.Token{AccountID: control.FirstAccountID, Name: "routers", Scopes: []control.Scope{control.Routers}})
	if err != nil {
		return fmt.Errorf("make a token for routers: %w", err)
	}
	if err := replaceFile(path, []byte(secret+"\n")); err != nil {
		return errors.Join(fmt.Errorf("write the routers' token: %w", err), p.store.DeleteToken(ctx, token.AccountID, token.ID))
	}
	p.log.InfoContext(ctx, "made a token for routers", "token_id", token.ID, "token_file", path)
	return nil
}
