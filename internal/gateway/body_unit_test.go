package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// deadlineWriter notes the deadline for reading that was set last.
type deadlineWriter struct {
	http.ResponseWriter
	last time.Time
}

func (w *deadlineWriter) SetReadDeadline(t time.Time) error {
	w.last = t
	return nil
}

// A handler that has passed on an early response detaches the body twice: before it
// closes the response's, and when it returns. The second time used to leave the deadline
// in the past, so that the server could not read the rest of the body, and its client got
// a reset in place of the response.
func TestDetachLeavesTimeToLinger(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
	w := &deadlineWriter{ResponseWriter: httptest.NewRecorder()}
	body := takeBody(w, r, r, false)
	for i := range 2 {
		body.detach()
		if !w.last.After(time.Unix(1, 0)) {
			t.Errorf("after call %d the server may not read any more", i+1)
		}
	}
	if _, err := body.Read(make([]byte, 1)); err == nil {
		t.Error("the body can still be read")
	}
}

type bufferedBody struct {
	io.ReadCloser
	n int
}

func (b bufferedBody) Buffered() int { return b.n }

// A backend learns from the body how much of it is at hand, if the server knows.
func TestBodySaysWhatIsAtHand(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
	if n := takeBody(httptest.NewRecorder(), r, r, false).Buffered(); n != 0 {
		t.Errorf("%d bytes are at hand, which nobody said", n)
	}
	r = httptest.NewRequest(http.MethodPost, "/", strings.NewReader("body"))
	r.Body = bufferedBody{r.Body, 3}
	if n := takeBody(httptest.NewRecorder(), r, r, false).Buffered(); n != 3 {
		t.Errorf("%d bytes are at hand, not 3", n)
	}
}
