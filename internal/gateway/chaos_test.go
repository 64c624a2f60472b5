package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"tidegate/internal/deploy"
	"tidegate/internal/embedded"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// brokerDir, if it is set, makes TestBrokerProcess a Kafka broker that keeps its log
// there, on the address that is its argument.
const brokerDir, brokerAddr = "TIDEGATE_TEST_BROKER_DIR", "TIDEGATE_TEST_BROKER_ADDR"

// TestBrokerProcess is a process of its own in TestEachRequestIsOneEvent, so that it
// can be killed.
func TestBrokerProcess(t *testing.T) {
	dir := os.Getenv(brokerDir)
	if dir == "" {
		t.Skip("this is a part of another test")
	}
	b, err := embedded.StartBroker(t.Context(), embedded.BrokerConfig{
		Addr: os.Getenv(brokerAddr), DataDir: dir, Topics: []embedded.Topic{{Name: schema.Topic, Partitions: 3}},
	})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println("addr", b.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends, or kills this
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// broker is a Kafka that can be killed and started again on what it has written.
type broker struct {
	t     *testing.T
	dir   string
	addr  string
	cmd   *exec.Cmd
	stdin io.Closer
}

func newBroker(t *testing.T) *broker {
	b := &broker{t: t, dir: t.TempDir(), addr: "127.0.0.1:0"}
	b.start()
	t.Cleanup(b.kill)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	b.cmd = exec.Command(self, "-test.run=^TestBrokerProcess$", "-test.v")
	b.cmd.Env = append(os.Environ(), brokerDir+"="+b.dir, brokerAddr+"="+b.addr)
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		b.t.Fatal(err)
	}
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		b.t.Fatal(err)
	}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "addr "); ok {
			b.addr = addr
			return
		}
	}
	b.t.Fatal("the broker did not start")
}

// kill ends the broker as a power cut would.
func (b *broker) kill() {
	_ = b.cmd.Process.Kill() // it may have been killed
	_ = b.cmd.Wait()         // that is how it ended
	_ = b.stdin.Close()
}

// unruly answers as badly as an origin can; seen has the ray of each request that it got.
type unruly struct {
	mu   sync.Mutex
	seen map[string]int
}

func (o *unruly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.seen[r.Header.Get("Cf-Ray")]++
	o.mu.Unlock()
	switch r.URL.Path {
	case "/stream", "/socket":
		rolling("origin")(w, r)
		return
	}
	raw := func(text string, reset bool) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(http.ErrAbortHandler) // over HTTP/2
		}
		_, _ = io.WriteString(c, text)
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	switch rand.N(14) {
	case 0:
		raw("", false)
	case 1:
		raw("", true)
	case 2:
		raw("HTTP/1.1 200 OK\r\nContent-Le", true)
	case 3:
		raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", true)
	case 4:
		raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n", false)
	case 5:
		raw("\x00\x01garbage\r\n\r\n", false)
	case 6: // hangs
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	case 7: // is slow
		_, _ = io.Copy(io.Discard, r.Body)
		for range 20 {
			_, _ = io.WriteString(w, "slow")
			flush(w)
			select {
			case <-time.After(time.Duration(rand.N(5)) * time.Millisecond):
			case <-r.Context().Done():
				return
			}
		}
	case 8:
		w.WriteHeader(http.StatusInternalServerError)
	case 9: // without reading the body
		_, _ = io.WriteString(w, "early")
	default:
		_, _ = io.Copy(w, r.Body)
	}
}

// restarting serves h on one address and takes it away now and then, until stop.
func restarting(t *testing.T, scheme string, h http.Handler) (url string, restart func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	serve := func(l net.Listener) *http.Server {
		s := &http.Server{Handler: h, Protocols: new(http.Protocols)}
		s.Protocols.SetHTTP1(true)
		s.Protocols.SetUnencryptedHTTP2(scheme == "h2c")
		go func() { _ = s.Serve(l) }() // ends with Close
		return s
	}
	server := serve(l)
	t.Cleanup(func() { _ = server.Close() })
	return scheme + "://" + addr, func() {
		_ = server.Close()
		waitFor(t, "the origin's address", func() bool {
			l, err := net.Listen("tcp", addr)
			if err == nil {
				server = serve(l)
			}
			return err == nil
		})
	}
}

// ledger is what becomes of every request, from the outside: the rays of those that
// entered the gateway, and those that clients were told.
type ledger struct {
	mu      sync.Mutex
	entered map[string]int
	told    map[string]int
}

func (l *ledger) note(to map[string]int, ray string) {
	if ray == "" {
		return // nobody was told
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	to[ray]++
}

func (l *ledger) watch(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header() // after a switch there is no other way to it
		defer func() { l.note(l.entered, header.Get("Cf-Ray")) }()
		h.ServeHTTP(w, r)
	})
}

