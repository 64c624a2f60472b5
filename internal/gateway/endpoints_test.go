package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/gateway"
	"tidegate/internal/runtime"
	"tidegate/schema"
)

// frail is a server that dies, comes back at the same address, and fails in other ways.
type frail struct {
	t    *testing.T
	addr string
	mood atomic.Value // a string

	mu       sync.Mutex
	server   *http.Server // nil while it is dead
	listener net.Listener
	tasks    sync.WaitGroup
}

const (
	moodGood  = "good"
	moodSlow  = "slow"
	moodHang  = "hang"
	moodReset = "reset"
	moodDead  = "dead"
)

func newFrail(t *testing.T) *frail {
	t.Helper()
	f := &frail{t: t, addr: "127.0.0.1:" + strconv.Itoa(fixedPort(t))}
	f.become(moodGood)
	t.Cleanup(func() { f.become(moodDead); f.tasks.Wait() })
	return f
}

// fixedPort returns a port to which a server can come back: it is below those that systems
// give to connections, one of which would take it while the server is dead.
func fixedPort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 20_000 + rand.IntN(10_000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close() // to be opened again at once
			return port
		}
	}
	t.Fatal("there is no free port from 20000 to 29999")
	return 0
}

func (f *frail) become(mood string) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mood.Store(mood)
	if mood == moodDead {
		if f.server != nil {
			_ = f.listener.Close()
			_ = f.server.Close() // every connection, as the end of a process does
			f.server = nil
		}
		return
	}
	if f.server != nil {
		return
	}
	l, err := net.Listen("tcp", f.addr)
	if err != nil {
		f.t.Fatal(err)
	}
	server := &http.Server{Handler: f, Protocols: bothProtocols(), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	f.server, f.listener = server, l
	f.tasks.Go(func() { _ = server.Serve(l) })
}

func (f *frail) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch f.mood.Load() {
	case moodSlow:
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Millisecond):
		}
	case moodHang:
		<-r.Context().Done()
	case moodReset:
		panic(http.ErrAbortHandler)
	}
	_, _ = io.Copy(io.Discard, r.Body)
	if r.ProtoMajor == 1 { // in HTTP/2 a body comes apart from the header, and may be missed alone
		_, _ = io.WriteString(w, "ok")
	}
}

// endpoints is a version's origin.
func endpoints(change func(*deploy.Origin), servers ...*frail) *deploy.Origin {
	o := &deploy.Origin{}
	for _, s := range servers {
		o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: "http://" + s.addr, Weight: 1})
	}
	if change != nil {
		change(o)
	}
	return o
}

// scriptOf is the script "shop" of v1 and v2, in this order.
func scriptOf(origins []*deploy.Origin, percentages ...deploy.Percentage) deploy.SnapshotScript {
	urls := make([]string, len(origins))
	sc := script(urls, percentages...)
	for i, o := range origins {
		sc.Versions[i].Origin = o
	}
	return sc
}

func shortEjections(_ *gateway.Config, _ *gateway.Deps, b *runtime.Config) {
	b.Ejection, b.EjectionMax = 10*time.Millisecond, 50*time.Millisecond
}

// Endpoints decide nothing about the split: a version keeps its share when one of its
// endpoints is out, and when all are. A share of n draws of probability p has a standard
// error of sqrt(np(1-p)); five of them are exceeded about once in two million runs.
func TestEndpointsDoNotShiftTheSplit(t *testing.T) {
	const n, p = 4000, 0.3
	a, b, c, d := newFrail(t), newFrail(t), newFrail(t), newFrail(t)
	two := 2 // retries, because two endpoints die at once
	e := start(t, snapshot(1, scriptOf([]*deploy.Origin{
		endpoints(nil, a), endpoints(func(o *deploy.Origin) { o.Retries = &two }, b, c, d),
	}, 70_000, 30_000)), shortEjections)
	seen := 0
	f := func(name string, wantFailures bool) {
		t.Helper()
		for range n {
			e.get(t, shop)
		}
		seen += n
		waitFor(t, "the events", func() bool { return len(e.events.all()) == seen })
		second, failed := 0, 0
		for _, ev := range e.events.all()[seen-n:] {
			if status, _ := ev.Status(); ev.ScriptVersion.ID == v2 {
				second++
				if status != http.StatusOK {
					failed++
				}
			} else if status != http.StatusOK {
				t.Fatalf("%s: a request to the version that is well got %d", name, status)
			}
		}
		if off := math.Abs(float64(second) - n*p); off > 5*math.Sqrt(n*p*(1-p)) {
			t.Errorf("%s: the version of 30 %% got %d of %d requests", name, second, n)
		}
		if want := second; !wantFailures && failed > 0 || wantFailures && failed != want {
			t.Errorf("%s: %d of its %d requests failed", name, failed, second)
		}
	}
	f("all are well", false)
	b.become(moodDead)
	c.become(moodDead)
	f("one of three is well", false)
	d.become(moodDead)
	f("all are out", true)
	b.become(moodGood)
	waitFor(t, "the version to be well again", func() bool {
		a := e.get(t, shop, "Cloudflare-Workers-Version-Overrides", `shop="`+v2+`"`)
		seen++
		return a.StatusCode == http.StatusOK
	})
	f("one is back", false)
}

