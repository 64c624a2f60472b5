package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const cyclonedx = "github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0"

// sbom is what CycloneDX says of a platform's archive: the Go modules that are in the
// all-in-one binary, which has all that is in the others, by what the binary itself says;
// Go's own library; the engines that deps/ names for that platform; and the libraries that are compiled into the
// dashboard's pages, which the binary has within it.
func (s *source) sbom(ctx context.Context, platform, binary string) ([]byte, error) {
	out, err := run(exec.CommandContext(ctx, "go", "run", cyclonedx, "bin", "-json", "-std", "-noserial", "-notimestamp", "-version", s.version, binary))
	if err != nil {
		return nil, err
	}
	var bom map[string]any
	if err := json.Unmarshal(out, &bom); err != nil {
		return nil, fmt.Errorf("read what cyclonedx-gomod wrote: %w", err)
	}
	metadata, ok := bom["metadata"].(map[string]any)
	components, isList := bom["components"].([]any)
	if !ok || !isList {
		return nil, fmt.Errorf("cyclonedx-gomod wrote no metadata or no components")
	}
	metadata["timestamp"] = s.date.Format(time.RFC3339)
	metadata["tools"] = []any{map[string]any{"vendor": "CycloneDX", "name": "cyclonedx-gomod", "version": cyclonedx[strings.LastIndex(cyclonedx, "@")+1:]}} // without the checksum of a binary that was just built
	engines, err := engines(filepath.Join(s.folder, "deps", "package-lock.json"), platform)
	if err != nil {
		return nil, err
	}
	libraries, err := libraries(filepath.Join(s.folder, "dashboards", "web", "package-lock.json"))
	if err != nil {
		return nil, err
	}
	bom["components"] = slices.Concat(components, engines, libraries)
	text, err := json.MarshalIndent(bom, "", "  ")
	return append(text, '\n'), err
}

// npmPackage is an entry of package-lock.json.
type npmPackage struct {
	Version, Integrity, License string
	OS, CPU                     []string
	Dev                         bool // only tools need it
	Peer                        bool // only a package that would have it beside itself names it
}

// engines are the components that npm installs on a platform. They are optional: a
// process that names a ClickHouse, and runs no Workers, needs none.
func engines(lock, platform string) ([]any, error) {
	goos, goarch, _ := strings.Cut(platform, "-")
	cpu := map[string]string{"amd64": "x64", "arm64": "arm64"}[goarch]
	return npmComponents(lock, "optional", func(p *npmPackage) bool { return slices.Contains(p.OS, goos) && slices.Contains(p.CPU, cpu) })
}

// libraries are the components that a bundler takes into the pages: what the lock file has for production. A peer is
// for rendering on a server, which nothing does.
func libraries(lock string) ([]any, error) {
	return npmComponents(lock, "required", func(p *npmPackage) bool { return !p.Dev && !p.Peer })
}

func npmComponents(lock, scope string, wanted func(p *npmPackage) bool) (components []any, err error) {
	text, err := os.ReadFile(lock)
	if err != nil {
		return nil, err
	}
	var locked struct{ Packages map[string]npmPackage }
	if err := json.Unmarshal(text, &locked); err != nil {
		return nil, fmt.Errorf("read %s: %w", lock, err)
	}
	const folders = "node_modules/"
	for _, folder := range slices.Sorted(maps.Keys(locked.Packages)) {
		p := locked.Packages[folder]
		at := strings.LastIndex(folder, folders) // one may have others of its own
		if at < 0 || !wanted(&p) {
			continue
		}
		name := folder[at+len(folders):]
		sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(p.Integrity, "sha512-"))
		if err != nil {
			return nil, fmt.Errorf("%s: the checksum of %s is no SHA-512: %w", lock, name, err)
		}
		group, base := path.Split(name)
		group = strings.TrimSuffix(group, "/")
		purl := "pkg:npm/" + strings.ReplaceAll(name, "@", "%40") + "@" + p.Version
		components = append(components, map[string]any{
			"bom-ref": purl, "purl": purl, "type": "library", "group": group, "name": base, "version": p.Version, "scope": scope,
			"hashes":   []any{map[string]any{"alg": "SHA-512", "content": hex.EncodeToString(sum)}},
			"licenses": []any{map[string]any{"license": map[string]any{"id": p.License}}},
		})
	}
	return components, nil
}
