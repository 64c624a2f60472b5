// Command collector runs the log receivers of the OpenTelemetry collector, so that
// tests can deliver to implementations that are not ours. It has a module of its
// own: the receivers are no dependency of Tidegate.
//
// At the address that it is given, GET / answers with what has arrived, as lines of
// JSON, and GET /addresses says where each receiver listens.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/datadogreceiver"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/lokireceiver"
	"github.com/open-telemetry/opentelemetry-collector-contrib/receiver/splunkhecreceiver"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/consumer"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/receiver"
	"go.opentelemetry.io/collector/receiver/otlpreceiver"
	"go.opentelemetry.io/collector/receiver/receivertest"
)

// record is what arrived.
type record struct {
	Receiver   string         `json:"receiver"`
	Time       time.Time      `json:"time"`
	Severity   string         `json:"severity"`
	Body       string         `json:"body"`
	Resource   map[string]any `json:"resource"`
	Attributes map[string]any `json:"attributes"`
}

// arrivals are all records so far.
type arrivals struct {
	mu      sync.Mutex
	records []record
}

func (a *arrivals) add(receiver string, batch plog.Logs) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, resource := range batch.ResourceLogs().All() {
		for _, scope := range resource.ScopeLogs().All() {
			for _, l := range scope.LogRecords().All() {
				a.records = append(a.records, record{
					Receiver: receiver, Time: l.Timestamp().AsTime(), Severity: l.SeverityText(), Body: l.Body().AsString(),
					Resource: resource.Resource().Attributes().AsRaw(), Attributes: l.Attributes().AsRaw(),
				})
			}
		}
	}
}

func (a *arrivals) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	lines := json.NewEncoder(w)
	for _, r := range a.records {
		if err := lines.Encode(r); err != nil {
			return // the client has gone
		}
	}
}

// receivers and their configuration, as a collector's file would have it.
var receivers = map[string]struct {
	factory receiver.Factory
	config  func(address string) map[string]any
}{
	"splunk":  {splunkhecreceiver.NewFactory(), atEndpoint},
	"datadog": {datadogreceiver.NewFactory(), atEndpoint},
	"loki": {lokireceiver.NewFactory(), func(address string) map[string]any {
		return map[string]any{"use_incoming_timestamp": true, "protocols": map[string]any{"http": atEndpoint(address)}}
	}},
	"otlp": {otlpreceiver.NewFactory(), func(address string) map[string]any {
		return map[string]any{"protocols": map[string]any{"http": atEndpoint(address)}}
	}},
}

func atEndpoint(address string) map[string]any { return map[string]any{"endpoint": address} }

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to tell what has arrived")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, listen string) error {
	arrived := &arrivals{}
	addresses := map[string]string{}
	for name := range receivers {
		address, stop, err := start(ctx, name, arrived)
		if err != nil {
			return fmt.Errorf("start the receiver %s: %w", name, err)
		}
		defer stop()
		addresses[name] = address
	}
	mux := http.NewServeMux()
	mux.Handle("/", arrived)
	mux.HandleFunc("/addresses", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(addresses) // nothing can be done for a client that has gone
	})
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(listener); ctx.Err() == nil {
		return err
	}
	return nil
}

// start runs a receiver until stop.
func start(ctx context.Context, name string, arrived *arrivals) (address string, stop func(), err error) {
	free, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address = free.Addr().String()
	if err := free.Close(); err != nil {
		return "", nil, err
	}
	r := receivers[name]
	config := r.factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(r.config(address)).Unmarshal(config); err != nil {
		return "", nil, err
	}
	sink, err := consumer.NewLogs(func(_ context.Context, batch plog.Logs) error {
		arrived.add(name, batch)
		return nil
	})
	if err != nil {
		return "", nil, err
	}
	settings := receivertest.NewNopSettings(r.factory.Type())
	settings.ID = component.NewID(r.factory.Type())
	running, err := r.factory.CreateLogs(ctx, settings, config, sink)
	if err != nil {
		return "", nil, err
	}
	if err := running.Start(ctx, componenttest.NewNopHost()); err != nil {
		return "", nil, err
	}
	return address, func() { _ = running.Shutdown(context.Background()) }, nil
}
