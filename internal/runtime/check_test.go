package runtime

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func newChecker(t testing.TB) *Checker {
	t.Helper()
	dir := t.TempDir()
	c, err := NewChecker("", dir, 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the checks left %v, %v", left, err)
		}
	})
	return c
}

// workerOf makes a Worker of modules, the main one first: name, type, content, ...
func workerOf(parts ...string) (*deploy.Worker, map[string][]byte) {
	w := &deploy.Worker{MainModule: parts[0], CompatibilityDate: "2026-01-01"}
	contents := map[string][]byte{}
	for i := 0; i < len(parts); i += 3 {
		content := []byte(parts[i+2])
		w.Modules = append(w.Modules, deploy.Module{Name: parts[i], ContentType: parts[i+1], SHA256: hashOf(content), Bytes: int64(len(content))})
		contents[hashOf(content)] = content
	}
	return w, contents
}

func TestCheckTellsExports(t *testing.T) {
	c := newChecker(t)
	f := func(code string, want deploy.Exports) {
		t.Helper()
		w, contents := workerOf("src/main é\".mjs", deploy.ModuleTypeESM, code, "src/x.js", deploy.ModuleTypeESM, "export const x = 1")
		got, ms, err := c.Check(t.Context(), w, contents)
		if err != nil {
			t.Errorf("%s: %v", code, err)
			return
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", code, got, want)
		}
		if ms <= 0 {
			t.Errorf("%s: the start took %d ms", code, ms)
		}
	}
	f(`import {x} from "./x.js"; export default { fetch() {}, async scheduled() {}, other: x }`, deploy.Exports{Handlers: []string{"fetch", "scheduled"}})
	f(``, deploy.Exports{Handlers: []string{}})
	f(`import {DurableObject, WorkerEntrypoint, WorkflowEntrypoint} from "cloudflare:workers";
		export default class extends WorkerEntrypoint { fetch() {} add(a, b) { return a + b } get n() { throw 1 } }
		export class Room extends DurableObject { alarm() {} }
		class Base extends WorkerEntrypoint { base() {} }
		export class Admin extends Base { own() {} }
		export class Flow extends WorkflowEntrypoint { run() {} }
		export class Plain { fetch() {} }
		export const aux = { fetch() {} };`,
		deploy.Exports{Handlers: []string{"add", "fetch"}, Named: []deploy.NamedExport{
			{Name: "Admin", Kind: deploy.ExportEntrypoint, Handlers: []string{"base", "own"}},
			{Name: "Flow", Kind: deploy.ExportWorkflow, Handlers: []string{"run"}},
			{Name: "Plain", Kind: deploy.ExportOther, Handlers: []string{"fetch"}},
			{Name: "Room", Kind: deploy.ExportDurableObject, Handlers: []string{"alarm"}},
			{Name: "aux", Kind: deploy.ExportOther, Handlers: []string{"fetch"}},
		}})
}

