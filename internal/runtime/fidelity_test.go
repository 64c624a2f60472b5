package runtime

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tidegate/internal/deploy"
)

const (
	fidelityDir = "testdata/fidelity"
	// fidelityCallee is another script, which the probes have a service binding to.
	fidelityCallee = `import { WorkerEntrypoint } from "cloudflare:workers";
		export default class extends WorkerEntrypoint {
			echo(x) { return x; }
			async callStub(stub, x) { return [await stub.echo(x), await (await stub.fetch("http://x/hello")).text()]; }
		}`
)

// fidelityNamespaces are those that the probes use, by the names of their bindings.
var fidelityNamespaces = []struct {
	binding string
	deploy.DurableObjectNamespace
}{
	{"FAILS", deploy.DurableObjectNamespace{ID: strings.Repeat("1", 32), Class: "Fails", SQLite: true}},
	{"NOFETCH", deploy.DurableObjectNamespace{ID: strings.Repeat("2", 32), Class: "NoFetch", SQLite: true}},
	{"OBJ", deploy.DurableObjectNamespace{ID: counterID, Class: "Obj", SQLite: true}},
	{"OLD", deploy.DurableObjectNamespace{ID: strings.Repeat("3", 32), Class: "Old"}},
	{"RETURNS", deploy.DurableObjectNamespace{ID: strings.Repeat("4", 32), Class: "Returns", SQLite: true}},
}

// fidelityModules are the files of the Worker, the main one first.
func fidelityModules(t testing.TB) []deploy.Module {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(fidelityDir, "*.js"))
	if err != nil || len(paths) < 2 {
		t.Fatal(paths, err)
	}
	modules := []deploy.Module{{Name: "index.js", ContentType: deploy.ModuleTypeESM}}
	for _, path := range paths {
		if name := filepath.Base(path); name != "index.js" {
			modules = append(modules, deploy.Module{Name: name, ContentType: deploy.ModuleTypeESM, SHA256: readFile(t, path)})
		}
	}
	return modules
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// fidelityNative starts workerd as anybody would write its configuration.
func fidelityNative(t *testing.T, date string, flags []string) http.RoundTripper {
	t.Helper()
	dir := t.TempDir()
	w := &capnpWriter{}
	w.line(`using Workerd = import "/workerd/workerd.capnp";`)
	w.line(`const config :Workerd.Config = (services = [(name = "user", worker = (modules = [`)
	for _, m := range fidelityModules(t) {
		w.line(`(name = %s, esModule = %s),`, quote(m.Name), quote(readFile(t, filepath.Join(fidelityDir, m.Name))))
	}
	w.line(`], compatibilityDate = %s, compatibilityFlags = [%s], bindings = [`, quote(date), quoteAll(flags))
	for _, n := range fidelityNamespaces {
		w.line(`(name = %s, durableObjectNamespace = %s),`, quote(n.binding), quote(n.Class))
	}
	w.line(`(name = "SELF", service = "callee"), (name = "TEXT", text = "a text")], durableObjectNamespaces = [`)
	for _, n := range fidelityNamespaces {
		w.line(`(className = %s, uniqueKey = %s, enableSql = %t),`, quote(n.Class), quote(n.ID), n.SQLite)
	}
	w.line(`], durableObjectStorage = (localDisk = "disk"))), (name = "disk", disk = (path = %s, writable = true)),`, quote(dir))
	w.line(`(name = "callee", worker = (modules = [(name = "callee", esModule = %s)], compatibilityDate = %s))],`, quote(fidelityCallee), quote(routerDate))
	socket := filepath.Join(dir, "u")
	w.line(`sockets = [(name = "user", address = %s, http = (), service = "user")]);`, quote("unix:"+socket))
	return serveBare(t, dir, w.String(), socket)
}

func quoteAll(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = quote(s)
	}
	return strings.Join(quoted, ", ")
}

// serveBare runs a configuration of ours that no Backends knows of.
func serveBare(t testing.TB, dir, config, socket string) http.RoundTripper {
	t.Helper()
	rt, _ := startBare(t, dir, config, socket)
	return rt
}

func startBare(t testing.TB, dir, config, socket string) (http.RoundTripper, int) {
	t.Helper()
	workerd, err := FindWorkerd("")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.capnp")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(workerd, "serve", path, "config")
	cmd.SysProcAttr = dieWithParent()
	if os.Getenv("TIDEGATE_TEST_LOG") != "" {
		cmd.Stderr = os.Stderr
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if c, err := net.Dial("unix", socket); err == nil {
			_ = c.Close()
			return newWorkerHTTP1(DefaultConfig(), socket, new(atomic.Int64), unexplained), cmd.Process.Pid
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
		<-tick.C
	}
}

// fidelityRig has two versions of the probes; the deployment gives the second one a
// share of the objects.
func fidelityRig(t *testing.T, date string, flags []string, second int) worker {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "b")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, func(c *Config) { withObjectsHere(c); c.Workers.BindingsSocket = socket })
	for _, id := range []string{v1, v2} {
		r.add(id, readFile(t, filepath.Join(fidelityDir, "index.js")), func(b *deploy.Bundle) {
			w := &b.Worker
			w.Modules, w.CompatibilityDate, w.CompatibilityFlags = fidelityModules(t), date, flags
			for _, n := range fidelityNamespaces {
				w.DurableObjects = append(w.DurableObjects, n.DurableObjectNamespace)
				w.Bindings = append(w.Bindings, deploy.Binding{Name: n.binding, Type: deploy.BindingDurableObject, ClassName: n.Class, NamespaceID: n.ID})
				w.Exports.Named = append(w.Exports.Named, deploy.NamedExport{Name: n.Class, Kind: deploy.ExportDurableObject})
			}
			w.Bindings = append(w.Bindings, deploy.Binding{Name: "SELF", Type: deploy.BindingService, Service: "callee"},
				deploy.Binding{Name: "TEXT", Type: deploy.BindingPlainText, Text: "a text"})
		})
	}
	r.add(v3, fidelityCallee, nil)
	_, all := r.split(100-second, second)
	joinBindings(t, ln, func() *Backends { return r.Backends }, func() worker { return all[v3] })
	return all[v1]
}

