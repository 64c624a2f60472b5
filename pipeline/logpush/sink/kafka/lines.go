package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// lines are the connections of one client. It waits for a broker's first answer whatever becomes of
// who asked, and an answer that drips in makes progress for ever. So they end with the question.
type lines struct {
	dial   dial
	mu     sync.Mutex
	open   []net.Conn
	number int   // of the question
	over   bool  // it is
	failed error // of the last connection that was tried; nil: it was made
}

var errOver = errors.New("the time of the question is over")

// connect is the client's dialer.
func (l *lines) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, address)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		if err == nil {
			_ = conn.Close() // nothing was sent
		}
		return nil, errOver
	}
	if l.failed = err; err != nil {
		return nil, err
	}
	l.open = append(l.open, conn)
	return conn, nil
}

// close closes all connections, and those that are being made, until the next question.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closeLocked()
}

func (l *lines) closeLocked() {
	for _, conn := range l.open {
		_ = conn.Close() // it may be closed
	}
	l.open, l.over = nil, true
}

// question returns a context for a question that may take so long.
func (l *lines) question(ctx context.Context, most time.Duration) (bounded context.Context, end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	l.over = false
	number := l.number
	bounded, cancel := context.WithTimeout(ctx, most)
	stop := context.AfterFunc(bounded, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.number == number { // or it ended at the last moment, and others came
			l.closeLocked()
		}
	})
	return bounded, func() {
		stop()
		cancel()
	}
}

// why is the error of a question that may have one: what the cluster says; or else that the time was
// over, whatever a connection says that was cut for it; or why no connection was made, where the client
// says only that it tried often enough.
func (l *lines) why(err error, bounded context.Context) error { //nolint:revive // the context is what is asked about
	if _, said := errors.AsType[*kerr.Error](err); err == nil || said {
		return err
	}
	if bounded.Err() != nil {
		return bounded.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if errors.Is(err, kgo.ErrRecordRetries) && l.failed != nil {
		return l.failed
	}
	return err
}
