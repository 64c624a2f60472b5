package listen

import (
	"io"
	"net"
	"net/http"
	"testing"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"golang.org/x/net/http2"
)

func TestHTTP2ErrorsAreCounted(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })

	server := &http.Server{Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{}}
	server.Protocols.SetUnencryptedHTTP2(true)
	if err := CountHTTP2Errors(server); err != nil {
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
	framer := http2.NewFramer(c, c)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{framer.WriteSettings(), framer.WriteRSTStream(7, http2.ErrCodeCancel)} { // of a stream that was never opened
		if err != nil {
			t.Fatal(err)
		}
	}
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
	for _, p := range all.ScopeMetrics[0].Metrics[0].Data.(metricdata.Sum[int64]).DataPoints {
		got[p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
	}
	if want := "kind=conn_PROTOCOL_ERROR_reset_idle_stream"; len(got) != 1 || got[want] != 1 {
		t.Errorf("the counts are %v, want one of %s", got, want)
	}
}
