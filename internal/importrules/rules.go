// Package importrules holds the layers of this module as data, so that a test
// can tell who may import whom, and why not.
package importrules

import (
	"fmt"
	"slices"
	"strings"
)

// Module is the path of this module. Paths in the tables are relative to it.
const Module = "tidegate"

// A Layer says what a package and the packages below it may import from this
// module, besides themselves. The most specific layer of a package counts.
type Layer struct {
	Package string
	May     []string // these and everything below them; "*" is everything
	Why     string   // the reason, shown with a violation
}

// Anywhere may be imported by every package: it imports nothing of ours, and a
// log line or a counter can be wanted everywhere.
const Anywhere = "internal/telemetry"

const (
	whyFoundation = "it lies at the bottom; an import from here would soon close a circle"
	whyPure       = "it is pure: rules on plain values, which must be testable without a service"
	whyService    = "services know neither adapters nor each other: declare the method you need beside the call, and let internal/app hand it in"
	whyAdapter    = "an adapter turns one outside system into our values; it serves any service and knows none"
)

// Layers is the table of docs/design.md, "Layers", from the bottom up.
var Layers = []Layer{
	{"schema", nil, whyFoundation},
	{"internal/errs", nil, whyFoundation},
	{"internal/telemetry", nil, whyFoundation},
	{"internal/nowait", nil, whyFoundation},
	{"internal/lines", nil, whyFoundation},
	{"internal/certs", nil, whyFoundation},
	{"internal/addresses", nil, whyFoundation},
	{"internal/patient", nil, whyFoundation},
	{"internal/signature", nil, whyFoundation},
	{"internal/seal", []string{"internal/errs"}, "it knows texts and places, and nothing of what is sealed"},
	{"internal/embedded", nil, "the embedded engines are addresses to everyone else; they know no part that uses them"},
	{"internal/importrules", nil, whyFoundation},
	{"pipeline/stream", []string{"internal/certs"}, "it moves records, and must not know what is in them"},
	{"dashboards", nil, "it serves files; what they show comes over HTTP"},

	{"internal/deploy", []string{"schema", "internal/errs"}, whyPure},
	{"internal/logjob", []string{"schema", "internal/errs"}, whyPure},

	{"internal/gateway", []string{"internal/certs", "internal/deploy", "schema", "internal/errs", "internal/nowait", "internal/lines"}, whyService},
	{"internal/rollback", []string{"internal/deploy", "schema", "internal/errs"}, whyService},
	{"internal/notify", []string{"internal/deploy", "internal/signature", "schema", "internal/errs"}, whyService},
	{"internal/api", []string{"internal/addresses", "internal/deploy", "internal/logjob", "schema", "internal/errs"}, whyService},
	{"internal/deletion", []string{"internal/logjob", "schema", "internal/errs"}, whyService},
	{"pipeline/ingest", []string{"internal/logjob", "pipeline/stream", "schema", "internal/errs"}, whyService},
	{"pipeline/logpush", []string{"internal/logjob", "pipeline/stream", "schema", "internal/errs"}, whyService},
	{"pipeline/verify", []string{"pipeline/stream", "schema", "internal/errs"}, whyService},

	{"internal/clickhouse", []string{"internal/certs", "internal/deploy", "internal/logjob", "schema", "internal/errs"}, whyAdapter},
	{"internal/store", []string{"internal/deploy", "internal/logjob", "internal/seal", "schema", "internal/errs", "internal/patient"}, whyAdapter},
	{"internal/signin", []string{"schema", "internal/errs"}, whyAdapter},
	{"internal/runtime", []string{"internal/addresses", "internal/deploy", "internal/logjob", "schema", "internal/errs", "internal/nowait", "internal/lines"}, whyAdapter},
	{"internal/api/client", []string{"internal/deploy", "internal/logjob", "schema", "internal/errs"}, whyAdapter},
	{"pipeline/logpush/sink", []string{"pipeline/logpush", "internal/addresses", "internal/signature"}, "a destination takes a name and bytes, and answers with an error that logpush can classify"},

	{"internal/app", []string{
		"schema", "internal/errs", "internal/addresses", "internal/certs", "internal/deploy", "internal/logjob", "dashboards",
		"internal/gateway", "internal/rollback", "internal/notify", "internal/api", "internal/deletion", "pipeline",
		"internal/clickhouse", "internal/store", "internal/runtime", "internal/patient", "internal/seal", "internal/signin",
	}, "it wires services to adapters by address; whether an address is embedded is decided above it"},
	{"cmd", []string{"internal/app"}, "a main package reads flags and calls internal/app"},
	{"cmd/tidegate", []string{"internal/app", "internal/embedded", "internal/certs", "internal/api/client", "internal/deploy", "internal/logjob", "internal/signature", "pipeline/verify", "schema", "internal/errs"},
		"the all-in-one is every role on embedded addresses; its other commands are a client of the API, with the shapes that the client speaks in"},

	{"test", []string{"*"}, "tests and the demo may look at anything"},
	{"bench", []string{"*"}, "benchmarks may measure anything"},
}