// The chaos of a bad day: origins that die, hang, reset, answer slowly or in garbage,
// clients of every kind that leave at any moment, deployments, a control plane that is
// away, and a Kafka that is killed in the middle. At the end each request that entered
// is told of by one event in Kafka, and everybody's counters say so.
func TestEachRequestIsOneEvent(t *testing.T) {
	rounds := chaosRounds(t, 2)
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })

	kafka := newBroker(t)
	producer, err := stream.NewProducer(stream.ProducerConfig{
		Config: stream.Config{Brokers: []string{kafka.addr}, Topic: schema.Topic}, Schema: schema.EventSchemaVersion, SpoolDir: t.TempDir(), Logger: testLogger(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	producing, stopProducer := context.WithCancel(context.Background())
	produced := make(chan error, 1)
	go func() { produced <- producer.Run(producing) }()
	t.Cleanup(func() {
		stopProducer()
		if err := <-produced; err != nil {
			t.Errorf("the producer: %v", err)
		}
	})

	o := &unruly{seen: map[string]int{}}
	urlOne, restartOne := restarting(t, "http", o)
	urlTwo, restartTwo := restarting(t, "h2c", o)
	origins := []string{urlOne, urlTwo}
	sc := script(origins, 60_000, 40_000)
	e := start(t, snapshot(1, sc), shortHeaderTimeout, func(_ *gateway.Config, d *gateway.Deps, _ *runtime.Config) {
		d.Emitter = emitter{producer}
	})
	l := &ledger{entered: map[string]int{}, told: map[string]int{}}
	server, addr := serve(t, l.watch(e))
	e.addr = addr

	clients, stopClients := context.WithCancel(t.Context())
	defer stopClients()
	var running sync.WaitGroup
	for i := range 8 {
		protocol := []string{"HTTP/1.1", "h2c"}[i%2]
		client := speak(t, e, protocol).client
		running.Go(func() {
			for clients.Err() == nil {
				l.ask(clients, client)
			}
		})
	}
	running.Go(func() {
		for clients.Err() == nil {
			l.talk(clients, e.client)
		}
	})
	running.Go(func() {
		for clients.Err() == nil {
			l.breakOff(clients, e.addr)
		}
	})

	revision := int64(1)
	progress := func(n uint64) {
		t.Helper()
		from := producer.Stats().EventsIn
		waitForLong(t, "requests to go on", func() bool { return producer.Stats().EventsIn >= from+n })
	}
	flip := func() {
		revision++
		share := deploy.Percentage(rand.N(100_001))
		sc := sc
		sc.Splits = []deploy.Split{{VersionID: v1, Percentage: deploy.Full - share}, {VersionID: v2, Percentage: share}}
		e.control.set(snapshot(revision, sc), nil)
		waitFor(t, "the deployment", func() bool { return e.Revision() == revision })
	}
	for range rounds {
		progress(300)
		kafka.kill()
		restartOne()
		restartTwo()
		progress(100)
		e.control.set(nil, errors.New("the control plane is away"))
		progress(300)
		kafka.start()
		flip()
		progress(300)
		restartTwo()
		flip()
	}
	if rounds > 100 { // asked for by hand: both away in one piece, a second for each round
		kafka.kill()
		e.control.set(nil, errors.New("the control plane is away"))
		for until := time.Now().Add(time.Duration(rounds) * time.Second); time.Now().Before(until); {
			progress(300)
		}
		kafka.start()
		flip()
		progress(300)
	}
	stopClients()
	running.Wait()
	waitFor(t, "the requests in hand", func() bool { return server.Shutdown(t.Context()) == nil && inFlight(t, reader) == 0 })
	waitForLong(t, "Kafka to have all", func() bool {
		s := producer.Stats()
		return s.EventsOut == s.EventsIn && s.QueueEvents == 0
	})

	stats := producer.Stats()
	events, repeats, outcomes := consume(t, kafka.addr, stats.EventsOut)
	for reason, n := range stats.Dropped {
		if n != 0 {
			t.Errorf("%d events were dropped: %s", n, reason)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o.mu.Lock() // a request that was given up may reach an origin only now
	defer o.mu.Unlock()
	if uint64(repeats) > stats.EventsRepeatPossible {
		t.Errorf("%d events are in Kafka twice, and only %d are counted as possible repeats", repeats, stats.EventsRepeatPossible)
	}
	for ray, n := range l.entered {
		if n != 1 || events[ray] == 0 {
			t.Errorf("%d requests with the ray %s entered, with %d events", n, ray, events[ray])
		}
	}
	for ray := range events {
		if l.entered[ray] != 1 {
			t.Errorf("the event of %s is of no request", ray)
		}
	}
	for name, rays := range map[string]map[string]int{"an origin": o.seen, "a client": l.told} {
		for ray := range rays {
			if l.entered[ray] != 1 {
				t.Errorf("%s saw %s, which did not enter", name, ray)
			}
		}
	}
	if counted := requestsTotal(t, reader); counted != int64(len(l.entered)) || stats.EventsIn != uint64(len(l.entered)) {
		t.Errorf("%d requests entered, %d are counted, %d events were emitted", len(l.entered), counted, stats.EventsIn)
	}
	t.Logf("%d requests, of which %d reached an origin and %d were answered; %d events went through the spool, %d may be repeats and %d are; outcomes %v",
		len(l.entered), len(o.seen), len(l.told), stats.EventsSpooled, stats.EventsRepeatPossible, repeats, outcomes)
}
