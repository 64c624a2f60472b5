package listen

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// CountHTTP2Errors has a server count what it refuses of its HTTP/2 clients before a
// handler sees it. It must be called before the server serves. The kinds are
// net/http's own words, a few dozen of them.
func CountHTTP2Errors(server *http.Server) error {
	errors, err := telemetry.Meter("tidegate/gateway/listen").Int64Counter("tidegate_gateway_http2_errors_total",
		metric.WithDescription("Mistakes of HTTP/2 clients that ended a stream or a connection, by kind."))
	if err != nil {
		return fmt.Errorf("declare metrics of HTTP/2: %w", err)
	}
	server.HTTP2.CountError = func(kind string) {
		errors.Add(context.Background(), 1, metric.WithAttributes(attribute.String("kind", kind)))
	}
	return nil
}
