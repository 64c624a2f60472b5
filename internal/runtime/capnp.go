package runtime

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

//go:embed router.js
var routerModule string

const (
	// codeUnrunnable is Cloudflare's code for code that does not run.
	codeUnrunnable = 10021
	// defaultCompatibilityDate is Cloudflare's for an upload without one.
	defaultCompatibilityDate = "2021-11-02"
	// routerDate is the compatibility date of our own modules.
	routerDate = "2026-01-01"

	// Headers between router and process. A client cannot set them: http1 drops them.
	protoHeader = "Tidegate-Proto" // the scheme of request.url
	cfHeader    = "Tidegate-Cf"    // request.cf; without it the runtime would tell our process id there
)

// processConfig is all that a process's configuration is made of. Paths of sockets
// are absolute; those of modules are relative to the configuration's folder.
type processConfig struct {
	bundle  *deploy.Bundle
	modules map[string]string // paths by SHA-256

	privateNetwork bool
	heapBytes      int64    // of V8, for each isolate
	sockets        []socket // of the user's Worker
	// nonce and bindings are the calling secret and the gateway's socket.
	nonce, bindings string

	// objects is the disk of the version's Durable Objects, secret what the router's
	// control of them carries, and movingAlarm the error of an alarm that comes while its
	// object is moving. A check has none of them: its objects are in memory.
	objects, secret, movingAlarm string

	// router and sink are the sockets of our own Worker and of the router; both
	// empty for a check, which has neither.
	router, sink string
	// probe is a check's module, in front of the user's main module, or for the
	// service-worker syntax the path of the script to run instead. A check has no network.
	checking  bool
	probeName string
	probe     string
	script    string
}

// socket is the way to one entry point; "" is the default one.
type socket struct{ entrypoint, path string }

// entrypoints lists what can be called from outside, the default one first.
func entrypoints(e deploy.Exports) []string {
	names := []string{""}
	for _, n := range e.Named {
		if n.Kind == deploy.ExportEntrypoint || n.Kind == deploy.ExportOther && len(n.Handlers) > 0 {
			names = append(names, n.Name)
		}
	}
	return names
}

// render writes the configuration in the text form of Cap'n Proto. It is an
// *errs.Error if the Worker asks for what cannot run here.
func (c *processConfig) render() ([]byte, error) {
	user, err := c.userWorker()
	if err != nil {
		return nil, err
	}
	w := &capnpWriter{}
	w.line(`using Workerd = import "/workerd/workerd.capnp";`)
	w.line(`const config :Workerd.Config = (`)
	w.line(`  v8Flags = ["--max-heap-size=%d"],`, c.heapBytes>>20)
	w.line(`  services = [`)
	w.raw(user)
	if c.router != "" {
		w.line(`    (name = "router", worker = (`)
		w.line(`      modules = [(name = "router", esModule = %s)],`, quote(routerModule))
		w.line(`      compatibilityDate = %s, compatibilityFlags = ["service_binding_extra_handlers"],`, quote(routerDate))
		w.line(`      bindings = [(name = "USER", service = "user"), (name = "SINK", service = "sink")%s],`, c.routerBindings())
		w.line(`      globalOutbound = "nowhere")),`)
		w.line(`    (name = "sink", external = (address = %s, http = ())),`, quote("unix:"+c.sink))
	}
	c.objectServices(w)
	w.line(`    (name = "outbound", network = (%s, tlsOptions = (trustBrowserCas = true))),`, c.networks())
	w.line(`    (name = "nowhere", network = (allow = [])),`)
	for i, b := range c.bundle.Worker.Bindings {
		if b.Type == deploy.BindingService {
			call := deploy.ServiceCall{Nonce: c.nonce, Script: b.Service, Entrypoint: b.Entrypoint}
			w.line(`    (name = "binding-%d", external = (address = %s, http = (`, i, quote("unix:"+c.bindings))
			w.line(`      forwardedProtoHeader = "X-Forwarded-Proto", capnpConnectHost = %s,`, quote(call.RPCHost()))
			w.line(`      injectRequestHeaders = [(name = %s, value = %s)]))),`,
				quote(deploy.BindingHeader), quote(call.Header()))
		}
	}
	w.line(`  ],`)
	c.extensions(w)
	w.line(`  sockets = [`)
	for i, s := range c.sockets {
		w.line(`    (name = "user-%d", address = %s, http = (forwardedProtoHeader = %s, cfBlobHeader = %s, capnpConnectHost = %s),`,
			i, quote("unix:"+s.path), quote(protoHeader), quote(cfHeader), quote(deploy.RPCHost))
		if s.entrypoint == "" {
			w.line(`      service = "user"),`)
		} else {
			w.line(`      service = (name = "user", entrypoint = %s)),`, quote(s.entrypoint))
		}
	}
	if c.router != "" {
		w.line(`    (name = "router", address = %s, http = (), service = "router"),`, quote("unix:"+c.router))
	}
	w.line(`  ]);`)
	return []byte(w.String()), nil
}