// fidelityOf runs the probes.
func fidelityOf(t *testing.T, rt http.RoundTripper) map[string]string {
	t.Helper()
	path := "/"
	if one := os.Getenv("TIDEGATE_TEST_PROBE"); one != "" {
		path += "?probe=" + one
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal([]byte(mustGet(t, rt, path)), &raw); err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for name, value := range raw {
		seen[name] = string(value)
	}
	return seen
}

// knownDifferences are probes whose answers differ from native ones, and why they stay so.
var knownDifferences = map[string]string{
	"fetches/socketClosedWithoutCode": "the way between processes loses the object's answer to a close without a code: 1006 instead of 1000",
	"ids/exportsNamespace":            "in ctx.exports the namespace is the binding's object, whose class has another name than one of the runtime",
	"ids/longNameAtTheLimit":          "the proxy is named by id and name, so that names above 959 bytes are not told to the object, instead of 1024",
	"ids/misused":                     "a binding is an object of JavaScript: it can be cloned, to nothing, and its class be constructed",
	"ids/stacks":                      "the methods of a binding are frames in the stacks of their errors",
	"life/brokenStub":                 "a stub whose object was reset leads to the next one, instead of failing for good",
	"life/resetErrors":                "what the proxy throws is an error of JavaScript: it is remote, and before 2026-04-21 no reset",
	"rpc/errorIds":                    "the runtime writes the proxy's id into errors of RPC",
	"rpc/passedOn":                    "a stub is known to its own process only; where the object is in another version's, that fails",
	"rpc/passedToAService":            "a stub is known to its own process only, and another script has another one",
	"rpc/pipelinedStub":               "the same for a stub that an object of another process returns",
	"rpc/serviceBindingPassedOn":      "a service binding leads out of the process, and the runtime does not pass on such a one",
}

// Nothing that an object, or who calls it, can see tells of proxies, moves and other
// versions' processes.
func TestObjectsAreLikeNativeOnes(t *testing.T) {
	differed := map[string]bool{}
	// places give the second version's process its share of the objects.
	places := map[string]int{"own process": 0, "other process": 100, "both": 50}
	f := func(places map[string]int, date string, flags ...string) {
		want := fidelityOf(t, fidelityNative(t, date, flags))
		for place, second := range places {
			t.Run(date+" "+place, func(t *testing.T) {
				got := fidelityOf(t, fidelityRig(t, date, flags, second))
				for _, name := range slices.Sorted(maps.Keys(want)) {
					if got[name] == want[name] {
						continue
					}
					differed[name] = true
					if knownDifferences[name] == "" {
						t.Errorf("%s: %s", name, differences(want[name], got[name]))
					}
				}
			})
		}
	}
	f(map[string]int{"both": 50}, "2022-01-01")
	f(map[string]int{"both": 50}, "2024-04-01", "rpc")
	f(places, "2026-10-01", "nodejs_compat")
	for name := range knownDifferences {
		if !differed[name] && os.Getenv("TIDEGATE_TEST_PROBE") == "" {
			t.Errorf("%s does not differ any more", name)
		}
	}
}

// differences names the members of two JSON values that differ.
func differences(want, got string) string {
	var a, b any
	if json.Unmarshal([]byte(want), &a) != nil || json.Unmarshal([]byte(got), &b) != nil {
		return fmt.Sprintf("\n\tnative %s\n\there   %s", want, got)
	}
	var out strings.Builder
	compare(&out, "", a, b)
	return out.String()
}

func compare(out *strings.Builder, at string, a, b any) {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			names := maps.Clone(x)
			maps.Copy(names, y)
			for _, n := range slices.Sorted(maps.Keys(names)) {
				compare(out, at+"."+n, x[n], y[n])
			}
			return
		}
	case []any:
		if y, ok := b.([]any); ok && len(x) == len(y) {
			for i := range x {
				compare(out, fmt.Sprintf("%s[%d]", at, i), x[i], y[i])
			}
			return
		}
	}
	one, _ := json.Marshal(a)
	two, _ := json.Marshal(b)
	if string(one) != string(two) {
		fmt.Fprintf(out, "\n\t%s\n\t\tnative %s\n\t\there   %s", at, one, two)
	}
}
