package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tidegate/schema"
	"tidegate/test/cluster/network"
)

// scenarios in the order in which they are played. The last one counts.
var scenarios = []scenario{
	{"upgrade from an earlier release", "control planes, ingest and routers of an earlier release replaced one by one; in between old ones serve calls, count, deliver, and are restarted beside new ones", upgrade},
	{"change", "20 deployments, through the balancer", steady},
	{"router cut off", "the packets between a router and the control planes, with their balancer, lost, a deployment made meanwhile, and the router restarted", cutOffRouter},
	{"rollback: leader killed", "SIGKILL to the control plane that judges, with a bad version in traffic", rollbackWhile(killLeader)},
	{"rollback: leader frozen", "SIGSTOP to it until the other one has decided, then SIGCONT", rollbackWhile(freezeLeader)},
	{"rollback: leader without database", "the packets between it and PostgreSQL lost until the other one has decided", rollbackWhile(cutLeader)},
	{"Kafka: broker killed", "SIGKILL to one broker of three", killBroker},
	{"Kafka: router cut off", "the packets between a router and all brokers lost", cutRouterFromKafka},
	{"Kafka: bad network", "of the packets between ingest and the brokers 5 % lost, and each 50 ms late", badNetwork},
	{"ingest frozen", "SIGSTOP to an ingest for longer than its session, then SIGCONT", freezeIngest},
	{"ingest killed", "SIGKILL to an ingest, and another one started", killIngest},
	{"ClickHouse cut off", "the packets between it and ingest and control planes lost", cutClickHouse},
	{"PostgreSQL restarted", "a fast shutdown, and a start", restartPostgres},
	{"rolling restart", "every control plane, ingest and router replaced one by one by the same release", rollingRestart},
	{"account", "clients stop; everything is counted", account},
}

// moreAnswers waits for so many further answers: a fault lasts for as long as these take.
func (c *cluster) moreAnswers(ctx context.Context, count int) error {
	want := c.load.total() + count
	return until(ctx, fmt.Sprintf("clients have %d more answers", count), func() error {
		if c.load.total() < want {
			return errors.New("not yet")
		}
		return nil
	})
}

// aWhile of load, in answers: some 10 s at the rates of all targets.
const aWhile = 10 * 4 * rate

func steady(ctx context.Context, c *cluster) (string, error) {
	const changes = 20
	routers := c.load.list[:len(c.routers)]
	took := make([][]time.Duration, len(routers))
	var calls []time.Duration
	for i := range changes {
		name := []string{"green", "blue"}[i%2]
		began := time.Now()
		errs := make([]error, len(routers))
		var all sync.WaitGroup
		for j, at := range routers {
			all.Go(func() {
				errs[j] = until(ctx, at.name+" serves "+name, func() error {
					body, err := c.load.visit(ctx, at)
					if err == nil && body != name {
						err = fmt.Errorf("it serves %s", body)
					}
					return err
				})
				took[j] = append(took[j], time.Since(began))
			})
		}
		err := c.deploy(ctx, name)
		calls = append(calls, time.Since(began))
		all.Wait()
		if err := errors.Join(err, errors.Join(errs...)); err != nil {
			return "", err
		}
	}
	summary := func(name string, list []time.Duration) string {
		slices.Sort(list)
		return fmt.Sprintf("%s median %d ms, slowest %d ms", name, list[len(list)/2].Milliseconds(), list[len(list)-1].Milliseconds())
	}
	seen := []string{summary("the API's answer", calls)}
	for j, at := range routers {
		seen = append(seen, summary(at.name, took[j]))
	}
	all := slices.Concat(took...)
	late := slices.DeleteFunc(all, func(d time.Duration) bool { return d < time.Second })
	return fmt.Sprintf("from the request until the new version answers: %s; %d of %d under a second", strings.Join(seen, ", "), changes*len(routers)-len(late), changes*len(routers)), nil
}

// other is the good version that is not served.
func (c *cluster) other(ctx context.Context) (now, next string, err error) {
	if now, err = c.load.visit(ctx, c.load.list[0]); err != nil {
		return "", "", err
	}
	return now, map[string]string{"blue": "green", "green": "blue"}[now], nil
}

