package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// FindWorkerd returns the absolute path of the Workers runtime. A non-empty hint is
// an explicit choice: it is taken or refused. Without one it looks where `make deps`
// installs the runtime, below the executable's directory and the working directory
// and each directory above them.
func FindWorkerd(hint string) (string, error) {
	if hint != "" {
		if !isFile(hint) {
			return "", fmt.Errorf("the Workers runtime %s does not exist; correct the path, or leave it empty to use the one that `make deps` installs", hint)
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
	relative := filepath.Join("deps", "node_modules", "@cloudflare", workerdPackage(runtime.GOOS, runtime.GOARCH), "bin", "workerd")
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
	return "", fmt.Errorf("the Workers runtime is not installed: looked for %s in and above %s; run `make deps`, or name the file",
		relative, strings.Join(roots, " and "))
}

// workerdPackage names the npm package of a platform, whose names are workerd's own.
func workerdPackage(goos, goarch string) string {
	if goarch == "amd64" {
		goarch = "64"
	}
	return "workerd-" + goos + "-" + goarch
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
