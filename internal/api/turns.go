package api

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"tidegate/internal/errs"
)

// A request that has the modules of a version in memory takes several times the
// size of an upload, so few may at once. More of them wait for their turn.
const (
	turnsMax        = 8
	accountTurnsMax = turnsMax / 2 // no account can keep the others out
	turnWaitDefault = 30 * time.Second
	// turnTime ends those who send or take bytes one by one: 64 MiB in it is 2 Mbit/s.
	turnTime = 5 * time.Minute
)

// Questions to ClickHouse have turns of their own. The embedded engine works on 16
// statements at a time, the rollback controller's among them; a call may be two.
const (
	questionsMax        = 6
	accountQuestionsMax = 4
	questionWait        = 5 * time.Second
)

// turns are given to requests. Its methods are safe for concurrent use.
type turns struct {
	most, accountMost int
	wait              time.Duration // the longest one for a turn
	busy              string        // the sentence for who waited in vain

	mu    sync.Mutex
	taken map[string]int // by account
	all   int
	freed chan struct{} // closed when a turn ends
}

func newTurns(most, accountMost int, wait time.Duration, busy string) *turns {
	return &turns{most: most, accountMost: accountMost, wait: wait, busy: busy, taken: make(map[string]int), freed: make(chan struct{})}
}

// take waits for a turn and returns how to end it; after too long a wait, or when
// the server stops, the error is unavailable.
func (t *turns) take(ctx, stopping context.Context, account string) (end func(), err error) {
	timer := time.NewTimer(t.wait)
	defer timer.Stop()
	for {
		freed, taken := t.try(account)
		if taken {
			return func() { t.end(account) }, nil
		}
		select {
		case <-freed:
		case <-timer.C:
			return nil, errs.New(errs.Unavailable, 0, "%s", t.busy)
		case <-stopping.Done():
			return nil, errs.New(errs.Unavailable, 0, "this server is stopping: try again")
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (t *turns) try(account string) (freed <-chan struct{}, taken bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == t.most || t.taken[account] == t.accountMost {
		return t.freed, false
	}
	t.all++
	t.taken[account]++
	return nil, true
}

func (t *turns) end(account string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all--
	if t.taken[account]--; t.taken[account] == 0 {
		delete(t.taken, account)
	}
	close(t.freed)
	t.freed = make(chan struct{})
}

// takeTurn waits until the request may have modules in memory, which it may until
// it is answered. Whoever has a turn already keeps it.
func (r *request) takeTurn() error {
	if r.endTurn != nil {
		return nil
	}
	end, err := r.server.turns.take(r.ctx, r.server.stopping, r.account)
	if err != nil {
		return err
	}
	r.endTurn = end
	connection, deadline := http.NewResponseController(r.gin.Writer), time.Now().Add(turnTime)
	return errors.Join(connection.SetReadDeadline(deadline), connection.SetWriteDeadline(deadline))
}

// leave ends what the request took.
func (r *request) leave() {
	if r.endTurn != nil {
		r.endTurn()
	}
}

// question waits until the account may ask ClickHouse one more thing. The caller ends
// the turn.
func (s *Server) question(ctx context.Context, account string) (end func(), err error) {
	return s.questions.take(ctx, s.stopping, account)
}

// asking gives a handler that asks ClickHouse its turn, or one that may read much at once.
func (s *Server) asking(handle func(*request) (any, error)) func(*request) (any, error) {
	return func(r *request) (any, error) {
		end, err := s.question(r.ctx, r.account)
		if err != nil {
			return nil, err
		}
		defer end()
		return handle(r)
	}
}
