package app

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"tidegate/internal/api/client"
	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/internal/telemetry"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// snapshots is the gateway's source: a function fits the interface.
type snapshots func(ctx context.Context, after int64) (*deploy.Snapshot, error)

func (f snapshots) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	return f(ctx, after)
}

// addGateway adds the producer of trace events, the loop that keeps the routing
// fresh, and the listener, in this order: the listener stops first, and the
// producer sends what the last requests left.
func (p *process) addGateway(context.Context) error {
	if err := os.MkdirAll(p.config.DataDir, 0o750); err != nil {
		return err
	}
	source, err := p.snapshotSource()
	if err != nil {
		return err
	}
	producer, err := stream.NewProducer(stream.ProducerConfig{
		Config: p.stream(), Schema: schema.EventSchemaVersion,
		SpoolDir: filepath.Join(p.config.DataDir, "spool"), Logger: p.log,
	})
	if err != nil {
		return err
	}
	backends, err := runtime.New(runtime.DefaultConfig(), p.log)
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() error { backends.Close(); return nil })

	config := gateway.DefaultConfig()
	config.Domain = p.config.GatewayDomain
	config.ShowVersion = p.config.ShowVersion
	if config.TrustedProxies, err = prefixes(p.config.TrustedProxies); err != nil {
		return err
	}
	config.SnapshotFile = filepath.Join(p.config.DataDir, "snapshot.json")
	gw, err := gateway.New(config, gateway.Deps{
		Snapshots: source, Backends: backends, Emitter: producer,
		Tracer: telemetry.Tracer("tidegate/internal/gateway"), Logger: p.log,
	})
	if err != nil {
		return err
	}
	p.services = append(p.services, p.topicService(p.stream(), p.config.TopicRetention), service{"producer", stageProducer, producer.Run}, service{"routing", stageRouting, gw.Run})
	p.serve(listenGateway, gateway.NewServer(gw))
	p.ready.Gateway = p.baseURL(listenGateway)
	p.checks = append(p.checks, check{"gateway", func(context.Context) error { return gw.Ready() }})
	return nil
}

// snapshotSource is the store where this process has one, else the control plane.
func (p *process) snapshotSource() (gateway.Snapshots, error) {
	if p.store != nil {
		return snapshots(p.store.SnapshotAll), nil
	}
	token, err := os.ReadFile(p.config.APITokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the token for %s from --api-token-file: %w", p.config.APIURL, err)
	}
	control := client.New(p.config.APIURL, strings.TrimSpace(string(token)), nil)
	return snapshots(control.SnapshotAll), nil
}
