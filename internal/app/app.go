// Package app wires the parts into processes: it reads the configuration, builds
// what the roles need, and starts and stops it in order. It is the only place
// that sees every service and every adapter, and the only one that reads the
// environment.
package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
	_ "time/tzdata" // policies name time zones, and a machine may have no list of them

	"tidegate/internal/clickhouse"
	"tidegate/internal/notify"
	"tidegate/internal/store"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/logpush/sink/egress"
)

// process is one process being put together. Only Run and the roles touch it,
// before any service has started.
type process struct {
	config Config
	log    *slog.Logger
	tel    *telemetry.Telemetry

	store     *store.Store   // nil without a database
	rates     *clickhouse.DB // nil without ClickHouse
	listeners map[string]net.Listener

	// Where the platform itself is: for destinations, and for origins, which may be the gateway.
	// nil where no role connects to such.
	platform, notForOrigins *egress.Platform

	notifier *notify.Service // made at its first use; nil until then

	replacement *replacement // nil for what is no router of its own

	services []service
	checks   []check
	notes    []func() string // what an operator should know of a process that is ready; "" for nothing
	closers  []func() error
	ready    Ready
}

// check is one condition of readiness: something without which this process
// cannot do its work. A gateway serves without Kafka, and the API without
// ClickHouse, so neither waits for them.
type check struct {
	name string
	run  func(context.Context) error
}

// Ready is the content of the ready file.
type Ready struct {
	API        string `json:"api,omitempty"`         // base URL
	Gateway    string `json:"gateway,omitempty"`     // base URL
	GatewayTLS string `json:"gateway_tls,omitempty"` // base URL
	Kafka      string `json:"kafka,omitempty"`       // host:port of the first broker
	ClickHouse string `json:"clickhouse,omitempty"`  // base URL
	Database   string `json:"database,omitempty"`    // path of a SQLite file, or an address without its password
	AccountID  string `json:"account_id,omitempty"`
	TokenFile  string `json:"token_file,omitempty"`
}

// Run plays the configured roles until ctx ends, and stops them in order.
func Run(ctx context.Context, config Config) (err error) {
	ctx, end := context.WithCancel(ctx)
	defer end()
	log, err := NewLogger(config)
	if err != nil {
		return err
	}
	p := &process{config: config, log: log, ready: Ready{Kafka: first(config.Kafka), ClickHouse: withoutPassword(config.ClickHouse), Database: shown(config.Database)}}
	if err := p.checkKafkaSecurity(); err != nil {
		return err
	}
	if p.tel, err = telemetry.Start(ctx, "tidegate", ThisBuild().Version); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	if err := p.open(ctx); err != nil {
		return err
	}
	if err := p.openListeners(ctx, end); err != nil {
		return err
	}
	if err := p.secureListeners(); err != nil {
		return err
	}
	if err := p.findPlatform(ctx); err != nil {
		return err
	}
	for _, role := range AllRoles {
		if !config.has(role) {
			continue
		}
		if err := p.roles()[role](ctx); err != nil {
			return fmt.Errorf("start the role %s: %w", role, err)
		}
	}
	if config.OpsAddr != "" {
		p.addOps()
	}
	p.services = append(p.services, service{"readiness", stageEdge, p.tellReadiness})
	if config.ReadyFile != "" {
		p.services = append(p.services, service{"ready file", stageEdge, p.announce})
	}
	if p.replacement != nil {
		p.services = append(p.services, service{"take-over", stageEdge, p.keepReplaceable})
	}
	if os.Getenv("NOTIFY_SOCKET") != "" {
		p.services = append(p.services, service{"service manager", stageEdge, p.keepNotified})
	}
	p.log.Info("starting", "version", ThisBuild().Version, "roles", config.Roles)
	return runServices(ctx, p.log, p.stopGrace(), p.services)
}

// openListeners opens the listeners, or takes those that the service manager or the
// router before has opened.
func (p *process) openListeners(ctx context.Context, end context.CancelFunc) error {
	passed, err := p.takeOver(ctx, end)
	if err != nil {
		return err
	}
	if err := p.fitting(passed); err != nil {
		return err
	}
	fromManager, err := activated()
	if err != nil {
		return err
	}
	for name, l := range fromManager {
		if before := passed[name]; before != nil {
			if err := before.Close(); err != nil { // very likely the same socket
				return err
			}
		}
		if passed == nil {
			passed = map[string]net.Listener{}
		}
		passed[name] = l
	}
	if err := p.listen(ctx, passed); err != nil {
		return err
	}
	p.gated()
	return nil
}

// NewLogger writes to standard error, as the configuration says.
func NewLogger(config Config) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(config.LogLevel)); err != nil {
		return nil, fmt.Errorf("--log-level is %q: it must be debug, info, warn or error", config.LogLevel)
	}
	return telemetry.NewLogger(os.Stderr, level, config.LogFormat == "json"), nil
}