func (c *processConfig) networks() string {
	switch {
	case c.checking:
		return `allow = []`
	case c.privateNetwork:
		return `allow = ["public", "private"], deny = ["` + strings.Join(credentials, `", "`) + `"]`
	}
	return `allow = ["public"], deny = ["` + strings.Join(slices.Concat(notPublic, credentials), `", "`) + `"]`
}

// notPublic is what the runtime takes for public and is not: "this network", which some systems
// take for themselves, and IPv6 ranges that carry an IPv4 address, so also a private one. Of
// NAT64 (64:ff9b::/96) it is only those: without it a machine with IPv6 only reaches nothing.
var notPublic = []string{
	"0.0.0.0/8", "::/96", "::ffff:0:0:0/96", "2002::/16", "64:ff9b:1::/48",
	"64:ff9b::/104", "64:ff9b::a00:0/104", "64:ff9b::6440:0/106", "64:ff9b::7f00:0/104", "64:ff9b::ac10:0/108", "64:ff9b::c0a8:0/112",
}

// credentials is where clouds tell a machine about itself, its credentials in it: for no Worker,
// whatever the operator allows. addresses.LinkLocal knows the same, and more of 64:ff9b:1::/48, of which
// a rule can name the first /96 only.
var credentials = func() []string {
	list := []string{"fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32"}
	for _, gateway := range []string{"64:ff9b::", "64:ff9b:1::", "::ffff:0:"} {
		list = append(list, gateway+"a9fe:0/112", gateway+"a83f:8110/128", gateway+"6464:64c8/128", gateway+"c000:c0/128")
	}
	return list
}()

func (c *processConfig) userWorker() (string, error) {
	w := &capnpWriter{}
	worker := &c.bundle.Worker
	w.line(`    (name = "user", worker = (`)
	if err := c.code(w); err != nil {
		return "", err
	}
	date := worker.CompatibilityDate
	if date == "" {
		date = defaultCompatibilityDate
	}
	flags := make([]string, len(worker.CompatibilityFlags))
	for i, f := range worker.CompatibilityFlags {
		flags[i] = quote(f)
	}
	w.line(`      compatibilityDate = %s, compatibilityFlags = [%s],`, quote(date), strings.Join(flags, ", "))
	w.line(`      bindings = [`)
	for i := range worker.Bindings {
		value, err := c.binding(i)
		if err != nil {
			return "", err
		}
		w.line(`        (name = %s, %s),`, quote(worker.Bindings[i].Name), value)
	}
	c.exportedObjects(w)
	w.line(`      ],`)
	c.ownObjects(w)
	if c.router != "" {
		w.line(`      tails = ["router"], cacheApiOutbound = (name = "router", entrypoint = "cache"),`)
	}
	w.line(`      globalOutbound = "outbound")),`)
	return w.String(), nil
}