// What a version has no room for is refused, and is its failure.
func TestOverloadedVersion(t *testing.T) {
	release := make(chan struct{})
	var inHand atomic.Int32
	o := &deploy.Origin{URL: origin(t, func(w http.ResponseWriter, _ *http.Request) {
		inHand.Add(1)
		<-release
		_, _ = io.WriteString(w, "ok")
	}), MaxRequests: 2}
	e := start(t, snapshot(1, scriptOf([]*deploy.Origin{o}, 100_000)))
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			if a, err := e.try(t.Context(), http.MethodGet, shop, nil); err != nil || a.body != "ok" {
				t.Errorf("got %q, %v", a.body, err)
			}
		})
	}
	waitFor(t, "two requests in hand", func() bool { return inHand.Load() == 2 })
	a := e.get(t, shop)
	if a.StatusCode != http.StatusServiceUnavailable || a.Header.Get("Retry-After") == "" || !strings.Contains(a.body, "as many requests in hand as it may") {
		t.Errorf("got %d, Retry-After %q, %q", a.StatusCode, a.Header.Get("Retry-After"), a.body)
	}
	wantEvent(t, e.events.nth(1), schema.OutcomeInternalError, schema.ErrorKindOverloaded, http.StatusServiceUnavailable)
	close(release)
	all.Wait()
	if a := e.get(t, shop); a.StatusCode != http.StatusOK {
		t.Errorf("with room again, got %d", a.StatusCode)
	}
}

// Endpoints that are out are told of, and that they are back; the version stays ready.
func TestReportsOfEndpoints(t *testing.T) {
	a, b := newFrail(t), newFrail(t)
	told := &reports{}
	e := start(t, snapshot(1, scriptOf([]*deploy.Origin{endpoints(nil, a, b)}, 100_000)), shortEjections, func(c *gateway.Config, d *gateway.Deps, backendCfg *runtime.Config) {
		backends, err := runtime.New(*backendCfg, d.Logger)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(backends.Close)
		c.RouterID, d.Reports, d.Backends, d.Workers = "router-1", told, backends, backends
	})
	last := func() deploy.VersionReport {
		told.mu.Lock()
		defer told.mu.Unlock()
		if len(told.list) == 0 {
			return deploy.VersionReport{}
		}
		return told.list[len(told.list)-1]
	}
	waitFor(t, "the first report", func() bool { return last().VersionID == v1 })
	if r := last(); r.Phase != deploy.BackendReady || r.Error != "" {
		t.Errorf("the first report is %+v", r)
	}
	a.become(moodDead)
	waitFor(t, "the report of an endpoint that is out", func() bool {
		e.get(t, shop)
		return strings.HasPrefix(last().Error, "1 of 2 endpoints are out: http://"+a.addr)
	})
	if r := last(); r.Phase != deploy.BackendReady {
		t.Errorf("the report is %+v", r)
	}
	a.become(moodGood)
	waitFor(t, "the report that it is back", func() bool { e.get(t, shop); return last().Error == "" })
}

// Endpoints die, hang, reset and answer slowly, as chance has it, and come back. One of them
// stays well, so each request that may be repeated is answered; and each request
// is in exactly one event, which says what the client saw.
func TestEndpointChaos(t *testing.T) {
	for _, scheme := range []string{"http", "h2c"} {
		t.Run(scheme, func(t *testing.T) { endpointChaos(t, scheme) })
	}
}

