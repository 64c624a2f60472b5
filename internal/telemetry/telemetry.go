// Package telemetry sets up logs, metrics and traces for a process. Any package
// may import it; it imports nothing of ours.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exportInterval between two pushes of metrics over OTLP; Prometheus pulls.
const exportInterval = 15 * time.Second

// Telemetry is a process's exporters. Stop it last.
type Telemetry struct {
	registry *prometheus.Registry
	stop     []func(context.Context) error
}

// Start installs the global meter and tracer providers for service. Metrics are
// always there for Prometheus; traces and metrics also leave over OTLP/HTTP when
// OTEL_EXPORTER_OTLP_ENDPOINT (or the _TRACES_/_METRICS_ variant) is set, with the
// standard variables honoured by the exporters themselves.
func Start(ctx context.Context, service, version string) (*Telemetry, error) {
	res, err := resource.Merge(resource.Default(), resource.NewSchemaless(
		attribute.String("service.name", service),
		attribute.String("service.version", version)))
	if err != nil {
		return nil, fmt.Errorf("telemetry: describe the process: %w", err)
	}
	t := &Telemetry{registry: prometheus.NewRegistry()}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	promReader, err := otelprom.New(otelprom.WithRegisterer(t.registry), otelprom.WithoutScopeInfo(), otelprom.WithoutTargetInfo(),
		// Names are spelled in full where they are declared, suffixes included.
		otelprom.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes))
	if err != nil {
		return nil, fmt.Errorf("telemetry: open the Prometheus exporter: %w", err)
	}
	meterOptions := []sdkmetric.Option{sdkmetric.WithResource(res), sdkmetric.WithReader(promReader)}
	if otlpWanted("METRICS") {
		exporter, err := otlpmetrichttp.New(ctx)
		if err != nil {
			return nil, fmt.Errorf("telemetry: open the OTLP metrics exporter: %w", err)
		}
		meterOptions = append(meterOptions, sdkmetric.WithReader(
			sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithInterval(exportInterval))))
	}
	meters := sdkmetric.NewMeterProvider(meterOptions...)
	otel.SetMeterProvider(meters)
	t.stop = append(t.stop, meters.Shutdown)

	otel.SetTextMapPropagator(propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}))
	if otlpWanted("TRACES") {
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("telemetry: open the OTLP trace exporter: %w", err), t.Stop(ctx))
		}
		traces := sdktrace.NewTracerProvider(sdktrace.WithResource(res), sdktrace.WithBatcher(exporter))
		otel.SetTracerProvider(traces)
		t.stop = append(t.stop, traces.Shutdown)
	}
	return t, nil
}

func otlpWanted(signal string) bool { return len(endpoints(signal)) > 0 }

// endpoints are what the environment names for a signal.
func endpoints(signal string) (urls []string) {
	for _, name := range []string{"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT"} {
		if value := os.Getenv(name); value != "" {
			urls = append(urls, value)
		}
	}
	return urls
}

// Endpoints are the URLs of the collectors that the environment names; none without any.
func Endpoints() []string { return append(endpoints("METRICS"), endpoints("TRACES")...) }

// Handler serves the metrics for Prometheus.
func (t *Telemetry) Handler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{})
}

// Stop flushes and closes the exporters.
func (t *Telemetry) Stop(ctx context.Context) error {
	var errs []error
	for _, stop := range t.stop {
		errs = append(errs, stop(ctx))
	}
	return errors.Join(errs...)
}

// Meter returns the meter of a package, such as "tidegate/pipeline/ingest".
func Meter(name string) metric.Meter { return otel.Meter(name) }

// Tracer returns the tracer of a package.
func Tracer(name string) trace.Tracer { return otel.Tracer(name) }

// End ends a span, as failed when err is not nil.
func End(span trace.Span, err error) {
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	span.End()
}

// NewLogger writes one line an event to w, as JSON or as text, and adds the
// trace id of the context to what is logged with one.
func NewLogger(w io.Writer, level slog.Level, json bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if json {
		return slog.New(traceHandler{slog.NewJSONHandler(w, options)})
	}
	return slog.New(traceHandler{slog.NewTextHandler(w, options)})
}

type traceHandler struct{ slog.Handler }

func (h traceHandler) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

func (h traceHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return traceHandler{h.Handler.WithAttrs(attrs)}
}

func (h traceHandler) WithGroup(name string) slog.Handler {
	return traceHandler{h.Handler.WithGroup(name)}
}
