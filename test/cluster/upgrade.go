package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
	"tidegate/test/platform"
)

// upgrade replaces the earlier release, and has old and new work side by side on the way.
// An old process must also start beside new ones: machines restart in the middle, too.
func upgrade(ctx context.Context, c *cluster) (string, error) {
	return c.roll(ctx, func(ctx context.Context, replaced *part) error {
		old := c.apis[1]
		if replaced == c.ingests[0] {
			old = c.ingests[1]
		}
		if err := c.works(ctx, c.apis[1]); err != nil {
			return fmt.Errorf("after %s is the new release, %s of the old one: %w", replaced.Name, c.apis[1].Name, err)
		}
		if err := c.restart(ctx, old, c.previous); err != nil {
			return fmt.Errorf("start %s of the old release after %s is the new one: %w", old.Name, replaced.Name, err)
		}
		if err := c.works(ctx, c.apis[1]); err != nil {
			return fmt.Errorf("after a restart of %s: %w", old.Name, err)
		}
		return c.counted(ctx)
	})
}

func rollingRestart(ctx context.Context, c *cluster) (string, error) {
	return c.roll(ctx, func(context.Context, *part) error { return nil })
}

// restart replaces a process in order.
func (c *cluster) restart(ctx context.Context, p *part, bin string) error {
	if err := p.stop(); err != nil {
		return err
	}
	if err := p.start(bin); err != nil {
		return err
	}
	return p.ready(ctx)
}

// works checks that a control plane serves calls that read and write, and that a
// deployment through it reaches every router.
func (c *cluster) works(ctx context.Context, api *part) error {
	here := platform.At(c.platform.Ready, c.platform.Token)
	here.Ready.API = "http://" + api.Port(apiPort)
	_, next, err := c.other(ctx)
	if err != nil {
		return err
	}
	if _, err := here.Deploy(ctx, script, deploy.Split{VersionID: c.good[next], Percentage: deploy.Full}); err != nil {
		return err
	}
	for _, path := range []string{"/accounts/{account}/workers/scripts", "/accounts/{account}/workers/scripts/" + script + "/versions", "/accounts/{account}/logpush/jobs",
		"/accounts/{account}/workers/scripts/" + script + "/rollback-policy", "/accounts/{account}/workers/scripts/" + script + "/rollback-decisions"} {
		if err := here.API(ctx, http.MethodGet, path, nil, nil); err != nil {
			return err
		}
	}
	if _, err := here.UploadOrigin(ctx, script, c.services.origin("unused"), "unused", ""); err != nil {
		return err
	}
	return c.serveEverywhere(ctx, next)
}

// roll replaces each role one process at a time: control planes and ingest by SIGTERM and
// a start, two routers by a take-over, the third one drained by the balancer. half is
// called after the first control plane and after the first ingest.
func (c *cluster) roll(ctx context.Context, half func(ctx context.Context, replaced *part) error) (string, error) {
	calls := c.startCalls()
	defer calls.stop()
	began := time.Now()
	// The new control plane migrates PostgreSQL, and the new ingest ClickHouse, while the
	// other one of each goes on.
	for i, p := range []*part{c.apis[0], c.ingests[0], c.ingests[1], c.routers[0], c.routers[1], c.routers[2], c.apis[1]} {
		var err error
		switch p {
		case c.routers[0], c.routers[1]:
			err = c.takeOver(ctx, p)
		case c.routers[2]:
			err = c.drainAndRestart(ctx, p)
		default:
			err = c.restart(ctx, p, c.bin)
		}
		if err != nil {
			return "", fmt.Errorf("replace %s: %w", p.Name, err)
		}
		if err := c.moreAnswers(ctx, aWhile/5); err != nil {
			return "", err
		}
		if err := c.counted(ctx); err != nil {
			return "", fmt.Errorf("after %s was replaced: %w", p.Name, err)
		}
		if i < 2 {
			if err := half(ctx, p); err != nil {
				return "", err
			}
		}
	}
	took := time.Since(began)
	good, retried, errs := calls.stop()
	if len(errs) > 0 {
		return "", fmt.Errorf("%d of %d API calls failed twice in a row, first: %w", len(errs), good+len(errs), errs[0])
	}
	return fmt.Sprintf("7 processes in %.0f s; no request of a client failed; of %d API calls %d were sent again, once, and none failed", took.Seconds(), good, retried), nil
}

