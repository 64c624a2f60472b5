package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"tidegate/internal/deploy"
	"tidegate/test/platform"
)

const (
	clients = 16
	worker  = "shop"  // a Worker
	origin  = "stock" // an origin
)

// world is the platform and everything around it. What changes at a restart is behind mu.
type world struct {
	o     options
	dir   string
	disk  *disk
	clock *wallClock
	log   *os.File
	ops   string // address of /metrics

	origins  []*httptest.Server
	receiver *receiver
	http     *http.Client
	gateway  string // the same after a restart

	mu        sync.Mutex
	p         *platform.Platform
	asked     []asked // every request, in no order
	injected  []string
	kills     []kill
	faults    []fault
	samples   []sample
	refused   map[string]int // changes that were refused, by what was attempted
	accepted  map[string]int
	lastWrong map[string]string

	troubled atomic.Int32 // faults that are in force
}

func newWorld(ctx context.Context, o options) (_ *world, err error) {
	w := &world{o: o, refused: map[string]int{}, accepted: map[string]int{}, lastWrong: map[string]string{}, receiver: newReceiver()}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.close())
		}
	}()
	if w.dir, err = os.MkdirTemp("", "tidegate-soak-"); err != nil {
		return nil, err
	}
	if w.disk, err = newDisk(w.dir); err != nil {
		return nil, err
	}
	if w.clock, err = newWallClock(w.dir); err != nil {
		return nil, err
	}
	if w.log, err = os.Create(filepath.Join(o.out, "platform.log")); err != nil { // #nosec G304 -- the operator's folder
		return nil, err
	}
	for i := range 3 {
		w.origins = append(w.origins, httptest.NewServer(http.HandlerFunc(func(res http.ResponseWriter, req *http.Request) { serveOrigin(i, res, req) })))
	}
	if w.ops, err = freeAddr(); err != nil {
		return nil, err
	}
	w.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	return w, w.start(ctx)
}

// serveOrigin answers as its number says: fast, with a body, or now and then with an error.
func serveOrigin(number int, res http.ResponseWriter, req *http.Request) {
	_, _ = io.Copy(io.Discard, req.Body) // a client that left is the gateway's to see
	if number == 2 && req.URL.Query().Get("n") == "0" {
		res.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = fmt.Fprintf(res, "origin %d", number)
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close() //nolint:errcheck // nothing was accepted
	return l.Addr().String(), nil
}

// start runs the platform, at the addresses that it had before.
func (w *world) start(ctx context.Context) error {
	args := []string{"--ops-addr", w.ops, "--ops-pprof", "--logpush-allow-loopback", "--logpush-allow-http", "--logpush-disable-after", "0", "--workers-max", fmt.Sprint(runtimesMax)}
	if w.p != nil {
		for flag, address := range map[string]string{"--api-addr": w.p.Ready.API, "--gateway-addr": w.p.Gateway, "--kafka-addr": w.p.Kafka, "--clickhouse-addr": w.p.ClickHouse} {
			if u, err := url.Parse(address); err == nil && u.Host != "" {
				address = u.Host
			}
			args = append(args, flag, address)
		}
	}
	p, err := platform.Start(ctx, platform.Options{Binary: w.o.binary, DataDir: filepath.Join(w.disk.dir, "data"), Args: args, Env: w.clock.environment(), Output: w.log})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.p, w.gateway = p, p.Gateway
	return nil
}

func (w *world) platform() *platform.Platform {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.p
}

// prepare makes both scripts serve and the job deliver that is held to every event.
func (w *world) prepare(ctx context.Context) error {
	p := w.platform()
	if _, err := p.DeployWorker(ctx, worker, platform.JavaScript("v1", workerSource("v1"))); err != nil {
		return err
	}
	id, err := p.UploadOrigin(ctx, origin, w.origins[0].URL, "v1", "")
	if err != nil {
		return err
	}
	if _, err := p.Deploy(ctx, origin, deploy.Split{VersionID: id, Percentage: deploy.Full}); err != nil {
		return err
	}
	job := map[string]any{
		"name": "steady", "dataset": "workers_trace_events", "enabled": true, "destination_conf": w.receiver.url("steady"), "max_upload_interval_seconds": 30,
		"output_options": map[string]any{"field_names": []string{"ScriptName", "Outcome", "Gateway"}},
	}
	if err := p.API(ctx, http.MethodPost, "/accounts/{account}/logpush/jobs", job, nil); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, script := range []string{worker, origin} {
		err := platform.Poll(ctx, func() (bool, error) {
			a := w.ask(ctx, script, 0, 2, false)
			if a.status == http.StatusNotFound { // nobody's request, as the gateway does not know the script yet: it has no event
				return false, nil
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.asked = append(w.asked, a)
			return a.status == http.StatusOK, nil
		})
		if err != nil {
			return fmt.Errorf("%s does not serve: %w", script, err)
		}
	}
	return nil
}

func workerSource(tag string) string {
	return fmt.Sprintf(`export default { async fetch(request, env) {
	const n = new URL(request.url).searchParams.get("n");
	console.log("n is " + n);
	if (n === "1") throw new Error("%[1]s does not take one");
	return new Response("%[1]s " + n);
} };`, tag)
}

// stop ends the platform as an operator would.
func (w *world) stop() error {
	p := w.platform()
	if p == nil {
		return nil
	}
	w.mu.Lock()
	w.p = nil
	w.mu.Unlock()
	return p.Stop()
}

func (w *world) close() error {
	err := w.stop()
	for _, s := range w.origins {
		s.Close()
	}
	w.receiver.server.Close()
	if w.log != nil {
		err = errors.Join(err, w.log.Close())
	}
	if w.clock != nil {
		err = errors.Join(err, w.clock.file.Close())
	}
	if w.disk != nil {
		err = errors.Join(err, w.disk.close())
	}
	if w.dir != "" {
		err = errors.Join(err, os.RemoveAll(w.dir))
	}
	return err
}
