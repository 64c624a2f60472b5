package runtime

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"tidegate/internal/deploy"
)

var (
	//go:embed objects.js
	objectsModule string
	//go:embed hosted.js
	hostedModule string
	//go:embed namespace.js
	namespaceModule string
)

// ownEntrypoint is before the names of entry points that we add to the user's Worker;
// objects.js and router.js know it too. A class of Durable Objects is one of them
// beside the user's own, which has no storage: nobody gets to the storage but through
// the proxies.
const ownEntrypoint = "tidegate:"

// namespaceIDs lists the namespaces that the version implements or has a binding to.
func (c *processConfig) namespaceIDs() []string {
	var ids []string
	add := func(id string) {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	for _, n := range c.bundle.Worker.DurableObjects {
		add(n.ID)
	}
	for _, b := range c.bundle.Worker.Bindings {
		if b.Type == deploy.BindingDurableObject {
			add(b.NamespaceID)
		}
	}
	return ids
}

// callsObjects reports whether the process has proxies of Durable Objects.
func (c *processConfig) callsObjects() bool { return !c.checking && len(c.namespaceIDs()) > 0 }

// hasObjects reports whether Durable Objects have storage in the process.
func (c *processConfig) hasObjects() bool {
	return !c.checking && len(c.bundle.Worker.DurableObjects) > 0
}

// ownObjects writes the namespaces that the user's Worker implements. Their ids are
// in the ids of their objects, and name the folders of their storage.
func (c *processConfig) ownObjects(w *capnpWriter) {
	namespaces := c.bundle.Worker.DurableObjects
	if len(namespaces) == 0 {
		return
	}
	prefix, storage := ownEntrypoint, `localDisk = "disk"`
	if c.checking {
		prefix, storage = "", `inMemory = void`
	}
	w.line(`      durableObjectNamespaces = [`)
	for _, n := range namespaces {
		w.line(`        (className = %s, uniqueKey = %s, enableSql = %t),`, quote(prefix+n.Class), quote(n.ID), n.SQLite)
	}
	w.line(`      ],`)
	w.line(`      durableObjectStorage = (%s),`, storage)
}

// exportedObjects writes the bindings that hosted.js puts into ctx.exports.
func (c *processConfig) exportedObjects(w *capnpWriter) {
	if !c.hasObjects() {
		return
	}
	for _, n := range c.bundle.Worker.DurableObjects {
		w.line(`        (name = %s, %s),`, quote(ownEntrypoint+n.Class), c.objectBinding(n.ID, n.Class))
	}
}

// hostModules writes the main module of a version with Durable Objects, which exports
// what the user's does, and the classes that have the storage.
func (c *processConfig) hostModules(w *capnpWriter) {
	if !c.hasObjects() {
		return
	}
	worker := &c.bundle.Worker
	host := unusedName(worker, "tidegate-host")
	hosted := unusedName(worker, "tidegate-hosted")
	main := jsString(worker.MainModule)
	var js strings.Builder
	// Ours first: the user's may change what it is built from.
	fmt.Fprintf(&js, "import { hosted, notes } from %s;\nimport * as user from %s;\nexport * from %[2]s;\n", jsString(hosted), main)
	js.WriteString("const main = user.default;\nexport { main as default };\n")
	fmt.Fprintf(&js, "export { notes as %s };\n", jsString(ownEntrypoint+"notes"))
	for i, n := range worker.DurableObjects {
		fmt.Fprintf(&js, "const Class%d = hosted(user[%s], %s, %s);\nexport { Class%[1]d as %[5]s };\n",
			i, jsString(n.Class), jsString(c.secret), jsString(c.movingAlarm), jsString(ownEntrypoint+n.Class))
	}
	w.line(`        (name = %s, esModule = %s),`, quote(host), quote(js.String()))
	w.line(`        (name = %s, esModule = %s),`, quote(hosted), quote(hostedModule))
}

// objectServices writes the Worker with the proxies, and the disk.
func (c *processConfig) objectServices(w *capnpWriter) {
	if c.hasObjects() {
		w.line(`    (name = "disk", disk = (path = %s, writable = true)),`, quote(c.objects))
	}
	if !c.callsObjects() {
		return
	}
	ids := c.namespaceIDs()
	var js strings.Builder
	js.WriteString("import { control, proxyOf } from \"objects\";\nimport { DurableObject } from \"cloudflare:workers\";\nexport default control;\n")
	for i, id := range ids {
		fmt.Fprintf(&js, "export const Proxy%d = proxyOf(%s);\nexport class Ids%[1]d extends DurableObject {}\n", i, jsString(id))
	}
	w.line(`    (name = "objects", worker = (`)
	w.line(`      modules = [(name = "main", esModule = %s), (name = "objects", esModule = %s)],`, quote(js.String()), quote(objectsModule))
	w.line(`      compatibilityDate = %s, compatibilityFlags = ["enhanced_error_serialization"],`, quote(routerDate))
	w.line(`      bindings = [(name = "DEBUG", workerdDebugPort = void), (name = "ROUTER", service = "sink"), (name = "SECRET", text = %s)],`, quote(c.secret))
	w.line(`      durableObjectNamespaces = [`)
	for i, id := range ids {
		w.line(`        (className = "Proxy%d", uniqueKey = %s),`, i, quote(ownEntrypoint+id))
		if !c.implements(id) {
			w.line(`        (className = "Ids%d", uniqueKey = %s),`, i, quote(id))
		}
	}
	w.line(`      ],`)
	w.line(`      durableObjectStorage = (inMemory = void),`)
	w.line(`      globalOutbound = "nowhere")),`)
}

// implements reports whether the namespace is the script's own.
func (c *processConfig) implements(id string) bool {
	return slices.ContainsFunc(c.bundle.Worker.DurableObjects, func(n deploy.DurableObjectNamespace) bool { return n.ID == id })
}

func (c *processConfig) routerBindings() string {
	if !c.callsObjects() {
		return ""
	}
	return fmt.Sprintf(`, (name = "OBJECTS", service = "objects"), (name = "SECRET", text = %s), (name = "MOVING_ALARM", text = %s)`, quote(c.secret), quote(c.movingAlarm))
}

func (c *processConfig) extensions(w *capnpWriter) {
	if c.callsObjects() {
		w.line(`  extensions = [(modules = [(name = "tidegate:namespace", internal = true, esModule = %s)])],`, quote(namespaceModule))
	}
}

// objectBinding returns a namespace as a member of env. The runtime makes the ids: it
// needs a namespace with the same key, be it one without objects.
func (c *processConfig) objectBinding(id, class string) string {
	if c.checking {
		return fmt.Sprintf("durableObjectNamespace = (className = %s)", quote(class))
	}
	i := slices.Index(c.namespaceIDs(), id)
	ids := fmt.Sprintf(`(className = "Ids%d", serviceName = "objects")`, i)
	for _, n := range c.bundle.Worker.DurableObjects {
		if n.ID == id {
			ids = fmt.Sprintf(`(className = %s)`, quote(ownEntrypoint+n.Class))
		}
	}
	return fmt.Sprintf(`wrapped = (moduleName = "tidegate:namespace", innerBindings = [`+
		`(name = "ids", durableObjectNamespace = %s), (name = "proxies", durableObjectNamespace = (className = "Proxy%d", serviceName = "objects"))])`, ids, i)
}
