package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tidegate/dashboards"
	"tidegate/internal/api"
	"tidegate/pipeline/logpush"
	"tidegate/schema/control"
)

// destinations tests a destination as a job's first upload would.
type destinations struct{ sinks logpush.Sinks }

func (d destinations) Test(ctx context.Context, conf string) error {
	return d.sinks.TestUpload(ctx, conf)
}

// addAPI makes the first account on an empty database and adds the control
// plane's server.
func (p *process) addAPI(ctx context.Context) error {
	if err := p.bootstrap(ctx); err != nil {
		return err
	}
	server, err := api.New(api.Config{Logger: p.log}, api.Deps{
		Accounts: p.store, Tokens: p.store, Scripts: p.store, Policies: p.store, Jobs: p.store, Snapshots: p.store, Routers: p.store,
		Destinations: destinations{p.sinks(ctx)}, Metrics: p.rates,
		Ready: p.checkReady, Prometheus: p.tel.Handler(), Dashboard: dashboards.Handler(),
	})
	if err != nil {
		return err
	}
	listener := &http.Server{Handler: server.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	listener.RegisterOnShutdown(server.StopWaiting)
	p.serve(listenAPI, listener)
	p.ready.API = p.baseURL(listenAPI)
	p.ready.AccountID = control.FirstAccountID
	p.ready.TokenFile = p.config.AdminTokenFile
	return nil
}

// bootstrap makes the first account on an empty database and leaves its token in
// a file. The token cannot be read again, so the file is written before the
// account is committed: a crash in between leaves a token that opens nothing, and
// the next start writes another.
func (p *process) bootstrap(ctx context.Context) error {
	first := control.Account{ID: control.FirstAccountID, Name: "Tidegate", Subdomain: "dev"}
	_, err := p.store.Bootstrap(ctx, first, func(token string) error {
		if p.config.AdminTokenFile == "" {
			return errors.New("the database is empty: --admin-token-file must say where to leave the admin token")
		}
		if err := replaceFile(p.config.AdminTokenFile, []byte(token+"\n")); err != nil {
			return fmt.Errorf("write the admin token: %w", err)
		}
		p.log.InfoContext(ctx, "made the first account", "account_id", first.ID, "token_file", p.config.AdminTokenFile)
		return nil
	})
	return err
}