// takeOver starts a router that takes the sockets of the one that runs.
func (c *cluster) takeOver(ctx context.Context, router *part) error {
	if err := c.noteRepeats(ctx, router); err != nil {
		return err
	}
	old := router.process
	if err := router.start(c.bin); err != nil {
		return err
	}
	select {
	case <-old.Done():
	case <-router.process.Done():
		return errors.New("the new router ended")
	case <-ctx.Done():
		return errors.New("the old router did not end after it was replaced")
	}
	if err := old.Terminate(time.Second); err != nil { // it has ended: this is how
		return fmt.Errorf("the old router: %w", err)
	}
	return router.ready(ctx)
}

// drainAndRestart replaces a router while the balancer sends nobody there.
func (c *cluster) drainAndRestart(ctx context.Context, router *part) error {
	if err := c.tellBalancer(ctx, "set server routers/"+router.Name+" state drain"); err != nil {
		return err
	}
	if err := c.restartDrained(ctx, router); err != nil {
		return err
	}
	return c.tellBalancer(ctx, "set server routers/"+router.Name+" state ready")
}

// restartDrained restarts a router while its own clients do not ask.
func (c *cluster) restartDrained(ctx context.Context, router *part) error {
	if err := c.noteRepeats(ctx, router); err != nil {
		return err
	}
	at := c.load.target(router.Name)
	at.pause.Lock()
	defer at.pause.Unlock()
	return c.restart(ctx, router, c.bin)
}

func (c *cluster) tellBalancer(ctx context.Context, command string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.path(c.balancer.Name+".sock"))
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // it was read to its end
	if _, err := io.WriteString(conn, command+"\n"); err != nil {
		return err
	}
	answer, err := io.ReadAll(conn)
	if err == nil && len(answer) > 1 {
		err = fmt.Errorf("the balancer answers %q to %q", answer, command)
	}
	return err
}

// noteRepeats keeps what a router of the earlier release says of events which it may have
// sent twice, before it ends. This release sends none twice.
func (c *cluster) noteRepeats(ctx context.Context, router *part) error {
	n, err := router.metric(ctx, "tidegate_stream_events_repeat_possible_total", schema.Topic)
	if err == nil && n > 0 && router.release == c.bin {
		err = fmt.Errorf("%s says that Kafka may have %.0f events twice", router.Name, n)
	}
	c.repeats += n
	return err
}

// calls of the API through the balancer, each sent again once if it fails.
type calls struct {
	end  context.CancelFunc
	done chan struct{}
	once sync.Once

	good, retried int
	errs          []error
}

func (c *cluster) startCalls() *calls {
	ctx, cancel := context.WithCancel(context.Background())
	k := &calls{end: cancel, done: make(chan struct{})}
	call := func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, err := c.platform.Deployments(ctx, script)
		return err
	}
	go func() {
		defer close(k.done)
		every := time.NewTicker(50 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-every.C:
			}
			err := call()
			if err != nil {
				k.retried++
				err = call()
			}
			if err != nil {
				k.errs = append(k.errs, fmt.Errorf("%s: %w", time.Now().UTC().Format("15:04:05.000"), err))
				continue
			}
			k.good++
		}
	}()
	return k
}

// stop ends the calls and returns what came of them.
func (k *calls) stop() (good, retried int, errs []error) {
	k.once.Do(k.end)
	<-k.done
	return k.good, k.retried, k.errs
}
