package app

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Whoever finds a port taken is told by which flag to give another.
func TestAPortThatIsTakenNamesItsFlag(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for flag, set := range map[string]func(c *Config) *string{
		"api-addr": func(c *Config) *string { return &c.API.Addr }, "gateway-addr": func(c *Config) *string { return &c.Gateway.Addr },
		"gateway-tls-addr": func(c *Config) *string { return &c.Gateway.TLSAddr }, "ops-addr": func(c *Config) *string { return &c.OpsAddr },
	} {
		p := &process{config: DefaultConfig(RoleAPI, RoleGateway)}
		p.config.API.Addr, p.config.Gateway.Addr = "127.0.0.1:0", "127.0.0.1:0"
		*set(&p.config) = l.Addr().String()
		bound := pflag.NewFlagSet("", pflag.ContinueOnError)
		p.config.Bind(bound)
		err := p.listen(t.Context(), nil)
		if err == nil || !strings.Contains(err.Error(), "give another address with --"+flag) || bound.Lookup(flag) == nil {
			t.Errorf("got %v, want one that names --%s", err, flag)
		}
		for _, closeIt := range p.closers {
			if err := closeIt(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A request that outlasts the grace is cut off; that is the planned end of a
// stop, and no failure of it.
func TestStopCutsOffWhatOutlastsTheGrace(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	arrived, hold := make(chan struct{}), make(chan struct{})
	defer close(hold)
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(arrived); <-hold })}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() {
		stopped <- serveUntil(ctx, slog.New(slog.DiscardHandler), "api", server, listener, func() time.Duration { return drainTimeout })
	}()
	answered := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + listener.Addr().String())
		if err == nil {
			_ = res.Body.Close()
		}
		answered <- err
	}()
	<-arrived
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("the stop failed: %v", err)
	}
	if err := <-answered; err == nil {
		t.Error("the request was answered after all")
	}
}

func TestReplaceFileIsPrivateAndLeavesNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "admin-token")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil || string(content) != "new" {
		t.Errorf("the file holds %q, %v", content, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %d files, %v", len(entries), err)
	}
}

// A process that serves is ready, whatever there is to say beside.
func TestReadiness(t *testing.T) {
	note, fault := "", errors.New("no snapshot")
	p := &process{
		checks: []check{{"gateway", func(context.Context) error { return fault }}},
		notes:  []func() string{func() string { return note }},
	}
	f := func(wantStatus int, wantText string) {
		t.Helper()
		if status, text := p.readiness(t.Context()); status != wantStatus || text != wantText {
			t.Errorf("got %d %q, want %d %q", status, text, wantStatus, wantText)
		}
	}
	f(503, "not ready: gateway: no snapshot")
	fault = nil
	f(200, "ready")
	note = "gateway: serves an old snapshot"
	f(200, "ready\ngateway: serves an old snapshot")
}

// Whoever watches metrics alone learns what /readyz says.
func TestReadinessIsAMetric(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	ready, err := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test").Int64Gauge("ready")
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("away")
	p := &process{checks: []check{{"database", func(context.Context) error { return fault }}}}
	f := func(ctx context.Context, want int64) {
		t.Helper()
		p.recordReadiness(ctx, ready)
		var data metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &data); err != nil {
			t.Fatal(err)
		}
		if got := data.ScopeMetrics[0].Metrics[0].Data.(metricdata.Gauge[int64]).DataPoints[0].Value; got != want {
			t.Errorf("the metric is %d, want %d", got, want)
		}
	}
	f(t.Context(), 0)
	fault = nil
	f(t.Context(), 1)
	stopping, cancel := context.WithCancel(t.Context())
	cancel()
	fault = context.Canceled
	f(stopping, 1)
}
