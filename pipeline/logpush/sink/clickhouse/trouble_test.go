package clickhouse

import (
	"net/url"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTroubles(t *testing.T) {
	sinktest.Troubles(t, func(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
		options := loopback
		options.Egress.NoProgress = noProgress
		return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) }, "clickhouse://"+address+"/d/t?transport=http")
	}, sinktest.Object("a", rows))
}
