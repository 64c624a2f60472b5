package kinesis

import (
	"errors"
	"net/http"
	"net/http/httptest"
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

// A batch counts as taken when the stream says where it is.
func TestAnEmptyAnswerIsNone(t *testing.T) {
	for _, status := range []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		defer server.Close()
		err := opener(t, server.Listener.Addr().String(), 0).Put(t.Context(), sinktest.Object("a", "{}\n"))
		if e, ok := errors.AsType[*logpush.UploadError](err); !ok || e.Permanent || e.Text != "the answer is not one of Kinesis" {
			t.Errorf("%d: put returned %+v", status, err)
		}
	}
}
