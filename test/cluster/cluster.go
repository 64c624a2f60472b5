package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
	"tidegate/schema/control"
	"tidegate/test/cluster/network"
	"tidegate/test/platform"
	"tidegate/test/real/kafka"
)

const (
	script = "shop"
	// session is how long an ingest may be silent: as short as brokers allow unless they
	// are told otherwise.
	session = 6 * time.Second
	// rate of the load, requests a second at each router.
	rate = 30
)

// cluster is many of each. One goroutine plays scenarios on it.
type cluster struct {
	config
	net  *network.Network
	self *network.Host // clients, origins and receivers

	parts    []*part // all but Kafka, in the order of the start
	postgres *part
	engine   *part
	balancer *part // between clients and routers
	control  *part // the same, between routers and control planes: another one, so that a router can be cut off from these alone
	apis     []*part
	ingests  []*part
	routers  []*part

	kafka      *kafka.Cluster
	kafkaHosts []*network.Host

	platform *platform.Platform // seen through the balancer
	services *services
	load     *load
	folder   string            // where a job writes objects
	good     map[string]string // version id by what it answers
	repeats  float64           // events that routers of the earlier release may have sent twice
}

// start starts everything, with the roles of the earlier release.
func (c *cluster) start(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if c.self, err = c.net.AddSelf(ctx, 2); err != nil {
		return err
	}
	if err := c.startKafka(ctx); err != nil {
		return err
	}
	if err := c.define(ctx); err != nil {
		return err
	}
	if err := c.startStores(ctx); err != nil {
		return err
	}
	for _, p := range slices.Concat(c.apis, []*part{c.balancer, c.control}, c.ingests, c.routers) {
		if err := p.start(c.previous); err != nil {
			return err
		}
		// The first control plane makes the tables and the token, so one after the other.
		if p.role {
			err = p.ready(ctx)
		} else {
			err = c.accepts(ctx, p, apiPort)
		}
		if err != nil {
			return err
		}
	}
	token, err := os.ReadFile(c.path("token"))
	if err != nil {
		return err
	}
	c.platform = platform.At(platform.Ready{
		API: "http://" + c.control.Port(apiPort), Gateway: "http://" + c.balancer.Port(gatewayPort), Kafka: strings.Join(c.kafka.Access().Plaintext, ","),
		ClickHouse: "http://" + c.engine.Port(clickhousePort), AccountID: control.FirstAccountID,
	}, strings.TrimSpace(string(token)))
	if c.services, err = startServices(ctx, c.self.Addrs[1]); err != nil {
		return err
	}
	return c.prepare(ctx)
}

// path is a file or folder of this run.
func (c *cluster) path(name string) string { return filepath.Join(c.dir, name) }

func (c *cluster) startKafka(ctx context.Context) (err error) {
	var hosts []kafka.Host
	for i := range 3 {
		h, err := c.net.Add(ctx, fmt.Sprintf("kafka-%d", i+1))
		if err != nil {
			return err
		}
		c.kafkaHosts = append(c.kafkaHosts, h)
		hosts = append(hosts, kafka.Host{Addr: h.Addr().String(), Command: h.Command()})
	}
	dir := c.path("kafka")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return err
	}
	c.kafka, err = kafka.Start(ctx, kafka.Config{Jars: c.jars, Dir: dir, Brokers: len(hosts), Hosts: hosts})
	return err
}

// add makes a host and says what runs there. %s in the program stands for its address.
func (c *cluster) add(ctx context.Context, name string, role bool, program ...string) (*part, error) {
	h, err := c.net.Add(ctx, name)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(c.path(name + ".log"))
	if err != nil {
		return nil, err
	}
	for i, arg := range program {
		program[i] = strings.ReplaceAll(arg, "%s", h.Addr().String())
	}
	p := &part{Host: h, role: role, program: program, log: log}
	c.parts = append(c.parts, p)
	return p, nil
}