// code writes the modules, the main one first, or the one script.
func (c *processConfig) code(w *capnpWriter) error {
	worker := &c.bundle.Worker
	main := worker.MainModule
	if main == "" {
		main = worker.BodyPart
	}
	first := -1
	for i, m := range worker.Modules {
		if m.Name == main {
			first = i
		}
	}
	if first < 0 {
		return errs.New(errs.Invalid, codeUnrunnable, "The main module %q is not among the uploaded modules.", main)
	}
	if worker.MainModule == "" {
		path := c.script
		if path == "" {
			path = c.modules[worker.Modules[first].SHA256]
		}
		w.line(`      serviceWorkerScript = embed %s,`, quote(path))
		return nil
	}
	w.line(`      modules = [`)
	if c.probe != "" {
		w.line(`        (name = %s, esModule = %s),`, quote(c.probeName), quote(c.probe))
	}
	c.hostModules(w)
	order := append([]deploy.Module{worker.Modules[first]}, worker.Modules[:first]...)
	for _, m := range append(order, worker.Modules[first+1:]...) {
		if m.ContentType == deploy.ModuleTypeSourceMap {
			continue
		}
		kind, ok := moduleKinds[m.ContentType]
		if !ok {
			return errs.New(errs.Invalid, codeUnrunnable, "The module %q has the type %q, which does not run here.", m.Name, m.ContentType)
		}
		w.line(`        (name = %s, %s = embed %s),`, quote(m.Name), kind, quote(c.modules[m.SHA256]))
	}
	w.line(`      ],`)
	return nil
}

var moduleKinds = map[string]string{
	deploy.ModuleTypeESM:      "esModule",
	deploy.ModuleTypeCommonJS: "commonJsModule",
	deploy.ModuleTypeWasm:     "wasm",
	deploy.ModuleTypeText:     "text",
	deploy.ModuleTypeData:     "data",
}

// binding returns the value of one member of env.
func (c *processConfig) binding(i int) (string, error) {
	b := &c.bundle.Worker.Bindings[i]
	switch b.Type {
	case deploy.BindingPlainText, deploy.BindingSecretText:
		return "text = " + quote(b.Text), nil
	case deploy.BindingJSON:
		if !json.Valid(b.JSON) {
			return "", errs.New(errs.Invalid, codeUnrunnable, "The value of the binding %q is not JSON.", b.Name)
		}
		return "json = " + quote(string(b.JSON)), nil
	case deploy.BindingVersionMetadata:
		return "json = " + quote(versionMetadata(c.bundle)), nil
	case deploy.BindingWasmModule:
		return c.part(b, "wasmModule")
	case deploy.BindingTextBlob:
		return c.part(b, "text")
	case deploy.BindingDataBlob:
		return c.part(b, "data")
	case deploy.BindingService:
		if len(b.Props) > 0 && string(b.Props) != "null" && string(b.Props) != "{}" {
			return "", errs.New(errs.Invalid, codeUnrunnable, "The service binding %q has props, which cannot be passed to another process here.", b.Name)
		}
		return fmt.Sprintf(`service = "binding-%d"`, i), nil
	case deploy.BindingDurableObject:
		return c.objectBinding(b.NamespaceID, b.ClassName), nil
	}
	return "", errs.New(errs.Invalid, codeUnrunnable, "The binding %q has the type %q, which does not run here.", b.Name, b.Type)
}

func (c *processConfig) part(b *deploy.Binding, kind string) (string, error) {
	for _, m := range c.bundle.Worker.Modules {
		if m.Name == b.Part {
			return kind + " = embed " + quote(c.modules[m.SHA256]), nil
		}
	}
	return "", errs.New(errs.Invalid, codeUnrunnable, "The binding %q names the part %q, which is not among the uploaded modules.", b.Name, b.Part)
}

// versionMetadata is what the binding of that name holds (reference/deployments.md, section 12).
func versionMetadata(b *deploy.Bundle) string {
	text, err := json.Marshal(struct {
		ID        string `json:"id"`
		Tag       string `json:"tag"`
		Timestamp string `json:"timestamp"`
	}{b.VersionID, b.Tag, b.CreatedOn.UTC().Format(time.RFC3339Nano)})
	if err != nil {
		panic(err) // three strings always are JSON
	}
	return string(text)
}

type capnpWriter struct{ strings.Builder }

func (w *capnpWriter) line(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }

func (w *capnpWriter) raw(s string) { w.WriteString(s) }

// quote returns s as a string literal of Cap'n Proto's text form, in printable
// ASCII: every other byte is escaped by its number, which never takes in what follows.
func quote(s string) string {
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, `\x%02x`, c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
