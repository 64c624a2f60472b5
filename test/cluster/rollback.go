package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"tidegate/internal/deploy"
)

// fault takes the control plane that judges away, and returns what brings it back.
type fault func(ctx context.Context, c *cluster, leader *part) (mend func() error, err error)

func killLeader(_ context.Context, _ *cluster, leader *part) (func() error, error) {
	leader.kill()
	return func() error { return nil }, nil // heal starts another one
}

func freezeLeader(_ context.Context, _ *cluster, leader *part) (func() error, error) {
	return func() error { return leader.send(syscall.SIGCONT) }, leader.send(syscall.SIGSTOP)
}

func cutLeader(_ context.Context, c *cluster, leader *part) (func() error, error) {
	c.cut(addrs(leader), addrs(c.postgres))
	return func() error { c.net.Heal(); return nil }, nil
}

// watch gives the script a policy that has nothing but defaults, and tells the services.
func (c *cluster) watch(ctx context.Context) error {
	policy := map[string]any{"enabled": true, "notify": []map[string]any{{"type": "webhook", "url": c.services.url + "/told"}}}
	return c.platform.API(ctx, http.MethodPut, "/accounts/{account}/workers/scripts/"+script+"/rollback-policy", policy, nil)
}

// rollbackWhile puts a bad version into traffic, and breaks the control plane that
// judges at the moment when half of the evidence is there. There must be one rollback,
// one decision about it, and one notification.
func rollbackWhile(breaks fault) func(context.Context, *cluster) (string, error) {
	return func(ctx context.Context, c *cluster) (string, error) {
		good, _, err := c.other(ctx)
		if err != nil {
			return "", err
		}
		name := fmt.Sprintf("bad-%d", time.Now().UnixNano())
		bad, err := c.platform.UploadOrigin(ctx, script, c.services.origin(name), name, "")
		if err != nil {
			return "", err
		}
		leader, err := c.leader(ctx)
		if err != nil {
			return "", err
		}
		began := time.Now()
		if _, err := c.platform.Deploy(ctx, script, deploy.Split{VersionID: c.good[good], Percentage: deploy.Full / 2}, deploy.Split{VersionID: bad, Percentage: deploy.Full / 2}); err != nil {
			return "", err
		}
		before, err := c.platform.Deployments(ctx, script)
		if err != nil {
			return "", err
		}
		mend, err := breaks(ctx, c, leader)
		if err != nil {
			return "", err
		}
		if err := until(ctx, "the bad version is out of traffic", func() error {
			list, err := c.platform.Deployments(ctx, script)
			if err == nil && (len(list[0].Versions) != 1 || list[0].Versions[0].VersionID != c.good[good]) {
				err = fmt.Errorf("the newest deployment is %+v", list[0].Versions)
			}
			return err
		}); err != nil {
			return "", err
		}
		took := time.Since(began)
		for _, at := range c.load.list[:len(c.routers)] {
			if err := until(ctx, at.name+" serves "+good+" alone", func() error { return c.servesAlone(ctx, at, good) }); err != nil {
				return "", err
			}
		}
		everywhere := time.Since(began)
		next, err := c.leader(ctx)
		if err != nil {
			return "", err
		}
		if err := mend(); err != nil {
			return "", err
		}
		if err := c.heal(ctx); err != nil {
			return "", err
		}
		if err := c.judgedSince(ctx, time.Now()); err != nil {
			return "", err
		}
		if err := c.decidedOnce(ctx, bad, before[0].ID, len(before)); err != nil {
			return "", err
		}
		who := next.Name + " took over from " + leader.Name
		if next == leader {
			who = leader.Name + " decided before it was gone"
		}
		return fmt.Sprintf("rolled back after %.1f s, and so on every router after %.1f s, still during the fault; %s; one deployment, one decision, one notification", took.Seconds(), everywhere.Seconds(), who), c.serveEverywhere(ctx, good)
	}
}

// servesAlone asks so often that a version with half of the traffic would answer, too,
// but once in a billion.
func (c *cluster) servesAlone(ctx context.Context, at *target, name string) error {
	for range 30 {
		if err := c.serves(ctx, at, name); err != nil {
			return err
		}
	}
	return nil
}

// lease returns who judges and until when, from the database itself.
func (c *cluster) lease(ctx context.Context) (holder string, expires time.Time, err error) {
	conn, err := pgx.Connect(ctx, "postgres://tidegate@"+c.postgres.Port(postgresPort)+"/postgres?sslmode=disable")
	if err != nil {
		return "", expires, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var micros int64
	err = conn.QueryRow(ctx, "SELECT holder, expires_on FROM leases WHERE name = 'rollback'").Scan(&holder, &micros)
	return holder, time.UnixMicro(micros), err
}

// leader waits until a control plane judges, and returns it.
func (c *cluster) leader(ctx context.Context) (leader *part, err error) {
	err = until(ctx, "a control plane judges", func() error {
		holder, expires, err := c.lease(ctx)
		if err != nil {
			return err
		}
		for _, p := range c.apis {
			if strings.HasPrefix(holder, p.Name+"/") && time.Now().Before(expires) {
				leader = p
				return nil
			}
		}
		return fmt.Errorf("the lease is %q's until %s", holder, expires)
	})
	return leader, err
}

// judgedSince waits until the lease was renewed for several seconds, in which whoever has
// it judges twice each.
func (c *cluster) judgedSince(ctx context.Context, since time.Time) error {
	const renewed = 6*time.Second + 5*time.Second // a lease's time, and so many seconds
	return until(ctx, "deployments are judged again", func() error {
		_, expires, err := c.lease(ctx)
		if err == nil && expires.Before(since.Add(renewed)) {
			err = fmt.Errorf("the lease ends at %s", expires)
		}
		return err
	})
}

// decidedOnce checks what became of a bad version that a deployment brought.
func (c *cluster) decidedOnce(ctx context.Context, bad, deployment string, deployments int) error {
	list, err := c.platform.Deployments(ctx, script)
	if err != nil {
		return err
	}
	if len(list) != deployments+1 || list[1].ID != deployment {
		return fmt.Errorf("there are %d deployments, want one more than %d", len(list), deployments)
	}
	var decisions []deploy.RollbackDecision
	if err := c.platform.API(ctx, http.MethodGet, "/accounts/{account}/workers/scripts/"+script+"/rollback-decisions", nil, &decisions); err != nil {
		return err
	}
	count := 0
	for _, d := range decisions {
		if d.VersionID == bad && d.Action == deploy.ActionRollback {
			count++
		}
	}
	if count != 1 {
		return fmt.Errorf("%d decisions rolled the version back: %+v", count, decisions)
	}
	return until(ctx, "the receiver is told", func() error {
		// Of other kinds there may be some: where rates cannot be read for a while, that
		// is told, too.
		told := c.services.notifications(bad)
		maps.DeleteFunc(told, func(message string, _ int) bool { return !strings.HasPrefix(message, string(deploy.OnRollback)+" ") })
		switch {
		case len(told) == 0:
			return errors.New("nothing came")
		case len(told) > 1:
			return fatal{fmt.Errorf("more than one notification of the rollback came: %v", told)}
		}
		return nil
	})
}
