package gateway

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dunglas/httpsfv"
	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const testVersion = "aaaaaaaa-1111-4111-8111-111111111111"

func TestOverrideFor(t *testing.T) {
	f := func(want, script string, values ...string) {
		t.Helper()
		if got := overrideFor(values, script); got != want {
			t.Errorf("%q for %s: got %q, want %q", values, script, got, want)
		}
	}
	f("", "shop")
	f("id", "shop", `shop="id"`)
	f("id", "shop", `a="1", shop="id";p=1, b="2"`)
	f("id", "shop", `a="1"`, `shop="id"`)
	f("2", "shop", `shop="1", shop="2"`)
	f("", "shop", `a="1"`)
	f("", "shop", ``)
	f("", "shop", `shop`)
	f("", "shop", `shop=?1`)
	f("", "shop", `shop=("id")`)
	f("id", "shop", `shop=id`)
	// What the RFC has not:
	f("id", "2shop", `2shop="id"`)
	f("id", "shop", `2shop="x", shop="id"`)
	f("id", "Shop", `Shop="id"`)
	f(testVersion, "shop", `shop=`+testVersion)
	f("dc8dcd28-271b-4367-9840-6c244f84cb40", "shop", `shop=dc8dcd28-271b-4367-9840-6c244f84cb40, b=1-2`)
	f("id", "shop", `shop = "id"`)
	f("id", "shop", `shop='id'`)
	f("2", "2shop", `2shop="1"`, `2shop="2"`)
	f("", "shop", `=,;=;shop`)
	f("", "shop", `2="shop"`)
	// RFC 8941, section 4.2, and the types that RFC 9651 adds.
	f("id", "shop", `shop="id";x="a,shop=1";y=?0`)
	f("id", "shop", "shop=\"id\"\t ,\t b")
	f("id", "shop", `a=:YQ==:, shop="id"`)
	f("id", "shop", `a=@1659578233, shop="id"`)
	f("id", "shop", `a=%"%c3%bc", shop="id"`)
	f("id", "shop", `a=("x" "y";z);w, shop="id"`)
	f("id", "*shop", `*shop="id"`)
	f("", "shop", `shop="id", shop`)
	f("", "shop", `shop="id", shop=1`)
	f("", "shop", `shop=:aWQ=:`)
	f("", "shop", `shop=1.5`)
	// Not well-formed, and read all the same.
	f("id", "shop", `shop="id",`)
	f("id", "shop", `,shop="id"`)
	f("id", "shop", "a=\x00, shop=\"id\"")
	f("id", "shop", `a="ü", shop="id"`)
	f("id", "shop", `a=1234567890123456, shop="id"`)
	f("id", "shop", `a=1.2345, shop="id"`)
	f("id", "shop", `SHOP="id"`)
	f("id", "shop", `shop="id`)
	f("", "shop", `shop;="id"`)
	f("", "shop", strings.Repeat(`a="b",`, 10_000)+`shop`)
	f("id", "shop", strings.Repeat(`a="b",`, 10_000)+`shop="id"`)
}

