package notify

import (
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/internal/deploy"
)

func TestEveryTryIsCountedByItsResult(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	answers := func(status int) string {
		return newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }).URL
	}
	w := newWorld(t,
		deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: answers(200)}, deploy.NotifyTarget{Type: deploy.NotifyWebhook, URL: answers(503)},
		deploy.NotifyTarget{Type: deploy.NotifySlack, URL: answers(404)})
	w.decide(t)
	stop := start(t, newService(t, w, local))
	w.await(t, "tried", func(list []deploy.Notification) bool {
		for _, n := range list {
			if n.State == deploy.NotificationWaiting && n.LastError == "" {
				return false
			}
		}
		return all(deploy.NotificationSent, deploy.NotificationWaiting, deploy.NotificationFailed)(list)
	})
	stop()
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			sum, ok := m.Data.(metricdata.Sum[int64])
			if !ok || m.Name != "tidegate_rollback_notifications_total" {
				continue
			}
			for _, point := range sum.DataPoints {
				kind, _ := point.Attributes.Value(attribute.Key("type"))
				result, _ := point.Attributes.Value(attribute.Key("result"))
				got[kind.AsString()+" "+result.AsString()] += point.Value
			}
		}
	}
	if len(got) != 3 || got["webhook sent"] != 1 || got["webhook retried"] != 1 || got["slack failed"] != 1 {
		t.Errorf("counted were %v", got)
	}
}