// define makes the hosts of all parts. These are all the flags there are.
func (c *cluster) define(ctx context.Context) (err error) {
	if c.postgres, err = c.definePostgres(ctx); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c.engine, err = c.add(ctx, "clickhouse", false, self, engineCommand, "-listen", fmt.Sprintf("%%s:%d", clickhousePort), "-dir", c.path("clickhouse"), "-bin", c.bin)
	if err != nil {
		return err
	}
	c.folder = c.path("objects")
	brokers := strings.Join(c.kafka.Access().Plaintext, ",")
	every := []string{"--kafka", brokers, "--topic-replication", "3", "--ops-addr", fmt.Sprintf("%%s:%d", opsPort)}
	stores := append(slices.Clone(every), "--clickhouse", "http://"+c.engine.Port(clickhousePort)+"/tidegate",
		"--database", "postgres://tidegate@"+c.postgres.Port(postgresPort)+"/postgres?sslmode=disable",
		"--logpush-allow-http", "--logpush-allow-private", "--logpush-file-roots", c.folder)
	for i := range 2 {
		p, err := c.add(ctx, fmt.Sprintf("api-%d", i+1), true, slices.Concat([]string{"jobs-api"}, stores,
			[]string{"--api-addr", fmt.Sprintf("%%s:%d", apiPort), "--admin-token-file", c.path("token")})...)
		if err != nil {
			return err
		}
		c.apis = append(c.apis, p)
	}
	for i := range 2 {
		p, err := c.add(ctx, fmt.Sprintf("ingest-%d", i+1), true, slices.Concat([]string{"ingest"}, stores,
			[]string{"--ingest-session-timeout", session.String(), "--logpush-interval", "3s"})...)
		if err != nil {
			return err
		}
		c.ingests = append(c.ingests, p)
	}
	if c.balancer, err = c.addBalancer(ctx, "balancer"); err != nil {
		return err
	}
	if c.control, err = c.addBalancer(ctx, "api-balancer"); err != nil {
		return err
	}
	for i := range 3 {
		name := fmt.Sprintf("router-%d", i+1)
		p, err := c.add(ctx, name, true, slices.Concat([]string{"router"}, every, []string{
			"--api-url", "http://" + c.control.Port(apiPort), "--api-token-file", c.path("token"),
			"--gateway-addr", fmt.Sprintf("%%s:%d", gatewayPort), "--data-dir", c.path(name), "--take-over"})...)
		if err != nil {
			return err
		}
		c.routers = append(c.routers, p)
	}
	return errors.Join(c.configure(c.balancer), c.configure(c.control))
}

func (c *cluster) addBalancer(ctx context.Context, name string) (*part, error) {
	return c.add(ctx, name, false, "haproxy", "-f", c.path(name+".cfg"))
}

// configure writes a balancer's configuration, as it is shipped, for these hosts.
func (c *cluster) configure(balancer *part) error {
	shipped, err := os.ReadFile(filepath.Join("deploy", "haproxy", "haproxy.cfg"))
	if err != nil {
		return err
	}
	text := strings.ReplaceAll(string(shipped), " resolvers docker init-addr libc,none", "")
	text = strings.Replace(text, "    nameserver embedded 127.0.0.11:53\n", "", 1)
	text = strings.Replace(text, "maxconn 20000", "maxconn 2000", 1) // within a usual limit of open files
	text = strings.Replace(text, "global\n", "global\n    stats socket "+c.path(balancer.Name+".sock")+" level admin\n", 1)
	servers := map[string]string{} // by backend
	for _, p := range c.routers {
		servers["routers"] += fmt.Sprintf("    server %s %s\n", p.Name, p.Port(gatewayPort))
	}
	for _, p := range c.apis {
		servers["jobs-api"] += fmt.Sprintf("    server %s %s\n", p.Name, p.Port(apiPort))
	}
	var lines []string
	backend := ""
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 2 && words[0] == "backend" {
			backend = words[1]
		}
		if len(words) > 0 && words[0] == "server" { // in their place: what comes before holds for them
			line = servers[backend]
			delete(servers, backend)
		}
		lines = append(lines, line)
	}
	return os.WriteFile(c.path(balancer.Name+".cfg"), []byte(strings.Join(lines, "")), 0o600)
}

