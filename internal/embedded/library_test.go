package embedded

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestFindLibraryLooksAboveTheWorkingDirectory(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	want := filepath.Join(root, "deps", "node_modules", "@chdb", npmPackage(runtime.GOOS, runtime.GOARCH), libraryName)
	deep := filepath.Join(root, "a", "b")
	for _, dir := range []string{filepath.Dir(want), deep} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(deep)
	if _, err := FindLibrary(); err == nil || !strings.Contains(err.Error(), "make deps") || !strings.Contains(err.Error(), deep) {
		t.Errorf("nothing there: got %v, want what was tried and what installs it", err)
	}
	if err := os.WriteFile(want, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := FindLibrary("")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "library", got, want)
}

func TestFindLibraryTakesAnExplicitPathOrRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.so")
	if _, err := FindLibrary(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("missing file: got %v, want an error that names it", err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := FindLibrary("", file)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "library", got, file)
}

func TestNpmPackageNames(t *testing.T) {
	f := func(goos, goarch, want string) {
		t.Helper()
		equal(t, goos+"/"+goarch, npmPackage(goos, goarch), want)
	}
	f("linux", "amd64", "lib-linux-x64-gnu")
	f("linux", "arm64", "lib-linux-arm64-gnu")
	f("darwin", "arm64", "lib-darwin-arm64")
}
