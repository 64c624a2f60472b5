package listen

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/internal/gateway/lean"
)

func TestPathsAreCounted(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })

	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	server := &lean.Server{Handler: nothing, HTTP: &http.Server{Handler: nothing}, ReadHeaderTimeout: time.Minute, IdleTimeout: time.Minute}
	if err := CountPaths(server, "gateway"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	_, _ = io.WriteString(c, get+get+"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	_, _ = io.Copy(io.Discard, c) // until the server has ended the connection
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	<-served

	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
			got[m.Name+" "+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
		}
	}
	if got["tidegate_gateway_lean_requests_total listener=gateway"] != 2 || got["tidegate_gateway_lean_handovers_total listener=gateway,reason=request_line"] != 1 ||
		got["tidegate_gateway_lean_handovers_total listener=gateway,reason=field"] != 0 || len(got) != 8 {
		t.Errorf("the counts are %v", got)
	}
}