// A well-formed header means what the RFC says, and whatever comes out stood in it.
func FuzzOverrideFor(f *testing.F) {
	for _, seed := range []string{`shop="id"`, `2shop="a", shop="b"`, `shop=x;a=1`, `shop`, `shop=("a" "b")`, `shop="a\"b"`, `*=1,shop=:YQ==:`, `shop="a,b"`} {
		f.Add(seed, "shop")
	}
	f.Fuzz(func(t *testing.T, header, script string) {
		got := overrideFor([]string{header}, script)
		if got != "" && !strings.Contains(strings.ReplaceAll(header, `\`, ""), strings.ReplaceAll(got, `\`, "")) {
			t.Fatalf("%q for %q gave %q, which is not in it", header, script, got)
		}
		dict, err := httpsfv.UnmarshalDictionary([]string{header})
		if err != nil {
			return
		}
		member, _ := dict.Get(script)
		if item, ok := member.(httpsfv.Item); ok {
			if want, ok := item.Value.(string); ok && got != want {
				t.Fatalf("%q for %q gave %q, want %q", header, script, got, want)
			}
		}
	})
}

func TestPlainHost(t *testing.T) {
	for in, want := range map[string]string{
		"a.com": "a.com", "A.Com:80": "a.com", "a.com.": "a.com", "a.com.:443": "a.com",
		"[::1]:8080": "[::1]", "[::1]": "[::1]", "": "", ":80": "", "a.com:": "a.com",
		"a.com:x": "a.com:x", "a.com:80@b.com": "a.com:80@b.com", "a.com:80:81": "a.com:80",
	} {
		if got := plainHost(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	var plain string
	if n := testing.AllocsPerRun(100, func() { plain = plainHost("shop.dev.localhost:8080") }); n != 0 || plain != "shop.dev.localhost" {
		t.Errorf("%v allocations, want none", n)
	}
}

func testSnapshot(routes ...string) *deploy.Snapshot {
	return &deploy.Snapshot{Revision: 1, Scripts: []deploy.SnapshotScript{{
		AccountID: "00000000000000000000000000000001", Subdomain: "dev", Name: "shop", Routes: routes,
		Splits:   []deploy.Split{{VersionID: testVersion, Percentage: deploy.Full}},
		Versions: []deploy.SnapshotVersion{{ID: testVersion, Alias: "next", Origin: &deploy.Origin{URL: "http://127.0.0.1:1"}}},
	}}}
}

// A script's own name is never hidden by a version of another script, nor by a route.
func TestCompileKeepsScriptNames(t *testing.T) {
	s := testSnapshot("aaaaaaaa-shop.dev.example.com/*")
	s.Scripts = append(s.Scripts,
		deploy.SnapshotScript{AccountID: "2", Subdomain: "dev", Name: "aaaaaaaa-shop"},
		deploy.SnapshotScript{AccountID: "2", Subdomain: "dev", Name: "Shop", Routes: []string{"ftp://x/"}})
	table, warnings := compile(s, "example.com", nil, nil)
	to, ok := table.match("aaaaaaaa-shop.dev.example.com", "http", "/")
	if !ok || to.script.Name != "aaaaaaaa-shop" || to.preview != nil {
		t.Errorf("got %+v", to)
	}
	if len(warnings) != 3 { // no backend, a name that is taken, a bad route
		t.Errorf("warnings: %q", warnings)
	}
	if to, ok := table.match("next-shop.dev.example.com", "http", "/"); !ok || to.preview == nil || to.preview.ID != testVersion {
		t.Errorf("the alias leads to %+v, %t", to, ok)
	}
}

// A script whose host is switched off keeps the name, its routes and its previews;
// one whose previews are switched off keeps the rest.
func TestHostsThatAreSwitchedOff(t *testing.T) {
	f := func(host, previews bool, reached ...string) {
		t.Helper()
		s := testSnapshot("www.example.net/*", "shop.dev.example.com/*")
		s.Scripts[0].HostDisabled, s.Scripts[0].PreviewsDisabled = host, previews
		table, _ := compile(s, "example.com", nil, nil)
		for _, name := range []string{"shop.dev.example.com", "aaaaaaaa-shop.dev.example.com", "next-shop.dev.example.com", "www.example.net"} {
			if _, ok := table.match(name, "http", "/"); ok != slices.Contains(reached, name) {
				t.Errorf("host off %t, previews off %t: %s is reached: %t", host, previews, name, ok)
			}
		}
	}
	f(false, false, "shop.dev.example.com", "aaaaaaaa-shop.dev.example.com", "next-shop.dev.example.com", "www.example.net")
	f(true, false, "aaaaaaaa-shop.dev.example.com", "next-shop.dev.example.com", "www.example.net")
	f(false, true, "shop.dev.example.com", "www.example.net")
	f(true, true, "www.example.net")
}

// A version with Durable Objects has no host of its own: it would run beside the one
// that is deployed.
func TestVersionsWithObjectsHaveNoPreview(t *testing.T) {
	s := testSnapshot("www.example.net/*")
	v := &s.Scripts[0].Versions[0]
	v.Origin, v.Worker = nil, &deploy.SnapshotWorker{Objects: []deploy.DurableObjectNamespace{{ID: strings.Repeat("0", 32), Class: "Counter"}}}
	table, _ := compile(s, "example.com", nil, nil)
	for name, want := range map[string]bool{
		"shop.dev.example.com": true, "www.example.net": true, "aaaaaaaa-shop.dev.example.com": false, "next-shop.dev.example.com": false,
	} {
		if _, ok := table.match(name, "http", "/"); ok != want {
			t.Errorf("%s is reached: %t", name, ok)
		}
	}
}

// A host of nothing but dots was compared with routes once for each: 64,000 times 64,000
// bytes, before anybody had said who they are.
func TestHostsLongerThanNamesAreNobodys(t *testing.T) {
	table, _ := compile(testSnapshot("*/*"), "example.com", nil, nil)
	longest := strings.Repeat("a.", 126) + "b"
	for host, want := range map[string]bool{
		longest: true, longest + ".:8080": true, longest + "b": false, strings.Repeat(".", 64_000): false,
	} {
		if _, ok := table.match(host, "http", "/"); ok != want {
			t.Errorf("a host of %d bytes is matched: %t", len(host), ok)
		}
	}
}

// Whatever the host and the route, matching ends, and a route that names the
// host without wildcards matches it, unless the host is longer than a name can be.
func FuzzMatch(f *testing.F) {
	f.Add("shop.example.com/*", "shop.example.com:80", "/x")
	f.Add("*.example.com/a/*", "A.example.com.", "/a/")
	f.Add("*/*", "[::1]:8080", "")
	f.Add("*b/*", "a.b", "/")
	f.Add("*/*", strings.Repeat("a.", 127), "/")
	f.Fuzz(func(t *testing.T, pattern, host, path string) {
		table, _ := compile(testSnapshot(pattern), "example.net", nil, nil)
		to, ok := table.match(host, "http", path)
		r, err := deploy.ParseRoute(pattern)
		if err != nil {
			if ok && len(table.routes)+len(table.under) > 0 {
				t.Fatalf("the bad pattern %q matches", pattern)
			}
			return
		}
		plain := plainHost(host)
		below := r.Subdomains && plain != "" && (r.Host == "" || strings.HasSuffix(plain, "."+r.Host))
		at := r.Apex && r.Host != "" && plain == r.Host
		want := (below || at) && r.MatchPath("http", path) && len(plain) <= 253
		if _, own := table.hosts[plain]; own {
			want = true
		}
		if ok != want || ok && to.script.Name != "shop" {
			t.Fatalf("%q on %q %q: %t, want %t", pattern, host, path, ok, want)
		}
	})
}

func TestRedactQuery(t *testing.T) {
	for in, want := range map[string]string{
		"/a": "/a", "/token/x": "/token/x", "/a?b=1&c": "/a?b=1&c",
		"/a?Access_Token=x&b=1&apikey=": "/a?Access_Token=REDACTED&b=1&apikey=REDACTED",
		"/a?q=token":                    "/a?q=token",
	} {
		if got := redactQuery(in); got != want {
			t.Errorf("%s became %s, want %s", in, got, want)
		}
	}
}

func TestEventBoundsAndRedactsHeaders(t *testing.T) {
	headers := compileEventHeaders([]string{"X-Api-Key", "User-Agent"})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+strings.Repeat("p", 20_000), nil)
	r.Header.Set("X-Api-Key", "hunter2")
	r.Header.Set("User-Agent", strings.Repeat("u", 5_000))
	x := testExchange()
	var e schema.TraceEvent
	if err := schema.DecodeEvent(encodeExchange(recorders.New().(*recorder), headers, r, x), &e); err != nil {
		t.Fatal(err)
	}
	if n := len(e.Event); n > eventURLBytesMax+eventHeaderBytesMax+300 || strings.Contains(string(e.Event), "hunter2") || !strings.Contains(string(e.Event), `"x-api-key":"REDACTED"`) {
		t.Errorf("the event has %d bytes: %.200s", n, e.Event)
	}
	if e.EventTimestampMs != testReceived.UnixMilli() || e.WallTimeMs == nil || *e.WallTimeMs != 1000 || e.Gateway.UpstreamMs == nil || *e.Gateway.UpstreamMs != 1.5 {
		t.Errorf("received at %d, took %v ms, the backend %v", e.EventTimestampMs, e.WallTimeMs, e.Gateway.UpstreamMs)
	}
}

func encodeExchange(rec *recorder, headers []eventHeader, r *http.Request, x *exchange) []byte {
	rec.note(&rec.half, headers, ask(r), r.RequestURI, x, time.Second)
	rec.fill(&rec.half, nil)
	return rec.encode()
}

var testReceived = time.Date(2026, 3, 1, 12, 0, 0, 123_000_000, time.UTC)

func testExchange() *exchange {
	t, _ := compile(testSnapshot(), "localhost", map[string]http.RoundTripper{testVersion: instantBackend{}}, nil)
	sc := t.hosts["shop.dev.localhost"].script
	return &exchange{
		picked: picked{script: sc, version: sc.serving[0], decision: schema.DecisionOnly}, ray: "0123456789abcdef",
		client: client{scheme: "http", host: "shop.dev.localhost"}, received: testReceived, outcome: schema.OutcomeOK, status: 200, upstream: 1500 * time.Microsecond,
	}
}

func TestConfigValidate(t *testing.T) {
	f := func(change func(c *Config), word string) {
		t.Helper()
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("got %v, want an error about the %s", err, word)
		}
	}
	for _, domain := range []string{"", ".example.com", "a:80", "*.a", "a/b"} {
		f(func(c *Config) { c.Domain = domain }, "domain")
	}
	for _, id := range []string{"a,b", "a b", "a;b", `"a"`, "a\n"} {
		f(func(c *Config) { c.LoopID = id }, "loop id")
	}
	f(func(c *Config) { c.SnapshotTimeout = 0 }, "snapshot timeout")
	f(func(c *Config) { c.StartWait = 0 }, "start wait")
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Errorf("the default is not valid: %v", err)
	}
}

func TestLooped(t *testing.T) {
	g := &Gateway{cfg: Config{LoopID: "edge.example.com"}}
	f := func(want bool, values ...string) {
		t.Helper()
		if got := g.looped(values); got != want {
			t.Errorf("%q: got %t, want %t", values, got, want)
		}
	}
	f(false)
	f(false, "", ",;,")
	f(true, "edge.example.com")
	f(true, "a, Edge.Example.Com;v=1 , b")
	f(true, "a", "b,edge.example.com")
	f(false, "edge.example.com:8080", "x.edge.example.com", "a; edge.example.com")
	values := []string{"a; b=c, edge.example.com"}
	if n := testing.AllocsPerRun(100, func() { g.looped(values) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

// An event costs at most three allocations: its own bytes, the URL, and the list
// of header names.
func TestEventAllocations(t *testing.T) {
	headers := compileEventHeaders(DefaultConfig().EventHeaders)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/path?q=1", nil)
	r.Header.Set("User-Agent", "test")
	x := testExchange()
	rec := recorders.New().(*recorder)
	encodeExchange(rec, headers, r, x)
	if n := testing.AllocsPerRun(100, func() { encodeExchange(rec, headers, r, x) }); n > 3 {
		t.Errorf("%v allocations, want at most 3", n)
	}
}

// instantBackend answers without a network, so that the benchmark sees the gateway alone.
type instantBackend struct{}

func (instantBackend) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"2"}},
		ContentLength: 2, Body: io.NopCloser(strings.NewReader("ok")),
	}, nil
}

func (instantBackend) Update(*deploy.Snapshot) map[string]http.RoundTripper {
	return map[string]http.RoundTripper{testVersion: instantBackend{}}
}

func (instantBackend) Release(func(string) bool) {}

func (instantBackend) Snapshot(context.Context, int64) (*deploy.Snapshot, error) { return nil, nil }
func (instantBackend) Emit(string, []byte, bool)                                 {}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

func BenchmarkServeHTTP(b *testing.B) {
	f := func(name string, emitter Emitter) {
		b.Run(name, func(b *testing.B) {
			g, err := New(DefaultConfig(), Deps{Snapshots: instantBackend{}, Backends: instantBackend{}, Emitter: emitter, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				b.Fatal(err)
			}
			if err := g.accept(testSnapshot()); err != nil {
				b.Fatal(err)
			}
			r := httptest.NewRequestWithContext(b.Context(), "GET", "http://shop.dev.localhost/path?q=1", nil)
			r.RequestURI = "/path?q=1"
			r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64)")
			r.Header.Set("Accept", "*/*")
			w := discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				g.ServeHTTP(w, r)
			}
		})
	}
	f("events", instantBackend{})
	f("no events", nil)
}

// seriesOf counts the series of a counter.
func seriesOf(t *testing.T, reader *sdkmetric.ManualReader, name string) (n int) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if data, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == name {
			n += len(data.DataPoints)
		}
	}
	return n
}

// Everything that happens to a request is in a counter that a scrape can see.
func TestMetrics(t *testing.T) {
	reader := sdkmetric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
	t.Cleanup(func() { otel.SetMeterProvider(before) })
	g, err := New(DefaultConfig(), Deps{Snapshots: instantBackend{}, Backends: instantBackend{}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	send := func(url string) {
		g.ServeHTTP(discard{http.Header{}}, httptest.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))
	}
	if n := seriesOf(t, reader, "tidegate_gateway_requests_total"); n != 1 {
		t.Errorf("before the first request there are %d series of requests, want one of 0: a sum without any is absent, and so is what is divided by it", n)
	}
	send("http://shop.dev.localhost/")
	if err := g.accept(testSnapshot()); err != nil {
		t.Fatal(err)
	}
	if g.accept(&deploy.Snapshot{}) == nil {
		t.Error("an empty snapshot was accepted")
	}
	send("http://shop.dev.localhost/")
	send("http://next-shop.dev.localhost/")
	send("http://elsewhere/")
	again := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.dev.localhost/", nil)
	again.Header.Set("CDN-Loop", "localhost")
	g.ServeHTTP(discard{http.Header{}}, again)
	if g.accept(&deploy.Snapshot{Revision: 1}) != nil || g.accept(&deploy.Snapshot{Revision: 2}) != nil || g.accept(&deploy.Snapshot{Revision: 1}) == nil {
		t.Error("only the older snapshot is to be refused")
	}

	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		switch data := m.Data.(type) {
		case metricdata.Sum[int64]:
			for _, p := range data.DataPoints {
				if p.Value != 0 {
					got[m.Name+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
				}
			}
		case metricdata.Gauge[float64]:
			got[m.Name] = int64(data.DataPoints[0].Value)
		}
	}
	want := map[string]int64{
		"tidegate_gateway_requests_totaldecision=only,outcome=ok":              1,
		"tidegate_gateway_requests_totaldecision=preview,outcome=ok":           1,
		"tidegate_gateway_unmatched_requests_totalreason=" + reasonNoSnapshot:  1,
		"tidegate_gateway_unmatched_requests_totalreason=" + reasonUnknownHost: 1,
		"tidegate_gateway_unmatched_requests_totalreason=" + reasonLoop:        1,
		"tidegate_gateway_snapshot_refused_totalreason=" + refusedInvalid:      1,
		"tidegate_gateway_snapshot_refused_totalreason=" + refusedOlder:        1,
		"tidegate_gateway_snapshot_revision":                                   2,
		"tidegate_gateway_requests_in_flight":                                  0,
		"tidegate_gateway_requests_waiting_for_start":                          0,
		"tidegate_gateway_deployments_waiting":                                 0,
		"tidegate_gateway_events_waiting":                                      0,
		"tidegate_gateway_schedules_in_flight":                                 0,
		"tidegate_gateway_binding_calls_in_flight":                             0,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics (-want +got):\n%s", diff)
	}
}
