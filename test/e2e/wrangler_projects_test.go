package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/test/platform"
)

// TestWranglerProjects deploys other kinds of projects than hello-world.
func TestWranglerProjects(t *testing.T) {
	p := start(t, platform.Options{})
	for _, w := range wranglers {
		api := record(t, p)
		t.Run(w.version, func(t *testing.T) {
			t.Parallel()
			newRelease := func(t *testing.T, name string) *release {
				return &release{project: newProject(t, w, p, api, name+w.suffix())}
			}
			t.Run("service binding", func(t *testing.T) {
				serviceBinding(t, newRelease(t, "back"), newRelease(t, "front"))
			})
			t.Run("service-worker syntax", func(t *testing.T) { serviceWorkerSyntax(t, newRelease(t, "classic")) })
			t.Run("modules of every kind", func(t *testing.T) { moduleKinds(t, newRelease(t, "kinds")) })
			t.Run("Durable Object", func(t *testing.T) { durableObject(t, newRelease(t, "counter"), newRelease(t, "teller")) })
			t.Run("broken JavaScript", func(t *testing.T) { broken(t, newRelease(t, "bad")) })
		})
	}
}

// backend is a callee with two entry points, by fetch and by RPC.
const backend = `import { WorkerEntrypoint } from "cloudflare:workers";
export default {
  fetch(request, env) { return new Response("fetched %[1]s"); },
};
export class Adder extends WorkerEntrypoint {
  add(a, b) { return "%[1]s adds to " + (a + b); }
}
`

// serviceBinding calls one Worker from another, and finds the callee's split in force.
func serviceBinding(t *testing.T, back, front *release) {
	back.configure(t, nil)
	back.write(t, "src/index.js", fmt.Sprintf(backend, "one"))
	back.v1 = versionID(t, back.run(t, "deploy"))
	back.answers(t, "fetched one")

	front.configure(t, map[string]any{"services": []map[string]string{
		{"binding": "BACK", "service": back.name},
		{"binding": "ADDER", "service": back.name, "entrypoint": "Adder"},
	}})
	front.write(t, "src/index.js", `export default {
  async fetch(request, env) {
    const fetched = await (await env.BACK.fetch("http://back/")).text();
    return new Response(fetched + ", " + await env.ADDER.add(2, 3));
  },
};
`)
	front.run(t, "deploy")
	front.answers(t, "fetched one, one adds to 5")

	back.write(t, "src/index.js", fmt.Sprintf(backend, "two"))
	back.v2 = versionID(t, back.run(t, "versions", "upload"))
	back.run(t, "versions", "deploy", back.v1+"@50", back.v2+"@50", "-y")
	seen := map[string]int{}
	eventually(t, 30*time.Second, "calls reach both versions", func() (bool, error) {
		fetched, added, _ := strings.Cut(front.body(t, nil), ", ")
		seen[fetched]++
		seen[added]++
		if seen["fetched one"]*seen["fetched two"] == 0 {
			return false, fmt.Errorf("the answers are %v", seen)
		}
		return true, nil
	})
	back.run(t, "versions", "deploy", back.v2+"@100", "-y")
	front.answers(t, "fetched two, two adds to 5") // sessions of RPC go on with what is deployed
}

// serviceWorkerSyntax has bindings as globals and no modules.
func serviceWorkerSyntax(t *testing.T, s *release) {
	s.configure(t, map[string]any{"vars": map[string]any{"GREETING": "hello"}})
	s.write(t, "src/index.js", `addEventListener("fetch", (event) => {
  event.respondWith(new Response(GREETING + " from the old syntax"));
});
`)
	s.run(t, "deploy")
	s.answers(t, "hello from the old syntax")
	s.run(t, "deploy", "--var", "GREETING:bye") // upstream has no version upload for it
	s.answers(t, "bye from the old syntax")
}

// moduleKinds imports text, data and wasm, and takes variables of every type.
func moduleKinds(t *testing.T, s *release) {
	s.configure(t, map[string]any{
		"vars":                map[string]any{"TEXT": "plain", "JSON": map[string]int{"n": 4}},
		"compatibility_flags": []string{"nodejs_compat"},
	})
	s.write(t, "src/hello.txt", "text")
	s.write(t, "src/data.bin", "\x00\x01\x02")
	// A module that exports "answer", a function without parameters that returns 42.
	s.write(t, "src/answer.wasm", "\x00asm\x01\x00\x00\x00"+
		"\x01\x05\x01\x60\x00\x01\x7f"+ // types: () -> i32
		"\x03\x02\x01\x00"+ // functions: the first has type 0
		"\x07\x0a\x01\x06answer\x00\x00"+ // exports
		"\x0a\x06\x01\x04\x00\x41\x2a\x0b") // code: i32.const 42
	s.write(t, "src/other.js", `import { Buffer } from "node:buffer"; export const other = Buffer.from("b3RoZXI=", "base64").toString();`)
	s.write(t, "src/index.js", `import text from "./hello.txt";
import data from "./data.bin";
import wasm from "./answer.wasm";
import { other } from "./other.js";
export default {
  async fetch(request, env) {
    const { exports } = await WebAssembly.instantiate(wasm);
    return new Response([text, data.byteLength, exports.answer(), other, env.TEXT, env.JSON.n].join(" "));
  },
};
`)
	s.run(t, "deploy")
	s.answers(t, "text 3 42 other plain 4")
}

// broken is refused in the runtime's words. A syntax error never gets that far:
// wrangler finds it.
func broken(t *testing.T, s *release) {
	s.configure(t, nil)
	s.write(t, "src/index.js", `export default { fetch() { return new Response("never"); } };
throw new RangeError("the start goes wrong");
`)
	if out := s.refused(t, "deploy"); !strings.Contains(out, "the start goes wrong") || !strings.Contains(out, "10021") {
		t.Errorf("the refusal does not have the runtime's words:\n%s", out)
	}
	gone(t, s.platform, s.name)
}