// An Owner says which packages of this module may import something from outside
// it, so that each outside system ends in one place.
type Owner struct {
	Import string   // this import path and everything below it
	By     []string // packages of ours, and everything below them
	Why    string
}

// Owners lists the imports that belong to somebody. The most specific one counts.
var Owners = []Owner{
	{"github.com/segmentio/kafka-go", []string{"pipeline/stream"}, "Kafka ends in pipeline/stream: its defaults lose data, and are set right once"},
	{"github.com/twmb/franz-go/pkg/kmsg", []string{"internal/embedded", "pipeline/stream", "pipeline/logpush/sink/kafka"}, "it writes and reads Kafka's messages: where kafka-go's own reader of records is too slow, pipeline/stream fetches by it"},
	{"github.com/twmb/franz-go", []string{"internal/embedded", "pipeline/logpush/sink/kafka"}, "it is there for the embedded broker, and for a Kafka that is somebody else's destination, where its idempotent producer and its logins pay; our own is spoken to by kafka-go, so that what is tested is what runs"},
	{"github.com/ClickHouse", []string{"internal/clickhouse"}, "ClickHouse ends in internal/clickhouse"},
	{"github.com/ClickHouse/clickhouse-go/v2/lib", []string{"internal/clickhouse", "internal/embedded"}, "the embedded engine's HTTP face encodes blocks as ClickHouse does"},
	{"github.com/ClickHouse/ch-go", []string{"internal/clickhouse", "internal/embedded"}, "the embedded engine's HTTP face encodes blocks as ClickHouse does"},
	{"github.com/ebitengine/purego", []string{"internal/embedded"}, "a native library can take the process down: only the supervised child loads one"},
	{"C", nil, "every binary builds without a C compiler"},

	{"github.com/gin-gonic/gin", []string{"internal/api"}, "the HTTP API is one place; a change of framework must stay there"},
	{"github.com/gobwas/ws", []string{"internal/api"}, "those who watch a script get frames by hand, because wrangler breaks the protocol; nobody else should"},
	{"github.com/pires/go-proxyproto", []string{"internal/gateway/listen"}, "who may say where a connection comes from is decided in one place"},
	{"github.com/mholt/acmez", []string{"internal/gateway/listen"}, "who may be asked for certificates, and for whom, is decided in one place"},
	{"database/sql", []string{"internal/store", "internal/clickhouse", "internal/runtime"}, "SQL lives in the stores, written out; the storage of Durable Objects is SQLite too"},
	{"github.com/jackc/pgx", []string{"internal/store"}, "the control plane's SQL lives in internal/store"},
	{"modernc.org/sqlite", []string{"internal/store", "internal/runtime"}, "the control plane's SQL lives in internal/store; the storage of Durable Objects is SQLite"},
	{"github.com/pressly/goose", []string{"internal/store", "internal/clickhouse"}, "a migration belongs to the store that reads the tables"},

	{"github.com/tink-crypto", []string{"internal/seal"}, "what is sealed, by which key and for which place is decided in one place"},
	{"github.com/coreos/go-oidc", []string{"internal/signin"}, "who is believed about people is decided in one place"},
	{"github.com/wneessen/go-mail", []string{"internal/notify"}, "e-mail ends in one place"},
	{"github.com/aws", []string{"pipeline/logpush/sink"}, "buckets end in a sink"},
	{"gocloud.dev", []string{"pipeline/logpush/sink"}, "buckets end in a sink"},

	{"github.com/spf13", []string{"internal/app", "cmd"}, "flags are read where a process starts; everything else takes values"},
	{"go.opentelemetry.io/otel/sdk", []string{"internal/telemetry"}, "everyone else uses the metric and trace API; which exporters listen is set up once"},
	{"go.opentelemetry.io/otel/exporters", []string{"internal/telemetry"}, "everyone else uses the metric and trace API; which exporters listen is set up once"},
	{"github.com/prometheus", []string{"internal/telemetry"}, "everyone else uses the metric and trace API; which exporters listen is set up once"},
}

