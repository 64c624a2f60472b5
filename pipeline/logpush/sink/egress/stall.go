package egress

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"
)

// patient is a transport that gives up a request of whose body nothing was taken for limit.
// A connection notices that by itself, sooner, where it carries one request. With HTTP/2 the
// requests of others keep it busy, while a destination gives one of them no room.
//
// It also gives up an answer whose body takes longer than answer, and cuts it off behind
// answerBytesMax: clients of stores and services read to its end, and keep what they read.
type patient struct {
	*http.Transport
	limit, answer time.Duration
}

// answerBytesMax is a little more than the most that a sink looks at, 16 MiB.
const answerBytesMax = 17 << 20

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(q *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(q.Context())
	expire := func() { cancel(os.ErrDeadlineExceeded) }
	watched := q.WithContext(ctx)
	if q.Body != nil && q.Body != http.NoBody {
		watch := func(body io.ReadCloser) io.ReadCloser {
			return &watchedBody{body, time.AfterFunc(p.limit, expire), p.limit}
		}
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
	}
	response, err := p.Transport.RoundTrip(watched)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, os.ErrDeadlineExceeded) {
			err = cause
		}
		cancel(nil)
		return nil, err
	}
	response.Body = &answerBody{response.Body, ctx, cancel, time.AfterFunc(p.answer, expire), answerBytesMax}
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
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	left   int64 // of answerBytesMax
}

func (b *answerBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), os.ErrDeadlineExceeded) {
		err = os.ErrDeadlineExceeded
	}
	return n, err
}

func (b *answerBody) Close() error {
	defer b.cancel(nil)
	b.timer.Stop()
	return b.ReadCloser.Close()
}
