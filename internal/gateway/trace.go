package gateway

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"tidegate/schema"
)

// startSpan begins a span below the client's, if the gateway traces at all; it
// returns nil otherwise. The context is the request's, which ends when the client
// leaves.
func (g *Gateway) startSpan(r *http.Request, x *exchange) (context.Context, trace.Span) {
	ctx := r.Context()
	if g.deps.Tracer == nil {
		return ctx, nil
	}
	ctx = otel.GetTextMapPropagator().Extract(ctx, propagation.HeaderCarrier(r.Header))
	ctx, span := g.deps.Tracer.Start(ctx, "gateway.request", trace.WithSpanKind(trace.SpanKindServer))
	if span.IsRecording() {
		span.SetAttributes(
			attribute.String("http.request.method", r.Method),
			attribute.String("url.scheme", x.client.scheme),
			attribute.String("server.address", r.Host),
			attribute.String("cloudflare.ray_id", x.ray),
			attribute.String("cloudflare.script_name", x.script.Name),
			attribute.String("cloudflare.script_version.id", x.version.ID),
			attribute.String("tidegate.decision", x.decision))
	}
	return ctx, span
}

// injectTrace names the gateway's span as the parent of the backend's. Without
// one the client's own traceparent has travelled on already.
func injectTrace(ctx context.Context, h http.Header) {
	if trace.SpanContextFromContext(ctx).IsValid() {
		otel.GetTextMapPropagator().Inject(ctx, propagation.HeaderCarrier(h))
	}
}

func endSpan(span trace.Span, x *exchange) {
	if span == nil {
		return
	}
	if span.IsRecording() {
		span.SetAttributes(attribute.String("cloudflare.outcome", x.outcome))
		if x.status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", x.status))
		}
		if schema.Failed(x.outcome, x.status) {
			span.SetStatus(codes.Error, x.errorKind)
		}
	}
	span.End()
}
