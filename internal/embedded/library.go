package embedded

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// libraryName is the file inside the npm package on every platform.
const libraryName = "libchdb.so"

// FindLibrary returns the absolute path of libchdb.so. A non-empty hint is an explicit choice: the first one
// is taken or refused. Without one it looks where `make deps` installs the library, below the executable's
// directory and the working directory and each directory above them.
func FindLibrary(hints ...string) (string, error) {
	for _, hint := range hints {
		if hint == "" {
			continue
		}
		if !isFile(hint) {
			return "", fmt.Errorf("the ClickHouse engine library %s does not exist; correct the path, or leave it empty to use the one that `make deps` installs", hint)
		}
		return filepath.Abs(hint)
	}

	var roots []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		roots = append(roots, filepath.Dir(exe))
	}
	if wd, err := os.Getwd(); err == nil {
		roots = append(roots, wd)
	}
	relative := filepath.Join("deps", "node_modules", "@chdb", npmPackage(runtime.GOOS, runtime.GOARCH), libraryName)
	for _, root := range roots {
		for dir := root; ; dir = filepath.Dir(dir) {
			if path := filepath.Join(dir, relative); isFile(path) {
				return path, nil
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	return "", fmt.Errorf("the ClickHouse engine library is not installed: looked for %s in and above %s; run `make deps`, or name the file",
		relative, strings.Join(roots, " and "))
}

// npmPackage names the package that carries the library, after Node's words for platforms.
func npmPackage(goos, goarch string) string {
	arch := map[string]string{"amd64": "x64"}[goarch]
	if arch == "" {
		arch = goarch
	}
	if goos == "linux" {
		return "lib-linux-" + arch + "-gnu"
	}
	return "lib-" + goos + "-" + arch
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
