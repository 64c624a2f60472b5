package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/stream"
	"tidegate/schema"
	"tidegate/schema/control"
)

// controlPlane is what a gateway wants of the control plane, here or elsewhere.
type controlPlane struct {
	snapshot func(ctx context.Context, after int64) (*deploy.Snapshot, error)
	report   func(ctx context.Context, reports []deploy.VersionReport) error
	// saveRouter keeps what a router tells of itself.
	saveRouter func(ctx context.Context, r control.RouterState) error
	gateway.Claims
	runtime.Bundles
}

func (c controlPlane) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return c.snapshot(ctx, after)
}

func (c controlPlane) Report(ctx context.Context, reports []deploy.VersionReport) error {
	return c.report(ctx, reports)
}

// tailStopTimeout bounds what a stop does for those who watch.
const tailStopTimeout = time.Second

// eventEmitter puts trace events on schema.Topic.
type eventEmitter struct{ *stream.Producer }

// logpushDisabled is shared by all records that have it.
var logpushDisabled = []stream.Header{{Name: schema.HeaderLogpush, Value: schema.LogpushDisabled}}

func (e eventEmitter) Emit(account string, value []byte, logpush bool) {
	if logpush {
		e.Producer.Emit(account, value)
		return
	}
	e.EmitHeaders(account, logpushDisabled, value)
}

// tailEmitter puts copies of events on schema.TailTopic.
type tailEmitter struct{ *stream.Producer }

func (e tailEmitter) EmitTail(account, script, clientIP string, value []byte) {
	headers := []stream.Header{{Name: schema.HeaderScript, Value: script}, {Name: schema.HeaderClientIP, Value: clientIP}}
	e.EmitHeaders(account, headers, value)
}

// addGateway adds the producers of trace events and of their copies, the loop that keeps the routing
// fresh, and the listener, in this order: the listener stops first, and the
// producers send what the last requests left.
func (p *process) addGateway(ctx context.Context) error {
	if err := os.MkdirAll(p.config.DataDir, 0o750); err != nil {
		return err
	}
	plane, err := p.controlPlane(ctx)
	if err != nil {
		return err
	}
	spool, others := filepath.Join(p.config.DataDir, "spool"), []string(nil)
	if s := p.slot(); s != nil {
		spool, others = s.spool()
	}
	producer, err := stream.NewProducer(stream.ProducerConfig{
		Config: p.stream(), Schema: schema.EventSchemaVersion,
		SpoolDir: spool, SpoolOthers: others, SpoolBytesMax: p.config.Events.SpoolMaxBytes, SpoolFsync: p.config.Events.SpoolFsync,
		QueueEventsMax: p.config.Events.QueueMaxEvents, QueueBytesMax: p.config.Events.QueueMaxBytes, Logger: p.log,
	})
	if err != nil {
		return err
	}
	tail, err := stream.NewProducer(stream.ProducerConfig{
		Config: p.tailStream(), Schema: schema.EventSchemaVersion, NoSpool: true, StopTimeout: tailStopTimeout, Logger: p.log,
	})
	if err != nil {
		return err
	}
	told := newEar()
	backends, err := p.backends(ctx, plane, told)
	if err != nil {
		return err
	}

	config := gateway.DefaultConfig()
	config.Domain = p.config.Gateway.Domain
	config.ShowVersion = p.config.Gateway.ShowVersion
	config.BodyTimeout, config.SendTimeout = p.config.Gateway.BodyTimeout, p.config.Gateway.SendTimeout
	if config.TrustedProxies, err = prefixes(p.config.TrustedProxies); err != nil {
		return err
	}
	if config.RouterID, err = p.routerID(); err != nil {
		return err
	}
	config.SnapshotFile = filepath.Join(p.config.DataDir, "snapshot.json")
	gw, err := gateway.New(config, gateway.Deps{
		Snapshots: plane, Reports: plane, Claims: plane, Backends: backends, Workers: backends, Emitter: eventEmitter{producer}, Tail: tailEmitter{tail},
		Tracer: telemetry.Tracer("tidegate/internal/gateway"), Logger: p.log,
	})
	told.attach(gw)
	if err != nil {
		return err
	}
	p.services = append(p.services, p.topicService(), p.tailTopicService(),
		service{"producer", stageProducer, producer.Run}, service{"tail producer", stageProducer, tail.Run}, service{"routing", stageRouting, gw.Run})
	p.serveBindings(gw)
	if err := p.serveGateway(gw, gw, config.TrustedProxies); err != nil {
		return err
	}
	p.addRouterReports(config.RouterID, gw, producer, plane)
	p.notes = append(p.notes, gw.Note)
	if p.replacement != nil {
		p.replacement.gateway = gw
	}
	p.checks = append(p.checks, check{"gateway", func(context.Context) error { return gw.Ready() }})
	return nil
}

// addRouterReports has the gateway tell of itself. It is the first to stop, so that the
// control plane knows before anything else that the router goes away in order.
func (p *process) addRouterReports(id string, gw *gateway.Gateway, producer *stream.Producer, plane controlPlane) {
	complain := rate.Sometimes{First: 1, Interval: time.Minute}
	reporter := &routerReporter{
		id: id, started: time.Now(), gateway: gw, producer: producer, spoolMax: p.config.Events.SpoolMaxBytes, save: plane.saveRouter,
		failed: func(err error) {
			complain.Do(func() { p.log.Warn("the state of this router was not reported, trying again", "error", err) })
		},
	}
	if p.replacement != nil {
		reporter.serving = p.replacement.serving
	}
	p.services = append(p.services, service{"router report", stageEdge, reporter.Run})
}

// routerID tells this gateway from others, and is the same after a restart.
func (p *process) routerID() (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name this gateway: %w", err)
	}
	_, port, err := net.SplitHostPort(p.listeners[listenGateway].Addr().String())
	if err != nil {
		return "", fmt.Errorf("name this gateway: %w", err)
	}
	return net.JoinHostPort(host, port), nil
}

// controlPlane is the store where this process has one, else the API elsewhere.
func (p *process) controlPlane(ctx context.Context) (controlPlane, error) {
	if p.store != nil {
		return controlPlane{p.store.SnapshotAll, p.store.SaveReports, p.store.SaveRouter, p.store, p.store}, nil
	}
	p.warnOfClearText(ctx, p.config.Gateway.APIURL, "the control plane is spoken to in clear text, the routers' token and the text of Workers' secrets with it",
		"Give it a certificate (--api-tls-cert) and name it by https:// in --api-url, unless the network between is yours alone.")
	token, err := os.ReadFile(p.config.Gateway.APITokenFile)
	if err != nil {
		return controlPlane{}, fmt.Errorf("read the token for %s from --api-token-file: %w", p.config.Gateway.APIURL, err)
	}
	control := p.config.Network.controlClient()
	if err := control.Check(); err != nil {
		return controlPlane{}, err
	}
	api := client.New(p.config.Gateway.APIURL, strings.TrimSpace(string(token)), &http.Client{Transport: control.Transport()})
	return controlPlane{api.SnapshotAll, api.Report, api.SaveRouter, api, api}, nil
}