// Classes of Durable Objects are there for the bindings when the top level runs. What
// is not exported is for the store to refuse.
func TestCheckBindsDurableObjects(t *testing.T) {
	w, contents := workerOf("src/main.mjs", deploy.ModuleTypeESM, `import { DurableObject, env } from "cloudflare:workers";
		export class Room extends DurableObject {}
		export class Plain {}
		if (env.ROOM.idFromName("a").toString().length !== 64 || env.SAME.idFromName("a").toString() !== env.ROOM.idFromName("a").toString() || !env.NONE) throw 1;
		export default {}`)
	for _, b := range [][2]string{{"ROOM", "Room"}, {"SAME", "Room"}, {"PLAIN", "Plain"}, {"NONE", "None"}} {
		w.Bindings = append(w.Bindings, deploy.Binding{Name: b[0], Type: deploy.BindingDurableObject, ClassName: b[1]})
	}
	got, _, err := newChecker(t).Check(t.Context(), w, contents)
	if err != nil || len(got.Named) != 2 || got.Named[1].Kind != deploy.ExportDurableObject || len(w.DurableObjects) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestCheckTellsListeners(t *testing.T) {
	w, contents := workerOf("script", deploy.ModuleTypeCommonJS,
		`"use strict"; addEventListener("fetch", () => {}); self.addEventListener("scheduled", function () {}); addEventListener("fetch", () => {})`)
	w.MainModule, w.BodyPart = "", "script"
	got, _, err := newChecker(t).Check(t.Context(), w, contents)
	if want := []string{"fetch", "scheduled"}; err != nil || !reflect.DeepEqual(got.Handlers, want) {
		t.Errorf("got %+v, %v; want %v", got, err, want)
	}
}

// What does not run is refused in the runtime's words, with the places of the user's
// own files.
func TestCheckRefuses(t *testing.T) {
	c := newChecker(t)
	f := func(code, want string) {
		t.Helper()
		w, contents := workerOf("sub/user.mjs", deploy.ModuleTypeESM, code)
		_, _, err := c.Check(t.Context(), w, contents)
		e, ok := errors.AsType[*errs.Error](err)
		if !ok || e.Kind != errs.Invalid || e.Code != 10021 {
			t.Errorf("%s: got %v", code, err)
			return
		}
		if !strings.HasPrefix(e.Message, want) || strings.Contains(e.Message, "probe") || strings.Contains(e.Message, "service user") {
			t.Errorf("%s: got %q, want %q", code, e.Message, want)
		}
	}
	f(`export default {`, "Uncaught SyntaxError: Unexpected end of input\n  at sub/user.mjs:1:16")
	f(`console.error("x"); throw new TypeError("boom\nsecond line")`, "Uncaught TypeError: boom\nsecond line")
	f(`import "./no.mjs"`, "Uncaught Error: No such module \"sub/no.mjs\".\n  imported from \"sub/user.mjs\"")
	f(`export const limit = 3; export default {}`, "Uncaught TypeError: Incorrect type for map entry 'limit'")
	f(`await new Promise(() => {})`, "Uncaught Error: Top-level await in module is unsettled.")
	f(`await fetch("http://example.com")`, "Uncaught Error: Disallowed operation called within global scope.")
	f(`for (;;);`, "Script startup timed out: its top level has not ended after 5s.")
	f(`const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))`, "the script used more memory than it may")
}

// The runtime remarks that a flag is on anyway after it has said why the code does not
// run; people were shown the remark as a part of the reason.
func TestCheckTellsReasonsAlone(t *testing.T) {
	w, contents := workerOf("user.mjs", deploy.ModuleTypeESM, "export default {")
	w.CompatibilityDate, w.CompatibilityFlags = "2026-01-01", []string{"global_navigator"}
	_, _, err := newChecker(t).Check(t.Context(), w, contents)
	if want := "Uncaught SyntaxError: Unexpected end of input\n  at user.mjs:1:16"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %q", err, want)
	}
}

func TestCheckRefusesWhatCannotRun(t *testing.T) {
	c := newChecker(t)
	f := func(change func(*deploy.Worker), want string) {
		t.Helper()
		w, contents := workerOf("index.js", deploy.ModuleTypeESM, "export default {}")
		change(w)
		_, _, err := c.Check(t.Context(), w, contents)
		if errs.KindOf(err) != errs.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f(func(w *deploy.Worker) { w.Bindings = []deploy.Binding{{Name: "KV", Type: "kv_namespace"}} }, `"KV" has the type "kv_namespace"`)
	f(func(w *deploy.Worker) {
		w.Bindings = []deploy.Binding{{Name: "D", Type: deploy.BindingDataBlob, Part: "no"}}
	}, `"D" names the part "no"`)
	f(func(w *deploy.Worker) {
		w.Bindings = []deploy.Binding{{Name: "B", Type: deploy.BindingService, Service: "x", Props: []byte(`{"a":1}`)}}
	}, `"B" has props`)
	f(func(w *deploy.Worker) { w.Modules[0].ContentType = "text/x-python" }, `"text/x-python"`)
	f(func(w *deploy.Worker) { w.MainModule = "no.js" }, `"no.js"`)
	f(func(w *deploy.Worker) { w.CompatibilityDate = "2999-01-01" }, "2999-01-01")
	f(func(w *deploy.Worker) { w.CompatibilityFlags = []string{"experimental"} }, "experimental")
}

func TestCheckEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w, contents := workerOf("index.js", deploy.ModuleTypeESM, "for (;;);")
	if _, _, err := newChecker(t).Check(ctx, w, contents); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
