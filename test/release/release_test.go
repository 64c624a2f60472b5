package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// Who packs, when, from where and in which order leaves no trace.
func TestArchivesOfTheSameFilesAreTheSame(t *testing.T) {
	written := time.Date(2026, 11, 27, 18, 5, 21, 0, time.UTC)
	pack := func(names ...string) []byte {
		dir := t.TempDir()
		files := map[string]string{}
		for _, name := range names {
			files[name] = filepath.Join(dir, filepath.Base(name))
			mode := os.FileMode(0o600)
			if strings.HasPrefix(name, "bin/") {
				mode = 0o700
			}
			if err := os.WriteFile(files[name], []byte(name), mode); err != nil {
				t.Fatal(err)
			}
		}
		var out bytes.Buffer
		if err := writeArchive(&out, "tidegate-v1", files, written); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	first := pack("bin/router", "docs/a.md", "README.md")
	if !bytes.Equal(first, pack("README.md", "docs/a.md", "bin/router")) {
		t.Error("two archives of the same files differ")
	}
	uncompressed, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	type entry struct {
		Name    string
		Mode    int64
		Written time.Time
		Owner   int
	}
	var got []entry
	for archive := tar.NewReader(uncompressed); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, entry{h.Name, h.Mode, h.ModTime.UTC(), h.Uid + h.Gid})
	}
	want := []entry{{"tidegate-v1/README.md", 0o644, written, 0}, {"tidegate-v1/bin/router", 0o755, written, 0}, {"tidegate-v1/docs/a.md", 0o644, written, 0}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got)\n%s", diff)
	}
}

// What the archive is to have is in this tree, and the engines of each platform are told apart.
func TestPayload(t *testing.T) {
	s := source{folder: root}
	files, err := s.files("bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/jobs-api", "deploy/systemd/tidegate-router.service", "deps/package-lock.json", "docs/operations/README.md"} {
		if files[name] == "" {
			t.Errorf("an archive would have no %s", name)
		}
	}
	f := func(platform string, want ...string) {
		t.Helper()
		components, err := engines(filepath.Join(root, "deps", "package-lock.json"), platform)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range components {
			purl, _ := c.(map[string]any)["purl"].(string)
			purl, _, _ = strings.Cut(purl, "@")
			got = append(got, purl)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got)\n%s", platform, diff)
		}
	}
	f("linux-amd64", "pkg:npm/%40chdb/lib-linux-x64-gnu", "pkg:npm/%40cloudflare/workerd-linux-64")
	f("linux-arm64", "pkg:npm/%40cloudflare/workerd-linux-arm64")
}

// The pages are JavaScript of others, too, which no Go module tells of: every library that the dashboard names is in the SBOM, what these
// need is, and no tool is that builds them.
func TestLibrariesOfTheDashboardAreNamed(t *testing.T) {
	components, err := libraries(filepath.Join(root, "dashboards", "web", "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, c := range components {
		c := c.(map[string]any)
		got[strings.TrimPrefix(fmt.Sprintf("%s/%s@%s", c["group"], c["name"], c["version"]), "/")] = true
		if c["scope"] != "required" || len(c["hashes"].([]any)) != 1 || strings.Contains(fmt.Sprint(c["licenses"]), "id:]") {
			t.Errorf("incomplete: %v", c)
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "dashboards", "web", "package.json"))
	if err != nil {
		t.Fatal(err)
	}
	var named struct{ Dependencies, DevDependencies map[string]string }
	if err := json.Unmarshal(text, &named); err != nil || len(named.Dependencies) == 0 || len(named.DevDependencies) == 0 {
		t.Fatalf("read %+v, %v", named, err)
	}
	for name, version := range named.Dependencies {
		if !got[name+"@"+version] {
			t.Errorf("the SBOM has no %s %s", name, version)
		}
	}
	for name, version := range named.DevDependencies {
		if got[name+"@"+version] {
			t.Errorf("the SBOM has the tool %s", name)
		}
	}
	if len(got) <= len(named.Dependencies) {
		t.Errorf("the SBOM has %d libraries, and none that others need", len(got))
	}
}

func TestOnlyFilesLeaveATar(t *testing.T) {
	f := func(h tar.Header, want string) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "t.tar")
		var out bytes.Buffer
		archive := tar.NewWriter(&out)
		if err := errors.Join(archive.WriteHeader(&h), archive.Close(), os.WriteFile(file, out.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		if err := unpack(file, filepath.Join(t.TempDir(), "out")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: the error is %v, want one with %q", h.Name, err, want)
		}
	}
	f(tar.Header{Name: "../out", Typeflag: tar.TypeReg}, "escapes")
	f(tar.Header{Name: "link", Linkname: "/etc/passwd", Typeflag: tar.TypeSymlink}, "neither a file nor a folder")
}

// TestTwoBuildsAreTheSame releases this commit twice: from two clones, in folders of other
// names, with caches of their own. The second takes all of it from source again.
func TestTwoBuildsAreTheSame(t *testing.T) {
	if os.Getenv("TIDEGATE_TEST_RELEASE") == "" {
		t.Skip("TIDEGATE_TEST_RELEASE is not set: it compiles everything twice for each platform; make test-release sets it")
	}
	var sums [2]string
	for i, name := range []string{"here", "some/where/else"} {
		clone := filepath.Join(t.TempDir(), name)
		if _, err := run(exec.CommandContext(t.Context(), "git", "clone", "--quiet", root, clone)); err != nil {
			t.Fatal(err)
		}
		t.Setenv("GOCACHE", t.TempDir())
		t.Setenv("TMPDIR", t.TempDir())
		out := filepath.Join(clone, "dist")
		if err := release(t.Context(), clone, "HEAD", out, platforms, func(context.Context, *source) error { return nil }); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
		if err != nil {
			t.Fatal(err)
		}
		sums[i] = string(text)
		saysWhatItIs(t, clone, out)
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		t.Errorf("two builds of one commit differ (-first +second)\n%s", diff)
	}
	if n := strings.Count(sums[0], "\n"); n != 2*len(platforms) {
		t.Errorf("got %d files, want an archive and an SBOM for each platform:\n%s", n, sums[0])
	}
}

// saysWhatItIs unpacks the archive of linux-amd64 and asks its binaries.
func saysWhatItIs(t *testing.T, clone, out string) {
	t.Helper()
	archives, err := filepath.Glob(filepath.Join(out, "*-linux-amd64.tar.gz"))
	if err != nil || len(archives) != 1 {
		t.Fatalf("archives: %v, %v", archives, err)
	}
	dir := t.TempDir()
	if _, err := run(exec.CommandContext(t.Context(), "tar", "-xzf", archives[0], "-C", dir, "--strip-components=1")); err != nil {
		t.Fatal(err)
	}
	commit, err := run(exec.CommandContext(t.Context(), "git", "-C", clone, "rev-parse", "HEAD"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range binaries {
		said, err := run(exec.CommandContext(t.Context(), filepath.Join(dir, "bin", name), "--version"))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{name + " ", "commit " + string(commit), "date   20", "go     go1."} {
			if !strings.Contains(string(said), want) {
				t.Errorf("%s says %q, want %q in it", name, said, want)
			}
		}
	}
}
