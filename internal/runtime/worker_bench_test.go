package runtime

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
		benchRequests(b, w, pidOf(b, w))
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
		benchRequests(b, rt, pid)
	})
}

// benchRequests also reports the CPU time of workerd alone, which a busy machine
// changes less.
func benchRequests(b *testing.B, rt http.RoundTripper, pid int) {
	mustGet(b, rt, "/")
	before, err := cpuOf(pid)
	if err != nil {
		b.Skip(err)
	}
	b.ReportAllocs()
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
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
	after, err := cpuOf(pid)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64((after-before).Microseconds())/float64(b.N), "workerd-µs/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
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
	workerd, err := FindWorkerd("")
	if err != nil {
		b.Fatal(err)
	}
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
	for name, content := range map[string]string{"index.js": benchWorker, "config.capnp": string(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	cmd := exec.CommandContext(b.Context(), workerd, "serve", filepath.Join(dir, "config.capnp"), "config")
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t := newWorkerHTTP1(DefaultConfig(), config.sockets[0].path, new(atomic.Int64), unexplained)
	deadline := time.Now().Add(10 * time.Second)
	for {
		if _, _, err = get(b, t, "/"); err == nil {
			return t, cmd.Process.Pid
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}