func cutOffRouter(ctx context.Context, c *cluster) (string, error) {
	router := c.routers[2]
	at := c.load.target(router.Name)
	now, next, err := c.other(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	c.cut(addrs(router), addrs(c.control, c.apis[0], c.apis[1]))
	if err := c.deploy(ctx, next); err != nil {
		return "", err
	}
	for _, t := range c.load.list[:2] {
		if err := until(ctx, t.name+" has the change", func() error { return c.serves(ctx, t, next) }); err != nil {
			return "", err
		}
	}
	told, err := c.saysCutOff(ctx, router, began)
	if err != nil {
		return "", err
	}
	age, err := router.metric(ctx, "tidegate_gateway_snapshot_age_seconds", "")
	if err != nil {
		return "", err
	}
	if err := until(ctx, "the age of the snapshot grows", func() error {
		later, err := router.metric(ctx, "tidegate_gateway_snapshot_age_seconds", "")
		if err == nil && later < age+1 {
			err = fmt.Errorf("it was %.1f s and is %.1f s", age, later)
		}
		return err
	}); err != nil {
		return "", err
	}
	if err := c.serves(ctx, at, now); err != nil {
		return "", err
	}
	if err := c.restartDrained(ctx, router); err != nil {
		return "", err
	}
	if err := c.serves(ctx, at, now); err != nil {
		return "", fmt.Errorf("after a restart: %w", err)
	}
	began = time.Now()
	again, err := c.saysCutOff(ctx, router, began)
	if err != nil {
		return "", fmt.Errorf("after a restart: %w", err)
	}
	if err := c.serves(ctx, at, now); err != nil {
		return "", err
	}
	began = time.Now()
	c.net.Heal()
	if err := until(ctx, router.Name+" has the change", func() error { return c.serves(ctx, at, next) }); err != nil {
		return "", err
	}
	healed := time.Since(began)
	if err := until(ctx, router.Name+" says nothing any more", func() error {
		note, err := router.note(ctx)
		if err == nil && note != "" {
			err = errors.New(note)
		}
		return err
	}); err != nil {
		return "", err
	}
	return fmt.Sprintf("it served its last snapshot all the time, also from disk after the restart; the others had the change. /readyz said so %.0f s after the cut and %.0f s after the restart, and the snapshot's age grew. It had the change %.1f s after the network was whole",
		told.Seconds(), again.Seconds(), healed.Seconds()), nil
}

// saysCutOff waits until /readyz of a router says that its snapshot may be out of date.
func (c *cluster) saysCutOff(ctx context.Context, router *part, since time.Time) (time.Duration, error) {
	err := until(ctx, router.Name+" says that it is cut off", func() error {
		note, err := router.note(ctx)
		if err == nil && !strings.Contains(note, "serves snapshot") {
			err = fmt.Errorf("/readyz says %q", note)
		}
		return err
	})
	return time.Since(since), err
}

func (c *cluster) serves(ctx context.Context, at *target, name string) error {
	body, err := c.load.visit(ctx, at)
	if err == nil && body != name {
		err = fmt.Errorf("%s serves %s, not %s", at.name, body, name)
	}
	return err
}

func killBroker(ctx context.Context, c *cluster) (string, error) {
	const broker = 3
	if err := c.kafka.Kill(broker); err != nil {
		return "", err
	}
	if err := c.moreAnswers(ctx, aWhile); err != nil {
		return "", err
	}
	began := time.Now()
	if err := c.counted(ctx); err != nil {
		return "", err
	}
	lag := time.Since(began)
	began = time.Now()
	if err := c.kafka.Heal(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("events went on to ClickHouse, which had all of them within %.1f s; the broker was in sync again %.0f s after its start", lag.Seconds(), time.Since(began).Seconds()), nil
}

func cutRouterFromKafka(ctx context.Context, c *cluster) (string, error) {
	router := c.routers[0]
	c.cut(addrs(router), c.brokerAddrs())
	began := time.Now()
	spool := func(holds func(float64) bool) func() error {
		return func() error {
			bytes, err := router.metric(ctx, "tidegate_stream_spool_bytes", schema.Topic)
			if err == nil && !holds(bytes) {
				err = fmt.Errorf("it has %.0f bytes", bytes)
			}
			return err
		}
	}
	if err := until(ctx, "the spool fills", spool(func(b float64) bool { return b > 0 })); err != nil {
		return "", err
	}
	filled := time.Since(began)
	if err := c.moreAnswers(ctx, aWhile); err != nil {
		return "", err
	}
	c.net.Heal()
	began = time.Now()
	if err := until(ctx, "the spool is empty", spool(func(b float64) bool { return b == 0 })); err != nil {
		return "", err
	}
	spooled, err := router.metric(ctx, "tidegate_stream_events_spooled_total", schema.Topic)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("requests were answered as ever; the first events were in the spool %.0f s after the cut, %.0f went through it, and it was empty %.0f s after the network was whole", filled.Seconds(), spooled, time.Since(began).Seconds()), nil
}

func badNetwork(ctx context.Context, c *cluster) (string, error) {
	c.net.Set(addrs(c.ingests...), c.brokerAddrs(), network.Link{Loss: 0.05, Delay: 50 * time.Millisecond})
	if err := c.moreAnswers(ctx, 2*aWhile); err != nil {
		return "", err
	}
	began := time.Now()
	if err := c.counted(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("ClickHouse had every event %.1f s later, still over that network", time.Since(began).Seconds()), nil
}

func freezeIngest(ctx context.Context, c *cluster) (string, error) {
	frozen := c.ingests[0]
	if err := frozen.send(syscall.SIGSTOP); err != nil {
		return "", err
	}
	if err := c.moreAnswers(ctx, aWhile); err != nil {
		return "", err
	}
	// All of it only after the other one has taken over.
	if err := c.counted(ctx); err != nil {
		return "", err
	}
	if err := frozen.send(syscall.SIGCONT); err != nil {
		return "", err
	}
	if err := c.moreAnswers(ctx, aWhile/2); err != nil {
		return "", err
	}
	return "the other one took the partitions over and counted everything; both went on together", c.counted(ctx)
}

func killIngest(ctx context.Context, c *cluster) (string, error) {
	c.ingests[1].kill()
	if err := c.moreAnswers(ctx, aWhile); err != nil {
		return "", err
	}
	if err := c.counted(ctx); err != nil {
		return "", err
	}
	return "the other one took the partitions over and counted everything", nil
}

func cutClickHouse(ctx context.Context, c *cluster) (string, error) {
	before, err := c.platform.Count(ctx, "SELECT count() FROM trace_events")
	if err != nil {
		return "", err
	}
	c.cut(addrs(c.engine), addrs(slices.Concat(c.ingests, c.apis)...))
	if err := c.moreAnswers(ctx, 2*aWhile); err != nil {
		return "", err
	}
	during, err := c.platform.Count(ctx, "SELECT count() FROM trace_events")
	if err != nil {
		return "", err
	}
	c.net.Heal()
	began := time.Now()
	if err := c.counted(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d events were stored during the cut; all the others %.0f s after the network was whole", during-before, time.Since(began).Seconds()), nil
}

func restartPostgres(ctx context.Context, c *cluster) (string, error) {
	began := time.Now()
	if err := c.postgres.send(cmp.Or(c.postgres.signal, syscall.SIGTERM)); err != nil {
		return "", err
	}
	select {
	case <-c.postgres.process.Done():
	case <-ctx.Done():
		return "", errors.New("PostgreSQL does not stop")
	}
	if err := c.moreAnswers(ctx, aWhile/2); err != nil {
		return "", err
	}
	if err := c.postgres.start(""); err != nil {
		return "", err
	}
	if err := c.accepts(ctx, c.postgres, postgresPort); err != nil {
		return "", err
	}
	up := time.Now()
	_, next, err := c.other(ctx)
	if err != nil {
		return "", err
	}
	if err := until(ctx, "the API deploys", func() error { return c.deploy(ctx, next) }); err != nil {
		return "", err
	}
	deployed := time.Since(up)
	if err := c.serveEverywhere(ctx, next); err != nil {
		return "", err
	}
	return fmt.Sprintf("it was away for %.0f s; requests were answered as ever; the API deployed again %.1f s after it accepted connections", up.Sub(began).Seconds(), deployed.Seconds()), nil
}
