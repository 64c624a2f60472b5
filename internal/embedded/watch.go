package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	// defaultHangTimeout leaves a machine that swaps, or a disk that stalls, time to come back.
	defaultHangTimeout = 30 * time.Second
	// pingsPerTimeout is how often a working engine is asked in that time.
	pingsPerTimeout = 6
)

// errHung is how a child ends that watch killed.
var errHung = errors.New("the engine stopped answering and was killed")

// watch asks a child for an answer again and again until ctx ends, and kills it when hangTimeout passes without
// one. It reports whether it did. An engine that is busy answers, because it keeps a slot for this; one that is
// still loading its tables is waited for without a limit.
func (e *Engine) watch(ctx context.Context, child *os.Process) (hung bool) {
	serves := false
	for {
		asked, cancel := ctx, context.CancelFunc(func() {})
		if serves {
			asked, cancel = context.WithTimeout(ctx, e.hangTimeout)
		}
		err := e.ping(asked)
		late := errors.Is(asked.Err(), context.DeadlineExceeded)
		cancel()
		if err == nil {
			serves = true
		} else if late && ctx.Err() == nil {
			// A child that has just ended by itself cannot be killed, and did not hang.
			return child.Kill() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(e.hangTimeout / pingsPerTimeout):
		}
	}
}

// ping asks whether the engine works. The request waits in the socket's queue until a child takes it.
func (e *Engine) ping(ctx context.Context) error {
	transport := &http.Transport{DisableKeepAlives: true}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+e.Addr()+alivePath, nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s to %s", resp.Status, alivePath)
	}
	return nil
}