// roles says what each role adds to the process.
func (p *process) roles() map[Role]func(context.Context) error {
	return map[Role]func(context.Context) error{
		RoleAPI:      p.addAPI,
		RoleRollback: p.addRollback,
		RoleIngest:   p.addIngest,
		RoleLogpush:  p.addLogpush,
		RoleGateway:  p.addGateway,
	}
}

// open opens the stores that the roles share. The database must be there, because
// its migrations run here; ClickHouse may be away, and then each role retries.
func (p *process) open(ctx context.Context) (err error) {
	if p.config.Database != "" {
		servers, err := p.config.inClearText()
		if err != nil {
			return err
		}
		if len(servers) > 0 {
			p.log.WarnContext(ctx, "PostgreSQL may be spoken to in clear text: --database says nothing of TLS, takes what the server offers, or has sslmode=disable", "servers", servers, "advice", clearTextAdvice)
		}
		keys, err := p.config.secretsKeys(ctx, p.log)
		if err != nil {
			return err
		}
		if p.store, err = store.Open(ctx, p.config.Database, store.Options{Logger: p.log, Keys: keys, GatewayDomain: p.config.Gateway.servedBelow()}); err != nil {
			return fmt.Errorf("open the database: %w", err)
		}
		p.closers = append(p.closers, p.store.Close)
		p.checks = append(p.checks, check{"database", p.store.Ready})
	}
	if p.config.ClickHouse != "" {
		p.warnOfClearText(ctx, p.config.ClickHouse, "ClickHouse is spoken to in clear text, its password and all events with it", "Name it by https:// in --clickhouse, unless the network between is yours alone.")
		config := clickhouse.DefaultConfig(p.config.ClickHouse)
		config.Cluster = p.config.Cluster
		config.Retention = p.config.Retention
		config.Access = p.config.Network.ClickHouse
		if err := config.Access.Check(); err != nil {
			return err
		}
		p.rates, err = clickhouse.Open(config)
		if err != nil {
			return fmt.Errorf("open ClickHouse: %w", err)
		}
		p.closers = append(p.closers, p.rates.Close)
	}
	return nil
}

// close releases what open and the roles took, newest first.
func (p *process) close(ctx context.Context) error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := p.tel.Stop(ctx); err != nil {
		p.log.Warn("telemetry was not flushed", "error", err)
	}
	return errors.Join(errs...)
}

// checkReady returns the first condition that does not hold.
func (p *process) checkReady(ctx context.Context) error {
	missing, err := p.missing(ctx)
	if err != nil {
		err = fmt.Errorf("%s: %w", missing, err)
	}
	return err
}

// missing is checkReady for those who may know the name of the condition, and not its error,
// which has addresses and users in it.
func (p *process) missing(ctx context.Context) (name string, err error) {
	for _, c := range p.checks {
		if err := c.run(ctx); err != nil {
			return c.name, err
		}
	}
	return "", nil
}

// awaitReady returns nil once every check holds, or the error of the one that did not
// when ctx ended.
func (p *process) awaitReady(ctx context.Context) error {
	for {
		err := p.checkReady(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// announce writes the ready file once every check holds.
func (p *process) announce(ctx context.Context) error {
	if err := p.awaitReady(ctx); err != nil {
		p.log.Warn("stopped before everything was ready", "missing", err)
		return nil
	}
	if err := writeJSON(p.config.ReadyFile, p.ready); err != nil {
		return err
	}
	p.log.Info("ready", "api", p.ready.API, "gateway", p.ready.Gateway, "gateway_tls", p.ready.GatewayTLS, "kafka", p.ready.Kafka, "clickhouse", p.ready.ClickHouse)
	if p.config.Terminal != nil && p.ready.API != "" {
		p.invite(ctx)
	}
	<-ctx.Done()
	return os.Remove(p.config.ReadyFile)
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// withoutPassword is a URL that may be shown.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "" // Validate has refused it already
	}
	u.User = nil
	return u.String()
}

// writeJSON replaces a file in one step.
func writeJSON(path string, value any) error {
	b, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(path, append(b, '\n'))
}

// replaceFile writes a file that only its owner may read, in one step and for
// good: after a crash there is the old content or the new.
func replaceFile(path string, content []byte) error {
	return replaceFileBy(path, nil, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// replaceFileBy is replaceFile for content that is not in memory, and for a file whose owner,
// group and mode are to be those of another one; nil for none.
func replaceFileBy(path string, like fs.FileInfo, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(giveAccess(f, like), write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(dir)
}

// giveAccess opens a file to those who may open another one, and to nobody else.
func giveAccess(f *os.File, like fs.FileInfo) error {
	if like == nil {
		return nil
	}
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("the owner of %s is not known", like.Name())
	}
	if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("%s belongs to the user %d and the group %d, and what replaces it must too; do it as root, or as that user: %w", like.Name(), owner.Uid, owner.Gid, err)
	}
	return f.Chmod(like.Mode().Perm())
}

// syncFolder makes what was done to the names in a folder survive a loss of power.
func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
