package stream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	realkafka "tidegate/test/real/kafka"
)

// broker is a Kafka for one test.
type broker struct {
	t        testing.TB
	cluster  *kfake.Cluster // nil when external
	dir      string
	port     int
	addrs    []string
	security Security
	options  []kfake.Opt
}

// eachBroker runs a contract in clear text, and with a login over TLS: on the Kafka that
// TIDEGATE_TEST_KAFKA_ACCESS describes, or else on a broker in this process.
func eachBroker(t *testing.T, contract func(t *testing.T, b *broker)) {
	external, isExternal := realkafka.ExternalAccess(t)
	t.Run("plaintext", func(t *testing.T) {
		if isExternal {
			contract(t, &broker{t: t, addrs: external.Plaintext})
			return
		}
		contract(t, startOwnBroker(t))
	})
	t.Run("login over TLS", func(t *testing.T) {
		if isExternal {
			contract(t, &broker{t: t, addrs: external.SASL, security: loginOverTLS(external, "SCRAM-SHA-512")})
			return
		}
		contract(t, startSecureBroker(t, "SCRAM-SHA-512"))
	})
}

func loginOverTLS(a realkafka.Access, mechanism string) Security {
	return Security{TLS: true, CAFile: a.CAFile, Mechanism: mechanism, Username: a.Username, PasswordFile: a.PasswordFile}
}

// startSecureBroker starts one in this process with TLS and a login.
func startSecureBroker(t testing.TB, mechanism string) *broker {
	t.Helper()
	access, config := serverTLS(t)
	password, err := os.ReadFile(access.PasswordFile)
	if err != nil {
		t.Fatal(err)
	}
	b := startOwnBroker(t, kfake.EnableSASL(), kfake.Superuser(mechanism, access.Username, string(password)), kfake.TLS(config))
	b.security = loginOverTLS(access, mechanism)
	return b
}

// startMutualBroker starts one in this process that asks for the client's certificate.
func startMutualBroker(t testing.TB) (*broker, realkafka.Access) {
	t.Helper()
	access, config := serverTLS(t)
	text, err := os.ReadFile(access.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	config.ClientCAs.AppendCertsFromPEM(text)
	return startOwnBroker(t, kfake.TLS(config)), access
}

func serverTLS(t testing.TB) (realkafka.Access, *tls.Config) {
	t.Helper()
	access, keyStore, err := realkafka.WriteCredentials(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.LoadX509KeyPair(keyStore, keyStore)
	if err != nil {
		t.Fatal(err)
	}
	return access, &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}
}

// startOwnBroker is for tests that stop the broker or look inside it.
func startOwnBroker(t testing.TB, options ...kfake.Opt) *broker {
	t.Helper()
	b := &broker{t: t, dir: t.TempDir(), options: options}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	options := append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.DataDir(b.dir), kfake.Ports(b.port),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
		kfake.BrokerConfigs(map[string]string{"group.initial.rebalance.delay.ms": "0"}),
	}, b.options...)
	var err error
	// The port may linger in the kernel for a moment after a stop.
	eventually(b.t, "start the broker", func() error {
		b.cluster, err = kfake.NewCluster(options...)
		return err
	})
	b.addrs = b.cluster.ListenAddrs()
	_, port, err := net.SplitHostPort(b.addrs[0])
	if err != nil {
		b.t.Fatal(err)
	}
	if b.port, err = strconv.Atoi(port); err != nil {
		b.t.Fatal(err)
	}
}

func (b *broker) stop() {
	if b.cluster != nil {
		b.cluster.Close()
		b.cluster = nil
	}
}

// control has f see requests of a kind. The cluster that is asked calls it at any time, also
// while the test stops the broker: b.cluster is not to be read then.
func (b *broker) control(key int16, f func(c *kfake.Cluster, request kmsg.Request) (kmsg.Response, error, bool)) {
	c := b.cluster
	c.ControlKey(key, func(request kmsg.Request) (kmsg.Response, error, bool) { return f(c, request) })
}

// hang makes the broker answer no produce request until hold is closed, and then
// break the connection.
func (b *broker) hang(hold <-chan struct{}) {
	b.control(produceKey, func(c *kfake.Cluster, _ kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		c.SleepControl(func() { <-hold })
		return nil, errors.New("the broker hung"), true
	})
}

func (b *broker) config(topic string) Config {
	return Config{Brokers: b.addrs, Topic: topic, Security: b.security}
}

// topic makes a topic of its own for the test, and waits until it can be used.
func (b *broker) topic(partitions int) Config {
	b.t.Helper()
	cfg := b.config(unique("events"))
	if err := EnsureTopic(testContext(b.t), cfg, partitions, 1, 0); err != nil {
		b.t.Fatal(err)
	}
	client := newClient(cfg)
	defer closeClient(client)
	eventually(b.t, "every partition answers", func() error {
		for id := range partitions {
			if _, err := listOffsets(testContext(b.t), client, cfg.Topic, []kafka.OffsetRequest{kafka.LastOffsetOf(id)}); err != nil {
				return err
			}
		}
		return nil
	})
	return cfg
}

func unique(prefix string) string { return fmt.Sprintf("%s_%d", prefix, rand.Uint64()) }

// testContext ends when the test does, and after a minute at the latest.
func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// eventually repeats check until it returns nil, for a minute.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// running is a Run in the background.
type running struct {
	cancel context.CancelFunc
	done   chan error
	once   sync.Once
}

// run starts f and stops it at the end of the test, if stop was not called.
func run(t testing.TB, f func(context.Context) error) *running {
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{cancel: cancel, done: make(chan error, 1)}
	go func() { r.done <- f(ctx) }()
	t.Cleanup(func() { r.stop(t) })
	return r
}

// stop ends the Run and requires that it returns nil.
func (r *running) stop(t testing.TB) {
	t.Helper()
	r.once.Do(func() {
		r.cancel()
		select {
		case err := <-r.done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("Run did not return within a minute of its context's end")
		}
	})
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

var quiet = slog.New(slog.DiscardHandler)

// fetchRecords returns what a fetch finds, at least one record.
func fetchRecords(ctx context.Context, p Partition) ([]Record, error) {
	for {
		first := p.(*partition).position
		batches, err := p.FetchBatches(ctx)
		if err != nil {
			return nil, err
		}
		if records, err := recordsOf(batches, first); err != nil || len(records) > 0 {
			return records, err
		}
	}
}

// recordsOf returns those from offset first on.
func recordsOf(batches []Batches, first int64) (records []Record, err error) {
	for i := range batches {
		all, err := batches[i].DecodeAll(new(Memory))
		if err != nil {
			return nil, err
		}
		for _, r := range all {
			if r.Offset >= first {
				records = append(records, r)
			}
		}
	}
	return records, nil
}

// mustReader returns a reader that is closed when the test ends.
func mustReader(t testing.TB, cfg Config) *Reader {
	t.Helper()
	r, err := NewReader(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}
