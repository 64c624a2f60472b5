package kinesis

import (
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTroubles(t *testing.T) {
	sinktest.Troubles(t, func(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
		options := loopback
		options.Egress.NoProgress = noProgress
		return openWith(t, "http://"+address, "events", options)
	}, sinktest.Object("a", "{}\n"))
}