func endpointChaos(t *testing.T, scheme string) {
	const readers, writers = 6, 2
	good, second, third := newFrail(t), newFrail(t), newFrail(t)
	two := 2
	e := start(t, snapshot(1, scriptOf([]*deploy.Origin{endpoints(func(o *deploy.Origin) {
		o.Retries, o.Timeouts = &two, &deploy.OriginTimeouts{FirstByteMS: 1000}
		for i := range o.Endpoints {
			o.Endpoints[i].URL = scheme + strings.TrimPrefix(o.Endpoints[i].URL, "http")
		}
	}, good, second, third)}, 100_000)), shortEjections)

	stood := standstills(t)
	var mu sync.Mutex
	statuses := map[string]int{} // by ray
	var done, writesFailed atomic.Int32
	send := func(ctx context.Context, method string, body io.Reader) error {
		before := stood.Load()
		a, err := e.try(ctx, method, shop, body)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		ray := a.Header.Get("Cf-Ray")
		if _, twice := statuses[ray]; twice {
			return fmt.Errorf("two answers have the ray %s", ray)
		}
		statuses[ray] = a.StatusCode
		done.Add(1)
		if a.StatusCode == http.StatusOK {
			return nil
		}
		if method == http.MethodPost {
			writesFailed.Add(1)
			return nil
		}
		if <-time.After(standstillTicks * standstillTick); a.StatusCode == http.StatusGatewayTimeout && stood.Load() != before {
			return nil // while the machine stood still, the endpoint that is well ran out of time, too
		}
		return fmt.Errorf("%s got %d", method, a.StatusCode)
	}
	var load sync.WaitGroup
	var over atomic.Bool
	for i := range readers + writers {
		load.Go(func() {
			for !over.Load() {
				var err error
				if i < readers {
					err = send(t.Context(), []string{http.MethodGet, http.MethodHead, http.MethodDelete}[i%3], nil)
				} else {
					err = send(t.Context(), http.MethodPost, strings.NewReader("a body"))
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	moods := []string{moodGood, moodSlow, moodHang, moodReset, moodDead}
	for range chaosRounds(t, 25) {
		victim := []*frail{second, third}[rand.IntN(2)]
		victim.become(moods[rand.IntN(len(moods))])
		until := done.Load() + 40
		waitFor(t, "requests", func() bool { return done.Load() >= until || t.Failed() })
	}
	over.Store(true)
	load.Wait()
	waitFor(t, "the events", func() bool { return len(e.events.all()) >= len(statuses) })
	all := e.events.all()
	if len(all) != len(statuses) {
		t.Errorf("%d requests gave %d events", len(statuses), len(all))
	}
	for _, ev := range all {
		status, _ := ev.Status()
		if want, ok := statuses[ev.Gateway.RayID]; !ok || status != want {
			t.Errorf("the event of ray %s says status %d, the client saw %d", ev.Gateway.RayID, status, want)
		}
		delete(statuses, ev.Gateway.RayID)
	}
	t.Logf("%d requests, of which %d POST failed", done.Load(), writesFailed.Load())
}

const (
	standstillTick  = 10 * time.Millisecond
	standstillTicks = 20 // that do not come are a standstill
)

// standstills counts how often this process got nothing of the machine for a while.
func standstills(t *testing.T) *atomic.Int32 {
	t.Helper()
	var n atomic.Int32
	var counting sync.WaitGroup
	over := make(chan struct{})
	t.Cleanup(func() { close(over); counting.Wait() })
	counting.Go(func() {
		for last := time.Now(); ; {
			select {
			case <-over:
				return
			case now := <-time.After(standstillTick):
				if now.Sub(last) > standstillTicks*standstillTick {
					n.Add(1)
				}
				last = now
			}
		}
	})
	return &n
}

// chaosRounds is how many rounds chaos makes: TIDEGATE_LONG replaces the number for every day.
func chaosRounds(t *testing.T, short int) int {
	t.Helper()
	text := os.Getenv("TIDEGATE_LONG")
	if text == "" {
		return short
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(errors.Join(errors.New("TIDEGATE_LONG is a number of rounds"), err))
	}
	return n
}
