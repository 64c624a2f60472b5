package runtime

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/schema"
)

const benchWorker = `export default { async fetch() { return new Response("hello") } }`

// BenchmarkWorker compares a request through Backends, invocations told and decoded,
// with one straight to a workerd that tells nothing, by the same client.
func BenchmarkWorker(b *testing.B) {
	b.Run("backends", func(b *testing.B) {
		var told atomic.Int64
		r := newRig(b, func(c *Config) {
			c.Invocations = func(string, schema.Invocation) { told.Add(1) }
		})
		r.add(v1, benchWorker, nil)
		w := r.deploy(v1)[v1]
		benchRequests(b, w, "/", pidOf(b, w))
		b.ReportMetric(float64(told.Load())/float64(b.N), "told/op")
	})
	b.Run("alone", func(b *testing.B) {
		var cpu atomic.Int64
		told := make(chan struct{}, 1)
		r := newRig(b, func(c *Config) {
			c.Invocations = func(_ string, inv schema.Invocation) {
				if inv.CPUTimeMs != nil {
					cpu.Add(1)
				}
				told <- struct{}{}
			}
		})
		r.add(v1, benchWorker, nil)
		benchAlone(b, r.deploy(v1)[v1], told)
		b.ReportMetric(float64(cpu.Load())/float64(b.N), "cpu-times/op")
	})
	b.Run("workerd", func(b *testing.B) {
		rt, pid := bareWorkerd(b)
		benchRequests(b, rt, "/", pid)
	})
}

// benchRequests also reports the CPU time of workerd alone, which a busy machine
// changes less.
func benchRequests(b *testing.B, rt http.RoundTripper, path string, pids ...int) {
	mustGet(b, rt, path)
	before := cpuOfAll(b, pids)
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		req := httptest.NewRequest(http.MethodGet, path, nil)
		req.Host = "shop.dev.localhost"
		req.Header = http.Header{"Cf-Ray": {"8f00000000000001"}, "User-Agent": {"bench"}, "Accept": {"*/*"}}
		for pb.Next() {
			resp, err := rt.RoundTrip(req)
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
	})
	b.StopTimer()
	b.ReportMetric(float64((cpuOfAll(b, pids)-before).Microseconds())/float64(b.N), "workerd-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}

func cpuOfAll(b *testing.B, pids []int) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, pid := range pids {
		d, err := cpuOf(pid)
		if err != nil {
			b.Skip(err)
		}
		sum += d
	}
	return sum
}

// benchAlone sends one request after the other, each when the thread of the one before
// has had the time to sleep.
func benchAlone(b *testing.B, rt http.RoundTripper, told <-chan struct{}) {
	req := httptest.NewRequest(http.MethodGet, "/", nil)
	req.Host = "shop.dev.localhost"
	req.Header = http.Header{"Cf-Ray": {"8f00000000000001"}}
	b.ReportAllocs()
	for b.Loop() {
		resp, err := rt.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		b.StopTimer()
		<-told
		time.Sleep(2 * time.Millisecond)
		b.StartTimer()
	}
}

// bareWorkerd starts a workerd with the user's Worker alone.
func bareWorkerd(b *testing.B) (http.RoundTripper, int) {
	b.Helper()
	dir := b.TempDir()
	config := &processConfig{
		bundle: &deploy.Bundle{Worker: deploy.Worker{MainModule: "index.js", CompatibilityDate: "2026-01-01",
			Modules: []deploy.Module{{Name: "index.js", ContentType: deploy.ModuleTypeESM, SHA256: "x"}}}},
		modules: map[string]string{"x": "index.js"}, heapBytes: 192 << 20,
		sockets: []socket{{"", filepath.Join(dir, "u0")}},
	}
	text, err := config.render()
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.js"), []byte(benchWorker), 0o600); err != nil {
		b.Fatal(err)
	}
	return startBare(b, dir, string(text), config.sockets[0].path)
}

const benchObjects = `import { DurableObject } from "cloudflare:workers";
export class Counter extends DurableObject {
	n = 0;
	add(x) { return (this.n += x); }
	fetch() { return new Response("hello"); }
}
export default { async fetch(request, env) {
	const stub = env.COUNTER.getByName("object " + Math.floor(64 * Math.random()));
	return request.url.endsWith("/rpc") ? new Response(String(await stub.add(1))) : stub.fetch(request);
} }`

// BenchmarkDurableObject compares a request that makes one call to an object, of 64, in
// a workerd that has the class as its own, in the caller's own process, and in that of
// another version.
func BenchmarkDurableObject(b *testing.B) {
	dir := b.TempDir()
	w := &capnpWriter{}
	w.line(`using Workerd = import "/workerd/workerd.capnp";`)
	w.line(`const config :Workerd.Config = (services = [(name = "user", worker = (modules = [(name = "index.js", esModule = %s)],`, quote(benchObjects))
	w.line(`  compatibilityDate = %s, bindings = [(name = "COUNTER", durableObjectNamespace = "Counter")],`, quote(routerDate))
	w.line(`  durableObjectNamespaces = [(className = "Counter", uniqueKey = %s, enableSql = true)], durableObjectStorage = (localDisk = "disk"))),`, quote(counterID))
	socket := filepath.Join(dir, "u")
	w.line(`  (name = "disk", disk = (path = %s, writable = true))], sockets = [(name = "user", address = %s, http = (), service = "user")]);`, quote(dir), quote("unix:"+socket))
	native, pid := startBare(b, dir, w.String(), socket)

	r := newRig(b, func(c *Config) {
		withObjectsHere(c)
		c.Invocations = func(string, schema.Invocation) {}
	})
	for _, id := range []string{v1, v2} {
		r.add(id, benchObjects, func(bundle *deploy.Bundle) {
			withCounter(bundle)
			bundle.Worker.Bindings = bundle.Worker.Bindings[:1]
		})
	}
	_, all := r.split(100, 0)
	for _, path := range []string{"/rpc", "/fetch"} {
		b.Run("native"+path, func(b *testing.B) { benchRequests(b, native, path, pid) })
		// The caller decides: all objects are the first version's.
		b.Run("own"+path, func(b *testing.B) { benchRequests(b, all[v1], path, pidOf(b, all[v1])) })
		b.Run("other"+path, func(b *testing.B) {
			benchRequests(b, all[v2], path, pidOf(b, all[v1]), pidOf(b, all[v2]))
		})
	}
}
