package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// patient is a transport that gives a request up of whose body nothing was taken for limit.
// A connection notices that by itself, sooner, where it carries one request. With HTTP/2 the
// requests of others keep it busy, while a destination gives one of them no room.
type patient struct {
	*http.Transport
	limit time.Duration
}

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(q *http.Request) (*http.Response, error) {
	if q.Body == nil || q.Body == http.NoBody {
		return p.Transport.RoundTrip(q)
	}
	ctx, cancel := context.WithCancelCause(q.Context())
	watch := func(body io.ReadCloser) io.ReadCloser {
		return &watchedBody{body, time.AfterFunc(p.limit, func() { cancel(os.ErrDeadlineExceeded) }), p.limit}
	}
	watched := q.WithContext(ctx)
	watched.Body = watch(q.Body)
	if again := q.GetBody; again != nil {
		watched.GetBody = func() (io.ReadCloser, error) {
			body, err := again()
			if err != nil {
				return nil, err
			}
			return watch(body), nil
		}
	}
	response, err := p.Transport.RoundTrip(watched)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, os.ErrDeadlineExceeded) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	response.Body = &answerBody{response.Body, cancel}
	return response, nil
}

// watchedBody is a request's body that the transport closes when it is done with it.
type watchedBody struct {
	io.ReadCloser
	timer *time.Timer
	limit time.Duration
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		b.timer.Reset(b.limit)
	} else { // from here on the answer is waited for
		b.timer.Stop()
	}
	return n, err
}

func (b *watchedBody) Close() error {
	b.timer.Stop()
	return b.ReadCloser.Close()
}

// answerBody lets go of the request's context when the answer was read.
type answerBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *answerBody) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
}
