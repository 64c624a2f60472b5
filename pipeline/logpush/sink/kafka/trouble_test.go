package kafka

import (
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTroubles(t *testing.T) {
	for _, transport := range []string{"plaintext", "tls"} {
		t.Run(transport, func(t *testing.T) {
			sinktest.Troubles(t, func(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
				options := loopback
				options.Egress.NoProgress = noProgress
				return open(t, "kafka://"+address+"/events?transport="+transport, options)
			}, batch("one", "two"))
		})
	}
}
