// Package kafka starts Apache Kafka for tests, in KRaft mode from its Maven
// artifacts, and lets a test take its brokers away one by one.
//
// A test gets a cluster by
//
//	cluster := kafka.ForTest(t) // three brokers, for this test alone; skips without TIDEGATE_TEST_KAFKA_CLUSTER
//	brokers := cluster.Access().Plaintext
//	cluster.Kill(id)            // SIGKILL; Restart(ctx, id...) starts it again on the same data and ports
//	cluster.Pause(id)           // SIGSTOP; Resume
//	cluster.Leader(ctx, topic, partition)
//	cluster.Heal(ctx)           // all brokers run and all replicas are in sync; also after each test
//
// and its package calls CloseShared at the end of TestMain. Broker ids are 1 to n.
// Each test binary that asks for one starts a cluster of its own, so suites may run
// at the same time; TIDEGATE_TEST_KAFKA_CLUSTER names the folder of Kafka's jars,
// which test/real/run.sh installs. Topics of a cluster of three have three replicas
// by default, of which two must be in sync.
//
// The brokers of a cluster listen in clear text, with TLS that asks for the client's
// certificate, and with TLS and a login; Access has what a client needs for each.
// The command serve runs one until it is told to stop.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Config of a cluster.
type Config struct {
	Jars    string // folder of Kafka's jars and what they need
	Dir     string // empty folder for data, logs and certificates
	Brokers int
	Port    int    // of broker 1 in clear text; 0 picks one
	Hosts   []Host // of all brokers; nil: the loopback interface. Then names in certificates do not fit
}

// Host is where a broker runs and listens.
type Host struct {
	Addr    string   // IP address
	Command []string // comes before the broker's own command line; nil on this machine
}

// Access is what clients need. Each list has an address for every broker, in the
// order of ids.
type Access struct {
	Plaintext []string
	MutualTLS []string // asks for a certificate of the client
	SASL      []string // TLS, and a login by PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512

	CAFile       string // signs the brokers' certificates, for the name "localhost" and 127.0.0.1, and the client's
	CertFile     string // of a client
	KeyFile      string
	Username     string // the same for every mechanism
	PasswordFile string
}

// Cluster is some brokers, each of which is also a controller. Its methods may be
// called concurrently, but not for one broker.
type Cluster struct {
	cfg     Config
	access  Access
	brokers []*broker
}

// broker is one process, and the one that takes its place.
type broker struct {
	command    []string // before the broker's own
	properties string   // file
	addr       string   // in clear text
	log        string

	mu    sync.Mutex
	cmd   *exec.Cmd     // nil when it does not run
	ended chan struct{} // closed when cmd has ended
}

// readyTimeout is generous: three Java processes that start on two busy cores.
const readyTimeout = 2 * time.Minute

// Start starts a cluster and returns when all brokers serve. The caller ends it by
// Close.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	c := &Cluster{cfg: cfg}
	if err := c.prepare(ctx); err != nil {
		return nil, fmt.Errorf("prepare a Kafka cluster: %w", err)
	}
	if err := c.Restart(ctx, c.Brokers()...); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Access returns what clients need to reach the cluster.
func (c *Cluster) Access() Access { return c.access }

// Brokers returns the ids of all brokers, whether they run or not.
func (c *Cluster) Brokers() []int {
	ids := make([]int, len(c.brokers))
	for i := range ids {
		ids[i] = i + 1
	}
	return ids
}

// Kill ends a broker by SIGKILL and returns when it is gone. One that does not run
// is left alone.
func (c *Cluster) Kill(id int) error {
	b := c.broker(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return nil
	}
	if err := b.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill broker %d: %w", id, err)
	}
	<-b.ended
	b.cmd = nil
	return nil
}

// Pause stops a broker by SIGSTOP: its connections stay open, and nobody answers. One
// that does not run is left alone, also by Resume.
func (c *Cluster) Pause(id int) error { return c.signal(id, syscall.SIGSTOP) }

// Resume lets a paused broker go on.
func (c *Cluster) Resume(id int) error { return c.signal(id, syscall.SIGCONT) }

func (c *Cluster) signal(id int, s syscall.Signal) error {
	b := c.broker(id)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil {
		return nil
	}
	if err := b.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal broker %d: %w", id, err)
	}
	return nil
}

// Restart starts brokers that were killed, with their data and on their ports, and
// returns when each accepts connections; it may be behind the others for a while. Of a
// cluster most of which was killed none serves before most are there again, so they
// are named in one call. Brokers that run are left alone.
func (c *Cluster) Restart(ctx context.Context, ids ...int) error {
	for _, id := range ids {
		if err := c.broker(id).start(c.cfg.Jars); err != nil {
			return err
		}
	}
	for _, id := range ids {
		if err := c.broker(id).await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Heal makes all brokers run, and waits until the replicas of every partition are in
// sync and led by the first of them, as in the beginning.
func (c *Cluster) Heal(ctx context.Context) error {
	for _, id := range c.Brokers() {
		if err := c.Resume(id); err != nil {
			return err
		}
	}
	if err := c.Restart(ctx, c.Brokers()...); err != nil {
		return err
	}
	return c.awaitInSync(ctx)
}

// Close kills every broker. The data stays in Dir.
func (c *Cluster) Close() error {
	var failed []error
	for _, id := range c.Brokers() {
		failed = append(failed, c.Kill(id))
	}
	return errors.Join(failed...)
}

func (c *Cluster) broker(id int) *broker { return c.brokers[id-1] }

func (b *broker) start(jars string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		select {
		case <-b.ended: // by itself
		default:
			return nil
		}
	}
	log, err := os.OpenFile(b.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }() // the process has its own
	command := slices.Concat(b.command, []string{"java"}, javaArgs(jars, "-Xmx512m", "kafka.Kafka", b.properties))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, dieWithParent()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start a broker: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed, most likely; await shows the log of one that was not
		close(ended)
	}()
	b.cmd, b.ended = cmd, ended
	return nil
}

// await returns when the broker accepts connections.
func (b *broker) await(ctx context.Context) error {
	b.mu.Lock()
	ended := b.ended
	b.mu.Unlock()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", b.addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ended:
			return fmt.Errorf("a broker ended before it was ready; the end of its log:\n%s", tail(b.log))
		case <-ctx.Done():
			return fmt.Errorf("wait for the broker at %s: %w; the end of its log:\n%s", b.addr, ctx.Err(), tail(b.log))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// javaArgs ask for what makes short-lived processes on few cores quick.
func javaArgs(jars, heap string, args ...string) []string {
	return append([]string{heap, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-cp", filepath.Join(jars, "*")}, args...)
}

func tail(file string) string {
	const size = 4000
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-size):])
}

// freePort is below the range from which the kernel takes the ports of outgoing
// connections: a broker that was killed finds its port free again.
func freePort() (int, error) {
	for range 100 {
		port := 20000 + rand.IntN(10000)
		listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, listener.Close()
		}
	}
	return 0, errors.New("no port from 20000 to 29999 is free")
}
