package kinesis

import (
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func opener(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
	options := loopback
	options.Egress.NoProgress = noProgress
	return openWith(t, "http://"+address, "events", options)
}

func TestTroubles(t *testing.T) { sinktest.Troubles(t, opener, sinktest.Object("a", "{}\n")) }

func TestAnswersOfOthers(t *testing.T) { sinktest.Answers(t, opener, sinktest.Object("a", "{}\n")) }
