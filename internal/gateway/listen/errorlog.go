package listen

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"log/slog"

	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/telemetry"
)

// handshakeError is how net/http begins a line about a client with which TLS could
// not be agreed on.
var handshakeError = []byte("http: TLS handshake error")

// ErrorLog returns a server's log. Failed handshakes are counted, and logged for
// debugging only: on a public address scanners make them all day.
func ErrorLog(logger *slog.Logger) (*log.Logger, error) {
	failed, err := telemetry.Meter("tidegate/gateway/listen").Int64Counter("tidegate_gateway_tls_handshake_errors_total",
		metric.WithDescription("Connections that ended before TLS was agreed on."))
	if err != nil {
		return nil, fmt.Errorf("declare metrics of TLS: %w", err)
	}
	return log.New(&serverLog{logger, failed}, "", 0), nil
}

type serverLog struct {
	logger *slog.Logger
	failed metric.Int64Counter
}

func (l *serverLog) Write(line []byte) (int, error) {
	level := slog.LevelWarn
	if bytes.HasPrefix(line, handshakeError) {
		l.failed.Add(context.Background(), 1)
		level = slog.LevelDebug
	}
	l.logger.Log(context.Background(), level, string(bytes.TrimRight(line, "\n")))
	return len(line), nil
}
