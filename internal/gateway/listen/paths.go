package listen

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/gateway/lean"
	"tidegate/internal/telemetry"
)

// CountPaths has the metrics tell which path of HTTP/1.1 the requests of a listener take:
// what the lean one served, and why connections went to net/http. They do so until the
// process ends.
func CountPaths(server *lean.Server, listener string) error {
	meter := telemetry.Meter("tidegate/gateway/listen")
	requests, err := meter.Int64ObservableCounter("tidegate_gateway_lean_requests_total",
		metric.WithDescription("Requests in HTTP/1.1 that the lean path served, by listener; net/http served the others."))
	if err != nil {
		return fmt.Errorf("declare metrics of the lean path: %w", err)
	}
	handedOver, err := meter.Int64ObservableCounter("tidegate_gateway_lean_handovers_total",
		metric.WithDescription("Connections that went from the lean path to net/http, for good, by listener and reason."))
	if err != nil {
		return fmt.Errorf("declare metrics of the lean path: %w", err)
	}
	where := attribute.String("listener", listener)
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := server.Stats()
		o.ObserveInt64(requests, stats.Requests, metric.WithAttributes(where))
		for reason, n := range stats.HandedOver {
			o.ObserveInt64(handedOver, n, metric.WithAttributes(where, attribute.String("reason", reason)))
		}
		return nil
	}, requests, handedOver)
	if err != nil {
		return fmt.Errorf("observe metrics of the lean path: %w", err)
	}
	return nil
}
