package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tidegate/internal/deploy"
)

// cacheOf returns a cache of the rig's source, without Backends.
func cacheOf(t *testing.T, source *bundles) *bundleCache {
	t.Helper()
	c, err := newBundleCache(source, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sourceOf(ids ...string) *bundles {
	r := &rig{source: &bundles{bundles: map[string]deploy.Bundle{}, modules: map[string][]byte{}}}
	for _, id := range ids {
		r.add(id, fmt.Sprintf(echo, id), func(b *deploy.Bundle) {
			b.Worker.Modules = append(b.Worker.Modules, deploy.Module{Name: "shared.txt", ContentType: deploy.ModuleTypeText, SHA256: "shared"})
		})
	}
	return r.source
}

func TestBundleIsFetchedOnce(t *testing.T) {
	source := sourceOf(v1)
	c := cacheOf(t, source)
	for range 3 {
		b, modules, err := c.get(t.Context(), testAccount, v1)
		if err != nil || b.VersionID != v1 || len(modules) != 2 {
			t.Fatalf("got %+v, %v, %v", b, modules, err)
		}
	}
	if source.fetched != 1 {
		t.Errorf("fetched %d times", source.fetched)
	}
}

func TestBundleThatIsNotWhatWasAsked(t *testing.T) {
	f := func(want string, change func(*bundles)) {
		t.Helper()
		source := sourceOf(v1)
		change(source)
		_, _, err := cacheOf(t, source).get(t.Context(), testAccount, v1)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	edit := func(change func(*deploy.Bundle)) func(*bundles) {
		return func(s *bundles) {
			b := s.bundles[v1]
			change(&b)
			s.bundles[v1] = b
		}
	}
	f("what came is version "+v2, edit(func(b *deploy.Bundle) { b.VersionID = v2 }))
	f("of account other", edit(func(b *deploy.Bundle) { b.AccountID = "other" }))
	f(`the hash "../../etc/passwd"`, edit(func(b *deploy.Bundle) { b.Worker.Modules[0].SHA256 = "../../etc/passwd" }))
	f("its content has the hash", func(s *bundles) {
		for hash := range s.modules {
			s.modules[hash] = []byte("other content")
		}
	})
	f("the control plane is away", func(s *bundles) { s.away = true })
	if _, _, err := cacheOf(t, sourceOf(v1)).get(t.Context(), testAccount, "../"+v1); err == nil {
		t.Error("a path is taken for a version id")
	}
}

// A file that was cut by a crash is fetched again.
func TestDamagedBundleIsFetchedAgain(t *testing.T) {
	source := sourceOf(v1)
	c := cacheOf(t, source)
	if _, _, err := c.get(t.Context(), testAccount, v1); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(c.bundlePath(v1), 10); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.get(t.Context(), testAccount, v1); err != nil || source.fetched != 2 {
		t.Errorf("fetched %d times, %v", source.fetched, err)
	}
}

func TestSweepKeepsWhatIsNeeded(t *testing.T) {
	c := cacheOf(t, sourceOf(v1, v2))
	for _, id := range []string{v1, v2} {
		if _, _, err := c.get(t.Context(), testAccount, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.moduleDir(), ".new-1"), nil, 0o600); err != nil { // of a crash
		t.Fatal(err)
	}
	f := func(keep string, wantBundles, wantModules int) {
		t.Helper()
		if err := c.sweep(func(id string) bool { return id == keep }); err != nil {
			t.Fatal(err)
		}
		b, err1 := os.ReadDir(c.bundleDir())
		m, err2 := os.ReadDir(c.moduleDir())
		if len(b) != wantBundles || len(m) != wantModules || err1 != nil || err2 != nil {
			t.Errorf("kept %v and %v, %v %v", b, m, err1, err2)
		}
	}
	f(v1, 1, 2) // its own module and the one that both had
	f("", 0, 0)
}

func TestFindWorkerd(t *testing.T) {
	if path, err := FindWorkerd(""); err != nil || !filepath.IsAbs(path) {
		t.Errorf("got %q, %v", path, err)
	}
	if path, err := FindWorkerd("/no/such/workerd"); err == nil {
		t.Errorf("got %q", path)
	}
	if got := workerdPackage("linux", "amd64") + " " + workerdPackage("darwin", "arm64"); got != "workerd-linux-64 workerd-darwin-arm64" {
		t.Errorf("got %q", got)
	}
}

func TestWorkerConfigIsChecked(t *testing.T) {
	f := func(want string, change func(*Config)) {
		t.Helper()
		cfg := DefaultConfig()
		cfg.Bundles = sourceOf()
		cfg.Workers = &WorkerConfig{DataDir: t.TempDir()}
		change(&cfg)
		b, err := New(cfg, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if b != nil {
			b.Close()
		}
	}
	f("data directory", func(c *Config) { c.Workers.DataDir = "" })
	f("warm for is -1ns", func(c *Config) { c.Workers.WarmFor = -1 })
	f("memory is 1 bytes", func(c *Config) { c.Workers.MemoryBytes = 1 })
	f("their code", func(c *Config) { c.Bundles = nil })
	f("does not exist", func(c *Config) { c.Workers.Workerd = "/no/such/workerd" })
}

// records collects the output of log lines.
type records struct{ lines []string }

func (*records) Enabled(context.Context, slog.Level) bool { return true }
func (r *records) Handle(_ context.Context, rec slog.Record) error {
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	r.lines = append(r.lines, line)
	return nil
}
func (r *records) WithAttrs([]slog.Attr) slog.Handler { return r }
func (r *records) WithGroup(string) slog.Handler      { return r }

func TestLogRelayIsBounded(t *testing.T) {
	got := &records{}
	relay := newLogRelay(slog.New(got))
	var failed error
	write := func(s string) {
		_, err := relay.Write([]byte(s))
		failed = errors.Join(failed, err)
	}
	write("one\ntw")
	write("o\n\n" + strings.Repeat("x", 5000))
	write(strings.Repeat("y", 5000) + "\n")
	for range 10_000 {
		write("more\n")
	}
	write("last \xff")
	relay.flush()
	if failed != nil {
		t.Fatal(failed)
	}
	if len(got.lines) < 4 || got.lines[0] != "workerd output=one cut=false" || got.lines[1] != "workerd output=two cut=false" ||
		got.lines[2] != "workerd output="+strings.Repeat("x", logLineMax)+" cut=true" {
		t.Errorf("got %.300q", got.lines)
	}
	// The loop may cross a second, or two, on a slow machine.
	if len(got.lines) > 10*logLinesPerSec || !strings.Contains(got.lines[len(got.lines)-1], "dropped") {
		t.Errorf("%d lines, the last %q", len(got.lines), got.lines[len(got.lines)-1])
	}
	if tail := relay.tail(); !strings.HasSuffix(tail, "more\nlast �") || len(tail) > logTailBytesMax+4 {
		t.Errorf("the tail has %d bytes", len(tail))
	}
}
