package syslog

import (
	"strings"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestTroubles(t *testing.T) {
	// More than the buffers of sockets take, so that who takes nothing is noticed.
	o := sinktest.Items("a", strings.Repeat("{}\n", 200_000))
	for _, transport := range []string{"tcp", "tls"} {
		t.Run(transport, func(t *testing.T) {
			sinktest.Troubles(t, func(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
				options := loopback
				options.Egress.NoProgress = noProgress
				return open(t, "syslog://"+address+"?transport="+transport, options)
			}, o)
		})
	}
}
