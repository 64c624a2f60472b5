package runtime

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

var update = flag.Bool("update", false, "write the golden files anew")

// goldenConfig has one of everything.
func goldenConfig() *processConfig {
	hash := func(s string) string { return hashOf([]byte(s)) }
	return &processConfig{
		bundle: &deploy.Bundle{
			AccountID: testAccount, Script: "shop", VersionID: v1, Tag: `a "tag"`, CreatedOn: time.Date(2026, 11, 1, 12, 0, 0, 500_000_000, time.UTC),
			Worker: deploy.Worker{
				MainModule: "src/index.js",
				Modules: []deploy.Module{
					{Name: `li"b\é.js`, ContentType: deploy.ModuleTypeESM, SHA256: hash("lib")},
					{Name: "src/index.js", ContentType: deploy.ModuleTypeESM, SHA256: hash("main")},
					{Name: "src/index.js.map", ContentType: deploy.ModuleTypeSourceMap, SHA256: hash("map")},
					{Name: "a.wasm", ContentType: deploy.ModuleTypeWasm, SHA256: hash("wasm")},
					{Name: "c.cjs", ContentType: deploy.ModuleTypeCommonJS, SHA256: hash("cjs")},
				},
				CompatibilityFlags: []string{"nodejs_compat"},
				Bindings: []deploy.Binding{
					{Name: "DATA", Type: deploy.BindingDataBlob, Part: "a.wasm"},
					{Name: "JSON", Type: deploy.BindingJSON, JSON: []byte(`{"a": [1, "\n"]}`)},
					{Name: "SECRET", Type: deploy.BindingSecretText, Text: "two\nlines\x00\x7f"},
					{Name: "SVC", Type: deploy.BindingService, Service: "other", Entrypoint: "Admin", Props: []byte("{}")},
					{Name: "VERSION", Type: deploy.BindingVersionMetadata},
				},
				Exports: deploy.Exports{Named: []deploy.NamedExport{
					{Name: "Admin", Kind: deploy.ExportEntrypoint}, {Name: "Room", Kind: deploy.ExportDurableObject},
				}},
			},
		},
		modules: map[string]string{
			hash("lib"): "../modules/lib", hash("main"): "../modules/main", hash("wasm"): "../modules/wasm", hash("cjs"): "../modules/cjs",
		},
		heapBytes: 192 << 20,
		sockets:   []socket{{"", "/run/u0"}, {"Admin", "/run/u1"}},
		nonce:     "NONCE", bindings: "/run/bindings",
		router: "/run/router", sink: "/run/sink",
	}
}

func TestConfigGolden(t *testing.T) {
	f := func(name string, c *processConfig) {
		t.Helper()
		got, err := c.render()
		if err != nil {
			t.Fatal(err)
		}
		// Our own module has tests of its own, and would be a thousand escapes here.
		for name, module := range map[string]string{"router.js": routerModule, "objects.js": objectsModule, "hosted.js": hostedModule, "namespace.js": namespaceModule} {
			got = []byte(strings.Replace(string(got), quote(module), quote(name), 1))
		}
		path := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(path, got, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s: got\n%s\nwant\n%s\nrun with -update if that is meant", name, got, want)
		}
	}
	f("modules.capnp", goldenConfig())
	c := goldenConfig()
	c.bundle.Worker.MainModule, c.bundle.Worker.BodyPart = "", "src/index.js"
	c.bundle.Worker.Bindings = []deploy.Binding{{Name: "W", Type: deploy.BindingWasmModule, Part: "a.wasm"}}
	c.sockets = c.sockets[:1]
	c.privateNetwork = true
	f("script.capnp", c)
	objects := []deploy.DurableObjectNamespace{{ID: "0123456789abcdef0123456789abcdef", Class: "Room"}, {ID: "fedcba9876543210fedcba9876543210", Class: "Raum\"ü", SQLite: true}}
	c = goldenConfig()
	c.objects, c.secret, c.bundle.Worker.DurableObjects = "/data/objects", "SECRET", objects
	c.movingAlarm = "MOVING"
	c.bundle.Worker.Bindings = []deploy.Binding{{Name: "ROOM", Type: deploy.BindingDurableObject, ClassName: "Room", NamespaceID: objects[0].ID}}
	f("objects.capnp", c)
	c = goldenConfig()
	c.checking, c.router, c.sink = true, "", ""
	c.probeName, c.probe = "probe", "export default {}"
	f("check.capnp", c)
}

// unquote reads one string literal of Cap'n Proto's text form (its lexer's escapes).
// It fails if s is not exactly one.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", fmt.Errorf("%q is not in quotes", s)
	}
	s = s[1 : len(s)-1]
	var out []byte
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '"' || s[i] < ' ' || s[i] > '~':
			return "", fmt.Errorf("byte %d, %q, would end or break the literal", i, s[i])
		case s[i] != '\\':
			out = append(out, s[i])
			continue
		case i+1 == len(s):
			return "", fmt.Errorf("the last byte escapes the end")
		}
		i++
		switch s[i] {
		case '"', '\\':
			out = append(out, s[i])
		case 'n':
			out = append(out, '\n')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf("byte %d: the escape is cut", i)
			}
			b, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", err
			}
			out = append(out, byte(b))
			i += 2
		default:
			return "", fmt.Errorf("byte %d: \\%c is not written", i, s[i])
		}
	}
	return string(out), nil
}

// Whatever the text, it is one literal, of printable ASCII, that means the text.
func FuzzQuote(f *testing.F) {
	for _, s := range []string{"", `"`, `\`, "\n\x00f\x7f", "é€𝄞", "\xff\xfe", `\x41`, `"); evil = (name = "`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, err := unquote(quote(s)); err != nil || got != s {
			t.Errorf("%q is written as %s, which reads as %q, %v", s, quote(s), got, err)
		}
	})
}

// The runtime reads what we write: strange strings arrive as they are.
func TestRuntimeReadsStrings(t *testing.T) {
	runes := []rune("ab\"'\\\n\r\t\x00\x01\x7f<>;(),=# é€𝄞\u2028\ufeff")
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]any{}
	r := newRig(t, nil)
	r.add(v1, `export default { fetch(_, env) { return Response.json(env) } }`, func(b *deploy.Bundle) {
		for i := range 200 {
			text := make([]rune, random.IntN(20))
			for j := range text {
				text[j] = runes[random.IntN(len(runes))]
			}
			name := fmt.Sprintf("%d %s", i, string(text))
			binding := deploy.Binding{Name: name, Type: deploy.BindingPlainText, Text: string(text)}
			if i%2 == 0 {
				value, err := json.Marshal(string(text))
				if err != nil {
					t.Fatal(err)
				}
				binding = deploy.Binding{Name: name, Type: deploy.BindingJSON, JSON: value}
			}
			b.Worker.Bindings = append(b.Worker.Bindings, binding)
			want[name] = string(text)
		}
	})
	w := r.deploy(v1)[v1]
	var got map[string]any
	if err := json.Unmarshal([]byte(mustGet(t, w, "/")), &got); err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(got, want) {
		for name := range want {
			if got[name] != want[name] {
				t.Errorf("binding %q is %q", name, got[name])
			}
		}
		t.Errorf("%d bindings, want %d", len(got), len(want))
	}
}