// Pure packages and what would end their purity.
var (
	Pure    = []string{"internal/deploy", "internal/logjob"}
	NotPure = []string{"os", "net", "net/http", "database/sql", "log/slog", "math/rand/v2"}
)

// Check returns one sentence for each import of pkg that the tables forbid. Paths
// are import paths, as `go list` prints them.
func Check(pkg string, imports []string) []string {
	relative, ours := local(pkg)
	if !ours {
		return []string{pkg + " is not in the module " + Module}
	}
	layer, ok := layerOf(relative)
	if !ok {
		return []string{fmt.Sprintf("%s is in no layer: say in importrules.Layers what it may import, and why", relative)}
	}
	if slices.Contains(layer.May, "*") {
		return nil
	}
	var wrong []string
	for _, imported := range imports {
		if path, ours := local(imported); ours {
			if !mayImport(layer, path) {
				wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", relative, path, layer.Why))
			}
			continue
		}
		if owner, ok := ownerOf(imported); ok && !within(relative, owner.By) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", relative, imported, owner.Why))
		}
		if below(relative, "schema") && !standard(imported) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s: whoever reads our shapes must not need our dependencies", relative, imported))
		}
		if slices.Contains(Pure, relative) && slices.Contains(NotPure, imported) {
			wrong = append(wrong, fmt.Sprintf("%s imports %s: %s", relative, imported, whyPure))
		}
	}
	return wrong
}

// mayImport reports whether a package of the layer may import path. A package of
// another, more specific layer is not part of what its parent allows.
func mayImport(layer Layer, path string) bool {
	if path == Anywhere {
		return true
	}
	imported, ok := layerOf(path)
	if ok && imported.Package == layer.Package {
		return true
	}
	return within(path, layer.May)
}

func layerOf(path string) (best Layer, ok bool) {
	for _, layer := range Layers {
		if below(path, layer.Package) && len(layer.Package) >= len(best.Package) {
			best, ok = layer, true
		}
	}
	return best, ok
}

func ownerOf(imported string) (best Owner, ok bool) {
	for _, owner := range Owners {
		if below(imported, owner.Import) && len(owner.Import) >= len(best.Import) {
			best, ok = owner, true
		}
	}
	return best, ok
}

func local(importPath string) (relative string, ok bool) {
	return strings.CutPrefix(importPath, Module+"/")
}

func within(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool { return below(path, root) })
}

func below(path, root string) bool {
	return path == root || strings.HasPrefix(path, root+"/")
}

// standard reports whether an import path is of the standard library: its first
// element has no dot.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}
