package runtime

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"sync/atomic"
	"testing"

	"tidegate/internal/deploy"
)

// idleTransport counts what a balancer looks at, and sends nothing.
type idleTransport struct{ busy atomic.Int64 }

func (t *idleTransport) RoundTrip(*http.Request) (*http.Response, error) { panic("not sent") }
func (t *idleTransport) roundTrip(*http.Request) (*http.Response, error) { panic("not sent") }
func (t *idleTransport) inHand() *atomic.Int64                           { return &t.busy }
func (t *idleTransport) done()                                           { t.busy.Add(-1) }
func (t *idleTransport) close()                                          {}
func (t *idleTransport) reopen()                                         {}

// balancer returns an upstream of endpoints with these weights that sends nothing.
func balancer(tb testing.TB, change func(*deploy.Origin), weights ...float64) *upstream {
	tb.Helper()
	var o deploy.Origin
	var transports []transport
	for i, weight := range weights {
		o.Endpoints = append(o.Endpoints, deploy.Endpoint{URL: fmt.Sprintf("http://e%d", i), Weight: weight})
		transports = append(transports, &idleTransport{})
	}
	if change != nil {
		change(&o)
	}
	metrics := new(originMetrics)
	if err := metrics.register(func(*endpointCount) {}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := metrics.observed.Unregister(); err != nil {
			tb.Error(err)
		}
	})
	u, err := newUpstream(versionID, &o, transports, DefaultConfig(), upstreamDeps{slog.New(slog.DiscardHandler), metrics, func() {}, make(chan struct{}, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(u.close)
	return u
}

// mustPick picks for a first attempt.
func mustPick(tb testing.TB, u *upstream) pick {
	tb.Helper()
	p, ok := u.pick(0, true)
	if !ok {
		tb.Fatal("no endpoint was picked")
	}
	return p
}

// wantShares checks counts against weights. A share of n draws that is drawn with
// probability p has a standard error of sqrt(np(1-p)); five of them are exceeded
// about once in a million and a half looks.
func wantShares(t *testing.T, counts []int, weights []float64) {
	t.Helper()
	n, sum := 0, 0.0
	for i := range counts {
		n, sum = n+counts[i], sum+weights[i]
	}
	for i, got := range counts {
		p := weights[i] / sum
		if off := math.Abs(float64(got) - float64(n)*p); off > 5*math.Sqrt(float64(n)*p*(1-p)) {
			t.Errorf("endpoint %d of weight %v got %d of %d, %.1f from what is due", i, weights[i], got, n, off)
		}
	}
}

func TestIdleEndpointsShareByWeight(t *testing.T) {
	for _, weights := range [][]float64{{1, 1}, {1, 0.5}, {1, 0.01}, {0.3, 0.2, 0.1, 1}, {1, 1, 1, 1, 1, 1, 1}} {
		u := balancer(t, nil, weights...)
		counts := make([]int, len(weights))
		for range 100_000 {
			p := mustPick(t, u)
			for i := range counts {
				if p.bit == 1<<i {
					counts[i]++
				}
			}
			p.transport.done()
		}
		wantShares(t, counts, weights)
	}
}

// Requests of random length: what endpoints have in hand follows their weights, and the
// fullest of them stays near the average, which one random choice would not do.
func TestBusyEndpointsHaveInHandByWeight(t *testing.T) {
	weights := []float64{1, 1, 0.5, 0.5, 0.25, 0.25, 1, 0.5}
	u := balancer(t, nil, weights...)
	var inHand []pick
	sums, worst := make([]float64, len(weights)), 0.0
	const rounds, load = 20_000, 400
	for range rounds {
		for len(inHand) < load {
			inHand = append(inHand, mustPick(t, u))
		}
		i := rand.IntN(len(inHand))
		inHand[i].transport.done()
		inHand[i] = inHand[len(inHand)-1]
		inHand = inHand[:len(inHand)-1]
		for i, e := range u.endpoints {
			busy := float64(e.busy.Load())
			sums[i] += busy
			worst = max(worst, busy/weights[i])
		}
	}
	sum := 5.0 // of weights
	for i, s := range sums {
		if share, due := s/rounds/load, weights[i]/sum; math.Abs(share-due) > 0.25*due {
			t.Errorf("endpoint %d of weight %v has %.3f of the load, where %.3f is due", i, weights[i], share, due)
		}
	}
	// One choice a request would be off by more: in 20,000 looks the worst of eight
	// binomial loads of mean 80 is above 120 more often than not.
	if mean := float64(load) / sum; worst > 1.5*mean {
		t.Errorf("the fullest endpoint had %.0f requests in hand for its weight, where %.0f are the mean", worst, mean)
	}
}

func TestRetriesGoElsewhere(t *testing.T) {
	u := balancer(t, nil, 1, 1, 1)
	for range 100 {
		tried := uint64(0)
		for range 3 {
			p, ok := u.pick(tried, true)
			if !ok || tried&p.bit != 0 {
				t.Fatalf("with %b tried, endpoint %b was picked (%v)", tried, p.bit, ok)
			}
			tried |= p.bit
			p.transport.done()
		}
		if p, ok := u.pick(tried, true); ok {
			t.Fatalf("endpoint %b was picked when all were tried", p.bit)
		}
	}
}

func TestBoundOfRequestsInHand(t *testing.T) {
	u := balancer(t, func(o *deploy.Origin) { o.MaxRequests = 3 }, 1, 0.01)
	for range 6 { // the light one fills up too, once the heavy one is full
		mustPick(t, u)
	}
	for _, e := range u.endpoints {
		if e.busy.Load() != 3 {
			t.Errorf("%s has %d requests in hand, want 3", e.URL, e.busy.Load())
		}
	}
	if _, ok := u.pick(0, true); ok {
		t.Error("a seventh request found room for six")
	}
	u.endpoints[1].transport.done()
	if p := mustPick(t, u); p.endpoint != u.endpoints[1] {
		t.Error("room was found where there is none")
	}
}

// Nobody waits for a lock to choose an endpoint, and nothing is allocated.
func TestPickAllocatesNothing(t *testing.T) {
	for _, n := range []int{1, 2, 16, 64} {
		weights := make([]float64, n)
		for i := range weights {
			weights[i] = 1 / float64(i+1)
		}
		u := balancer(t, func(o *deploy.Origin) { o.MaxRequests = 100 }, weights...)
		u.mu.Lock() // a pick that wants it never returns
		if got := testing.AllocsPerRun(1000, func() { mustPick(t, u).transport.done() }); got != 0 {
			t.Errorf("%d endpoints: %v allocations, want none", n, got)
		}
		u.mu.Unlock()
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 16} {
		b.Run(fmt.Sprintf("endpoints=%d", n), func(b *testing.B) {
			weights := make([]float64, n)
			for i := range weights {
				weights[i] = 1
			}
			u := balancer(b, nil, weights...)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					p, _ := u.pick(0, true)
					p.transport.done()
				}
			})
		})
	}
}

