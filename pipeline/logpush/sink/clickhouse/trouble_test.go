package clickhouse

import (
	"net/url"
	"testing"
	"time"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func opener(t *testing.T, address string, noProgress time.Duration) logpush.Sink {
	options := loopback
	options.Egress.NoProgress = noProgress
	return sinktest.Open(t, func(u *url.URL) (logpush.Sink, error) { return New(u, options) }, "clickhouse://"+address+"/d/t?transport=http")
}

func TestTroubles(t *testing.T) { sinktest.Troubles(t, opener, sinktest.Object("a", rows)) }

func TestAnswersOfOthers(t *testing.T) { sinktest.Answers(t, opener, sinktest.Object("a", rows)) }
