package importrules

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestModule lists every package of the module and checks what it imports, in
// files that are not tests: a test may stand on whatever it tests with.
func TestModule(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,GoFiles", "./...")
	cmd.Dir = filepath.Join("..", "..")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	checked := 0
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
			GoFiles    []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read the answer of go list: %v", err)
		}
		if len(p.GoFiles) == 0 {
			continue // only tests
		}
		checked++
		for _, sentence := range Check(p.ImportPath, p.Imports) {
			t.Error(sentence)
		}
	}
	if checked < 5 {
		t.Fatalf("go list named %d packages; the module has more", checked)
	}
}

func TestForbiddenImportsAreNamedWithTheReason(t *testing.T) {
	f := func(pkg, imported, reason string) {
		t.Helper()
		got := Check(Module+"/"+pkg, []string{"fmt", imported})
		if len(got) != 1 || !strings.Contains(got[0], imported[strings.Index(imported, "/")+1:]) || !strings.Contains(got[0], reason) {
			t.Errorf("%s importing %s: got %q, want one sentence with %q", pkg, imported, got, reason)
		}
	}
	// Between layers.
	f("schema", "tidegate/internal/errs", "close a circle")
	f("internal/gateway", "tidegate/internal/store", "neither adapters nor each other")
	f("internal/gateway", "tidegate/internal/rollback", "neither adapters nor each other")
	f("internal/api", "tidegate/internal/api/client", "neither adapters nor each other")
	f("pipeline/ingest", "tidegate/internal/clickhouse", "neither adapters nor each other")
	f("pipeline/logpush", "tidegate/pipeline/logpush/sink/s3", "neither adapters nor each other")
	f("pipeline/logpush/sink/s3", "tidegate/internal/logjob", "takes a name and bytes")
	f("internal/store", "tidegate/internal/api", "knows none")
	f("internal/app", "tidegate/internal/embedded", "by address")
	f("cmd/router", "tidegate/internal/embedded", "reads flags")
	f("cmd/tidegate", "tidegate/internal/gateway", "every role")

	// From outside the module.
	f("internal/gateway", "github.com/segmentio/kafka-go", "pipeline/stream")
	f("internal/api", "github.com/ClickHouse/clickhouse-go/v2", "internal/clickhouse")
	f("internal/embedded", "github.com/ClickHouse/clickhouse-go/v2", "internal/clickhouse")
	f("internal/api/client", "C", "C compiler")
	f("internal/gateway", "database/sql", "SQL lives")
	f("schema", "github.com/google/uuid", "our dependencies")
	f("internal/deploy", "net/http", "pure")
}

func TestAllowedImports(t *testing.T) {
	f := func(pkg string, imports ...string) {
		t.Helper()
		for _, sentence := range Check(Module+"/"+pkg, imports) {
			t.Error(sentence)
		}
	}
	f("internal/gateway", "net/http", "tidegate/internal/deploy", "tidegate/schema", "tidegate/internal/telemetry")
	f("internal/clickhouse", "github.com/ClickHouse/clickhouse-go/v2", "database/sql", "tidegate/schema/clickhouse")
	f("internal/embedded/engine", "tidegate/internal/embedded", "github.com/ebitengine/purego", "github.com/ClickHouse/clickhouse-go/v2/lib/proto")
	f("pipeline/logpush/sink/s3", "tidegate/pipeline/logpush", "tidegate/pipeline/logpush/sink/internal/retry", "github.com/aws/aws-sdk-go-v2/service/s3")
	f("internal/app", "tidegate/internal/api/client", "tidegate/pipeline/logpush/sink/s3", "tidegate/dashboards")
	f("cmd/tidegate", "tidegate/internal/app", "tidegate/internal/embedded", "github.com/spf13/cobra")
	f("test/e2e", "tidegate/internal/store", "github.com/segmentio/kafka-go")
}

func TestAPackageWithoutALayerIsRefused(t *testing.T) {
	got := Check(Module+"/internal/helpers", nil)
	if len(got) != 1 || !strings.Contains(got[0], "in no layer") {
		t.Errorf("got %q, want one sentence that asks for a layer", got)
	}
}

// A misspelt path in the tables would allow nothing and forbid nothing.
func TestTablesNamePackagesOfOurs(t *testing.T) {
	for _, layer := range Layers {
		for _, path := range append([]string{layer.Package}, layer.May...) {
			if path == "*" {
				continue
			}
			if _, ok := layerOf(path); !ok && path != "pipeline" {
				t.Errorf("layer %s names %s, which is in no layer", layer.Package, path)
			}
		}
		if layer.Why == "" {
			t.Errorf("layer %s gives no reason", layer.Package)
		}
	}
	for _, owner := range Owners {
		for _, path := range owner.By {
			if _, ok := layerOf(path); !ok {
				t.Errorf("%s is owned by %s, which is in no layer", owner.Import, path)
			}
		}
	}
}
