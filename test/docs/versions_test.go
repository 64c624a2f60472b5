package docs

import (
	"regexp"
	"strings"
	"testing"
)

// The versions that the page of installing names are those that are run and warned of.
func TestVersionsOfServices(t *testing.T) {
	_, section, _ := strings.Cut(read(t, "docs/operations/install.md"), "\n## What it stands on\n")
	section, _, _ = strings.Cut(section, "\n## ")
	f := func(path, pattern string) {
		t.Helper()
		match := regexp.MustCompile(pattern).FindStringSubmatch(read(t, path))
		if match == nil {
			t.Fatalf("%s has no %s", path, pattern)
		}
		if !strings.Contains(section, " "+match[1]+" ") && !strings.Contains(section, " "+match[1]+",") {
			t.Errorf("the page does not name %s of %s", match[1], path)
		}
	}
	f("test/real/kafka/pom.xml", `<version>([0-9.]+)</version> <!-- as in docker-compose.yml -->`)
	f("pipeline/stream/fetch.go", `have it since ([0-9.]+[0-9])`)
	f("docker-compose.yml", `image: apache/kafka:([0-9.]+)`)
	f("docker-compose.yml", `image: clickhouse/clickhouse-server:([0-9.]+)`)
	f("docker-compose.yml", `image: postgres:([0-9.]+)`)
	f("internal/clickhouse/inspect.go", `VersionTested = "([0-9.]+)"`)
	f("internal/store/inspect.go", `PostgresTested = (\d+)`)
}
