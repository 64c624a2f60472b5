package api

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

func (s *Server) declareTailMetrics(meter metric.Meter) (err error) {
	if s.tailViewers, err = meter.Int64UpDownCounter("tidegate_api_tail_viewers",
		metric.WithDescription("Connections that watch a script now.")); err != nil {
		return err
	}
	if s.tailMessages, err = meter.Int64Counter("tidegate_api_tail_messages_total",
		metric.WithDescription("Messages sent to those who watch a script, notices included.")); err != nil {
		return err
	}
	s.tailDropped, err = meter.Int64Counter("tidegate_api_tail_dropped_total",
		metric.WithDescription("Messages not sent to somebody who watches a script, by reason: slow_viewer, closed, undecodable."))
	return err
}

func (s *Server) dropTail(ctx context.Context, n int64, reason string) {
	s.tailDropped.Add(ctx, n, metric.WithAttributes(attribute.String("reason", reason)))
}