// answering is a transport whose every answer has ended when it comes.
type answering struct {
	idleTransport
	response http.Response
}

func (t *answering) roundTrip(*http.Request) (*http.Response, error) {
	t.done()
	return &t.response, nil
}

// A request without a body costs an upstream no allocation beside the transport's.
func TestUpstreamAllocatesNothing(t *testing.T) {
	u := balancer(t, nil, 1, 1, 1)
	for _, e := range u.endpoints {
		a := &answering{}
		e.transport, e.busy = a, a.inHand()
	}
	req := request(t, http.MethodGet, "/", "")
	if got := testing.AllocsPerRun(1000, func() {
		if resp, err := u.RoundTrip(req); err != nil || resp == nil { //nolint:bodyclose // it has none
			t.Error(err)
		}
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// An origin of one server, without a monitor and a bound, has nothing above its transport.
func TestOneEndpointCostsNothing(t *testing.T) {
	one := []deploy.Endpoint{{URL: "http://a", Weight: 1}}
	for _, o := range []*deploy.Origin{{URL: "http://a"}, {Endpoints: one}, {Endpoints: one, Retries: retries(3)}} {
		if _, is := openOrigin(t, shortConfig(), o).(*http1); !is {
			t.Errorf("%+v has something above its transport", o)
		}
	}
	timeouts := &deploy.OriginTimeouts{ConnectMS: 1500, FirstByteMS: 2500, IdleMS: 3500}
	backend, is := openOrigin(t, shortConfig(), &deploy.Origin{URL: "http://a", Timeouts: timeouts}).(*http1)
	if !is {
		t.Fatal("time-outs of its own put something above the transport")
	}
	if d := backend.dialer.Timeout; d.Milliseconds() != 1500 || backend.cfg.ResponseHeaderTimeout.Milliseconds() != 2500 || backend.cfg.IdleTimeout.Milliseconds() != 3500 {
		t.Errorf("the time-outs are %s, %s and %s", d, backend.cfg.ResponseHeaderTimeout, backend.cfg.IdleTimeout)
	}
	secure := openOrigin(t, shortConfig(), &deploy.Origin{URL: "https://a", Timeouts: timeouts}).(*http2)
	if s := secure.transport; s.ResponseHeaderTimeout.Milliseconds() != 2500 || s.IdleConnTimeout.Milliseconds() != 3500 {
		t.Errorf("over TLS the time-outs are %s and %s", s.ResponseHeaderTimeout, s.IdleConnTimeout)
	}
}
