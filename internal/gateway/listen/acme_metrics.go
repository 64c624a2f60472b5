package listen

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/certs"
	"tidegate/internal/telemetry"
)

// Results of orders, and reasons why there was none, in the order of their counters.
var (
	acmeResults = []string{"issued", "failed"}
	acmeReasons = []string{"unknown_host", "failed_before", "too_many"}
)

const (
	resultIssued = iota
	resultFailed
)

const (
	refusedHost = iota
	refusedFailed
	refusedTooMany
)

type acmeCounts struct {
	results    [2]atomic.Int64 // by result
	refused    [3]atomic.Int64 // by reason
	challenges [2]atomic.Int64 // answered, as acmeChallenges has them
}

func (a *ACME) observe() (metric.Registration, error) {
	meter := telemetry.Meter("tidegate/gateway/listen")
	var errs [4]error
	orders, err := meter.Int64ObservableCounter("tidegate_gateway_acme_orders_total",
		metric.WithDescription("Certificates that an ACME authority was asked for, renewals included, by result."))
	errs[0] = err
	refused, err := meter.Int64ObservableCounter("tidegate_gateway_acme_refused_total",
		metric.WithDescription("Times that a certificate was wanted and the authority not asked, by reason: the gateway does not serve the name, it failed a while ago, or too many are being asked for."))
	errs[1] = err
	challenges, err := meter.Int64ObservableCounter("tidegate_gateway_acme_challenges_total",
		metric.WithDescription("Challenges of an ACME authority that were answered, by type."))
	errs[2] = err
	expiry, err := meter.Float64ObservableGauge(expiryName, metric.WithDescription(certs.ExpiryHelp))
	errs[3] = err
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("declare metrics of ACME: %w", err)
		}
	}
	return meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for i, result := range acmeResults {
			o.ObserveInt64(orders, a.counts.results[i].Load(), metric.WithAttributes(attribute.String("result", result)))
		}
		for i, reason := range acmeReasons {
			o.ObserveInt64(refused, a.counts.refused[i].Load(), metric.WithAttributes(attribute.String("reason", reason)))
		}
		for i, kind := range acmeChallenges {
			o.ObserveInt64(challenges, a.counts.challenges[i].Load(), metric.WithAttributes(attribute.String("type", kind)))
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		for host, i := range a.hosts {
			if i.certificate != nil {
				o.ObserveFloat64(expiry, float64(i.certificate.Leaf.NotAfter.Unix()), metric.WithAttributes(attribute.String("certificate", a.folder.certificatePath(host))))
			}
		}
		return nil
	}, orders, refused, challenges, expiry)
}