func (c *cluster) definePostgres(ctx context.Context) (*part, error) {
	as, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL does not run as root: %w", err)
	}
	dir := c.path("postgres")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	uid, err := strconv.Atoi(as.Uid)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.Atoi(as.Gid)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return nil, err
	}
	command := []string{"setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups", "--"}
	setUp := exec.CommandContext(ctx, command[0], append(command[1:], filepath.Join(c.config.postgres, "initdb"), "-D", dir, "-U", "tidegate", "--auth=trust", "-E", "UTF8", "--locale=C")...)
	setUp.Dir = "/" // one that everybody may enter
	if out, err := setUp.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make a PostgreSQL database: %w\n%s", err, out)
	}
	access, err := os.OpenFile(filepath.Join(dir, "pg_hba.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(access, "host all all %s trust\n", network.Subnet)
	if err := errors.Join(err, access.Close()); err != nil {
		return nil, err
	}
	p, err := c.add(ctx, "postgres", false, append(command, filepath.Join(c.config.postgres, "postgres"), "-D", dir, "-p", strconv.Itoa(postgresPort), "-k", dir, "-c", "listen_addresses=%s")...)
	if err == nil {
		p.signal = syscall.SIGINT // the fast shutdown: SIGTERM waits for clients
	}
	return p, err
}

// startStores starts PostgreSQL and ClickHouse.
func (c *cluster) startStores(ctx context.Context) error {
	if err := c.engine.start(""); err != nil {
		return err
	}
	if err := c.postgres.start(""); err != nil {
		return err
	}
	return errors.Join(c.accepts(ctx, c.postgres, postgresPort), c.accepts(ctx, c.engine, clickhousePort))
}

// prepare deploys the script, makes the jobs, and starts the load.
func (c *cluster) prepare(ctx context.Context) error {
	if err := c.makeJobs(ctx); err != nil {
		return err
	}
	c.good = map[string]string{}
	for _, name := range []string{"blue", "green"} {
		id, err := c.platform.UploadOrigin(ctx, script, c.services.origin(name), name, "")
		if err != nil {
			return err
		}
		c.good[name] = id
	}
	if err := c.deploy(ctx, "blue"); err != nil {
		return err
	}
	if err := c.watch(ctx); err != nil {
		return err
	}
	c.load = newLoad(c.platform.Host(script))
	for _, p := range c.routers {
		c.load.at(p.Name, "http://"+p.Port(gatewayPort))
	}
	c.load.at(c.balancer.Name, c.platform.Gateway)
	if err := c.serveEverywhere(ctx, "blue"); err != nil {
		return err
	}
	c.load.start()
	return nil
}

// deploy gives one good version all traffic.
func (c *cluster) deploy(ctx context.Context, name string) error {
	_, err := c.platform.Deploy(ctx, script, deploy.Split{VersionID: c.good[name], Percentage: deploy.Full})
	return err
}

// serveEverywhere waits until all routers answer with a version, and the balancer knows them.
func (c *cluster) serveEverywhere(ctx context.Context, name string) error {
	for _, at := range c.load.list {
		err := until(ctx, at.name+" serves "+name, func() error {
			if body, err := c.load.visit(ctx, at); err != nil || body != name {
				return fmt.Errorf("it answered %q: %w", body, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) makeJobs(ctx context.Context) error {
	for name, destination := range map[string]string{"receiver": c.services.url + "/logs", "objects": "file://" + c.folder + "/{DATE}"} {
		job := map[string]any{
			"name": name, "dataset": "workers_trace_events", "enabled": true, "destination_conf": destination,
			"output_options": map[string]any{"field_names": []string{"Event"}},
		}
		err := until(ctx, "the job "+name+" is made", func() error {
			return c.platform.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", job, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// heal makes all links good ones, and everything run and serve.
func (c *cluster) heal(ctx context.Context) error {
	c.net.Heal()
	if err := c.kafka.Heal(ctx); err != nil {
		return err
	}
	for _, p := range c.parts {
		if p.process == nil {
			continue
		}
		if err := p.send(syscall.SIGCONT); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(c.apis, c.ingests, c.routers) {
		if p.process == nil {
			if err := p.start(c.bin); err != nil {
				return err
			}
		}
		if err := p.ready(ctx); err != nil {
			return err
		}
	}
	return c.counted(ctx)
}

// counted waits until ClickHouse has every record of Kafka, as at that moment.
func (c *cluster) counted(ctx context.Context) error {
	var want int64
	if err := until(ctx, "Kafka tells how many events it holds", func() (err error) {
		want, err = platform.TopicRecords(ctx, c.platform.Kafka, schema.Topic) // partitions may be without a leader
		return err
	}); err != nil {
		return err
	}
	return until(ctx, fmt.Sprintf("ClickHouse counts the %d events of Kafka", want), func() error {
		got, err := c.platform.Count(ctx, "SELECT count() FROM trace_events")
		if err == nil && got < want {
			err = fmt.Errorf("it counts %d", got)
		}
		return err
	})
}

// cut makes links silent.
func (c *cluster) cut(from, to []netip.Addr) { c.net.Set(from, to, network.Link{Cut: true}) }

// addrs of parts.
func addrs(parts ...*part) (list []netip.Addr) {
	for _, p := range parts {
		list = append(list, p.Addr())
	}
	return list
}

func (c *cluster) brokerAddrs() (list []netip.Addr) {
	for _, h := range c.kafkaHosts {
		list = append(list, h.Addr())
	}
	return list
}

// accepts waits until a part accepts connections.
func (c *cluster) accepts(ctx context.Context, p *part, port uint16) error {
	return until(ctx, p.Name+" accepts connections", func() error {
		select {
		case <-p.process.Done():
			return fatal{fmt.Errorf("%s ended by itself", p.Name)}
		default:
			return dial(ctx, p.Port(port))
		}
	})
}

// close ends everything, newest first, and removes the hosts.
func (c *cluster) close() error {
	c.net.Heal()
	if c.load != nil {
		c.load.stop()
	}
	var errs []error
	for _, p := range slices.Backward(c.parts) {
		for _, process := range p.all {
			process.Kill() // some may be paused, and nothing of this run is kept
		}
		errs = append(errs, p.log.Close())
	}
	if c.kafka != nil {
		errs = append(errs, c.kafka.Close())
	}
	if c.services != nil {
		c.services.close()
	}
	return errors.Join(append(errs, c.net.Close())...)
}
