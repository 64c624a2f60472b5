package kafka

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
)

// lines are the connections of one client. It waits for a broker's first answer whatever becomes of
// who asked, and an answer that drips in makes progress for ever. So they end with the question.
type lines struct {
	dial dial
	mu   sync.Mutex
	open []net.Conn
	over bool
}

var errOver = errors.New("the time of the question is over")

// connect is the client's dialer.
func (l *lines) connect(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := l.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		_ = conn.Close() // nothing was sent
		return nil, errOver
	}
	l.open = append(l.open, conn)
	return conn, nil
}

// cut closes all connections, and those that are being made, until the next question.
func (l *lines) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.open {
		_ = conn.Close() // it may be closed
	}
	l.open, l.over = nil, true
}

// question returns a context for a question that may take so long.
func (l *lines) question(ctx context.Context, most time.Duration) (bounded context.Context, end func()) {
	l.mu.Lock()
	l.over = false
	l.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, most)
	stop := context.AfterFunc(bounded, l.cut)
	return bounded, func() {
		stop()
		cancel()
	}
}

// why is the error of a question that may have one: what the cluster says, or else that the time was
// over, whatever a connection says that was cut for it.
func why(err error, bounded context.Context) error { //nolint:revive // the context is what is asked about
	if _, said := errors.AsType[*kerr.Error](err); err != nil && !said && bounded.Err() != nil {
		return bounded.Err()
	}
	return err
}
