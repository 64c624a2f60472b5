package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strings"
	"time"

	"tidegate/internal/app"
	"tidegate/internal/deploy"
	"tidegate/internal/embedded"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/pipeline/stream"
	"tidegate/schema"
)

// host is the name that every request asks for.
const host = "shop.dev.localhost"

// benchSnapshot splits the traffic of each script between two versions, 90 to 10. The
// first script is the one that is asked for.
func benchSnapshot(scripts int, first, second string) *deploy.Snapshot {
	s := &deploy.Snapshot{Revision: 1}
	for i := range scripts {
		v1, v2 := fmt.Sprintf("1%07d-1111-4111-8111-111111111111", i), fmt.Sprintf("2%07d-2222-4222-8222-222222222222", i)
		name := "shop"
		if i > 0 {
			name += fmt.Sprint(i)
		}
		s.Scripts = append(s.Scripts, deploy.SnapshotScript{
			AccountID: "00000000000000000000000000000001", Subdomain: "dev", Name: name, DeploymentID: "d",
			Splits: []deploy.Split{{VersionID: v1, Percentage: 90_000}, {VersionID: v2, Percentage: 10_000}},
			Versions: []deploy.SnapshotVersion{
				{ID: v2, Tag: "v2", Origin: &deploy.Origin{URL: "http://" + second}},
				{ID: v1, Tag: "v1", Origin: &deploy.Origin{URL: "http://" + first}},
			},
			Routes: []string{name + ".example.com/*"},
		})
	}
	return s
}

// snapshotOnce gives one snapshot and then nothing new.
type snapshotOnce struct{ snapshot *deploy.Snapshot }

func (s snapshotOnce) Snapshot(ctx context.Context, after int64) (*deploy.Snapshot, error) {
	if after < s.snapshot.Revision {
		return s.snapshot, nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(30 * time.Second): // as the control plane
		return nil, nil
	}
}

// emitter sends every event as one that Logpush jobs may get.
type emitter struct{ *stream.Producer }

func (e emitter) Emit(account string, value []byte, _ bool) { e.Producer.Emit(account, value) }

// serveBroker is the embedded broker in a process of its own, as Kafka would be: what it costs
// is not the gateway's.
func serveBroker(ctx context.Context, dir string) error {
	broker, err := embedded.StartBroker(ctx, embedded.BrokerConfig{
		Addr: "127.0.0.1:0", DataDir: filepath.Join(dir, "kafka"),
		Topics: []embedded.Topic{{Name: schema.Topic, Partitions: 4, Retention: time.Hour}}, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	fmt.Println(broker.Addr())
	<-ctx.Done()
	return broker.Close()
}

// serveGateway serves the way the router does: the real producer to the broker
// at -kafka, and its garbage collector. The arguments are a folder and the two upstreams. It ends
// with ctx, after every event is confirmed or accounted for.
func serveGateway(ctx context.Context) error {
	kafka := flag.String("kafka", "", "")
	scripts := flag.Int("scripts", 1, "")
	profile := flag.String("cpuprofile", "", "")
	flag.Parse()
	app.TuneCollector()
	dir, first, second := flag.Arg(0), flag.Arg(1), flag.Arg(2)
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		defer f.Close() //nolint:errcheck // a look inside, not a result
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	deps := gateway.Deps{Snapshots: snapshotOnce{benchSnapshot(*scripts, first, second)}, Logger: log}
	if *kafka != "" {
		producer, err := stream.NewProducer(stream.ProducerConfig{
			Config: stream.Config{Brokers: []string{*kafka}, Topic: schema.Topic},
			Schema: schema.EventSchemaVersion, SpoolDir: filepath.Join(dir, "spool"), Logger: log,
		})
		if err != nil {
			return err
		}
		stop := start(log, producer.Run)
		deps.Emitter = emitter{producer}
		defer func() {
			stop()
			s := producer.Stats()
			fmt.Fprintf(os.Stderr, "events: %d in, %d confirmed by Kafka, %d spooled, dropped %v\n", s.EventsIn, s.EventsOut, s.EventsSpooled, s.Dropped)
		}()
	}
	backends, err := runtime.New(runtime.DefaultConfig(), log)
	if err != nil {
		return err
	}
	deps.Backends = backends
	gw, err := gateway.New(gateway.DefaultConfig(), deps)
	if err != nil {
		return err
	}
	defer start(log, gw.Run)()
	for gw.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	server := gateway.NewServer(gw)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	// The load has ended, and the last handlers emit their events before the
	// producer is told to stop.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err = server.Shutdown(grace)
	<-served
	return err
}

// start runs a part of the benchmark until stop, which waits for its end.
func start(log *slog.Logger, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := run(ctx); err != nil {
			log.Error("benchmark part failed", "error", err)
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// builtCaddy is the peer's program, built from a module of its own.
const builtCaddy = "bin/bench-caddy"

// buildCaddy takes minutes the first time and nothing afterwards.
func buildCaddy(ctx context.Context) error {
	out, err := filepath.Abs(builtCaddy)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, ".")
	cmd.Dir = filepath.Join("bench", "gateway", "caddy")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build Caddy in %s (run this from the root of the repository, or name a program with -caddy): %w", cmd.Dir, err)
	}
	return nil
}

// startCaddy starts the peer with the same split.
func startCaddy(ctx context.Context, binary, dir, first, second string) (*child, error) {
	addr, err := freePort(ctx) // Caddy wants to open the port itself
	if err != nil {
		return nil, err
	}
	_, port, _ := net.SplitHostPort(addr)
	file := filepath.Join(dir, "Caddyfile")
	config := fmt.Sprintf(caddyfile, port, first, second)
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	return startPeer(ctx, addr, []string{"HOME=" + dir, "XDG_DATA_HOME=" + dir, "XDG_CONFIG_HOME=" + dir},
		binary, "run", "--config", file, "--adapter", "caddyfile")
}

// caddyfile leaves out all that Caddy would do beyond proxying: no admin
// interface, no access log.
const caddyfile = `{
	admin off
	auto_https off
	log {
		output discard
	}
}
http://:%[1]s {
	bind 127.0.0.1
	reverse_proxy %[2]s %[3]s {
		lb_policy weighted_round_robin 9 1
	}
}
`

// serveUpstream answers every request with the same small JSON document, at a
// fraction of what net/http costs: it shall not be what is measured.
func serveUpstream(ctx context.Context) error {
	l, err := listen(ctx)
	if err != nil {
		return err
	}
	go func() {
		<-ctx.Done()
		_ = l.Close() // ends Accept
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go serveConn(c) // ends with its connection, or with the process
	}
}

const (
	upstreamBody     = `{"id":12345,"name":"tide","price":12.5,"tags":["a","b","c"]}` + "\r\n"
	largePath        = "/large"
	largeBytes       = 1 << 20
	upstreamResponse = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: bench\r\n" +
		"Date: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: 62\r\n\r\n" + upstreamBody
)

var largeResponse = fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", largeBytes) + strings.Repeat("x", largeBytes)

func serveConn(c net.Conn) {
	defer c.Close() //nolint:errcheck // the other side has gone
	r := bufio.NewReader(c)
	for {
		answer := upstreamResponse
		for {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return
			}
			if len(line) <= 2 {
				break // requests have no bodies here
			}
			if bytes.HasPrefix(line, []byte("GET "+largePath)) {
				answer = largeResponse
			}
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// listen opens a port and tells the parent.
func listen(ctx context.Context) (net.Listener, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Println(l.Addr())
	}
	return l, err
}
