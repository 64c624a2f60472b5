package runtime

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const (
	// checkTimeout is what a script's top level may take, the start of the runtime
	// included, which is a fraction of a second; see waitStarted.
	checkTimeout = 5 * time.Second
	// checkMemory is what it may use above an idle process: as when it serves.
	checkMemory = defaultMemory
	// Bounds of what a script may say of itself, and of the runtime's message.
	exportsMax      = 1000
	exportNameMax   = 256
	checkAnswerMax  = 1 << 20
	checkMessageMax = 2000
)

//go:embed probe.js
var probeModule string

//go:embed probe_script.js
var probeScript string

// Checker runs code once, before it is stored. It may be used concurrently.
type Checker struct {
	workerd string
	scratch string
	running chan struct{}
	spawner *spawner
}

// NewChecker returns a checker that runs workerd ("" is what FindWorkerd finds) with
// its files in folders of their own below scratch ("" is the system's folder for
// temporary files), at most some at once ("0" is as many as there are processors).
func NewChecker(workerd, scratch string, most int) (*Checker, error) {
	workerd, err := FindWorkerd(workerd)
	if err != nil {
		return nil, err
	}
	if most <= 0 {
		most = runtime.NumCPU()
	}
	return &Checker{workerd: workerd, scratch: scratch, running: make(chan struct{}, most), spawner: newSpawner()}, nil
}

// Close ends the checker. No Check may be under way.
func (c *Checker) Close() { c.spawner.close() }

// Check runs w's code up to the end of its top level, in a process that ends with
// it, with w's bindings and without network. contents are those of its modules, by
// SHA-256. It returns what the code exports, and how long the start took in
// milliseconds, the runtime's own included.
//
// The error is errs.Invalid with code 10021 if the code does not run, in the
// runtime's words, and if w asks for what cannot run here.
func (c *Checker) Check(ctx context.Context, w *deploy.Worker, contents map[string][]byte) (deploy.Exports, int64, error) {
	select {
	case c.running <- struct{}{}:
		defer func() { <-c.running }()
	case <-ctx.Done():
		return deploy.Exports{}, 0, ctx.Err()
	}
	dir, err := os.MkdirTemp(c.scratch, "check-")
	if err != nil {
		return deploy.Exports{}, 0, fmt.Errorf("check a Worker: %w", err)
	}
	exports, startupMs, err := c.check(ctx, dir, w, contents)
	if e := os.RemoveAll(dir); e != nil && err == nil {
		err = e
	}
	return exports, startupMs, err
}

func (c *Checker) check(ctx context.Context, dir string, w *deploy.Worker, contents map[string][]byte) (deploy.Exports, int64, error) {
	config, err := checkConfig(dir, w, contents)
	if err != nil {
		return deploy.Exports{}, 0, err
	}
	if w.MainModule == "" {
		// As it is first, so that the places in a message are right; then once more
		// below the probe, which cannot import a script.
		_, startupMs, err := c.run(ctx, dir, config, false)
		if err != nil {
			return deploy.Exports{}, 0, err
		}
		config.script = "probed.js"
		body := contents[w.Modules[slices.IndexFunc(w.Modules, func(m deploy.Module) bool { return m.Name == w.BodyPart })].SHA256]
		if err := os.WriteFile(filepath.Join(dir, config.script), append([]byte(probeScript+"\n"), body...), 0o600); err != nil {
			return deploy.Exports{}, 0, err
		}
		exports, _, err := c.run(ctx, dir, config, true)
		return exports, startupMs, err
	}
	config.probeName = unusedName(w, "tidegate-probe")
	main := jsString(w.MainModule)
	// The runtime looks for classes of Durable Objects in the probe's exports, and
	// refuses a constant there, as it would when the module itself starts.
	config.probe = "import * as user from " + main + "; export * from " + main + ";\n" + probeModule
	return c.run(ctx, dir, config, true)
}

// checkConfig writes the modules to dir and describes the process.
func checkConfig(dir string, w *deploy.Worker, contents map[string][]byte) (*processConfig, error) {
	bundle := &deploy.Bundle{Worker: withObjects(w), VersionID: "00000000-0000-0000-0000-000000000000", CreatedOn: time.Unix(0, 0)}
	c := &processConfig{
		bundle: bundle, modules: map[string]string{}, checking: true, heapBytes: heapFor(checkMemory),
		nonce: "check", bindings: filepath.Join(dir, "none"), // nobody listens there
		sockets: []socket{{"", filepath.Join(dir, "probe")}},
	}
	for i, m := range w.Modules {
		content, ok := contents[m.SHA256]
		if !ok {
			return nil, fmt.Errorf("check a Worker: the content of the module %q is missing", m.Name)
		}
		name := strconv.Itoa(i)
		c.modules[m.SHA256] = name
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return nil, fmt.Errorf("check a Worker: %w", err)
		}
	}
	return c, nil
}

// withObjects gives the classes that w binds a namespace each: those that the store
// will give it are not known yet. Whether a class is exported is the store's to say.
func withObjects(w *deploy.Worker) deploy.Worker {
	out := *w
	out.DurableObjects = nil
	for _, b := range w.Bindings {
		bound := func(n deploy.DurableObjectNamespace) bool { return n.Class == b.ClassName }
		if b.Type == deploy.BindingDurableObject && !slices.ContainsFunc(out.DurableObjects, bound) {
			id := fmt.Sprintf("%032x", len(out.DurableObjects))
			out.DurableObjects = append(out.DurableObjects, deploy.DurableObjectNamespace{ID: id, Class: b.ClassName, SQLite: true})
		}
	}
	return out
}

// run starts a process and, if it is to be probed, asks what the code exports.
func (c *Checker) run(ctx context.Context, dir string, config *processConfig, probed bool) (deploy.Exports, int64, error) {
	text, err := config.render()
	if err != nil {
		return deploy.Exports{}, 0, err
	}
	path := filepath.Join(dir, "config.capnp")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		return deploy.Exports{}, 0, fmt.Errorf("check a Worker: %w", err)
	}
	began := time.Now()
	p, err := startProcess(c.spawner, c.workerd, path, 1, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return deploy.Exports{}, 0, fmt.Errorf("check a Worker: %w", err)
	}
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		watchMemory(p, checkMemory)
	}()
	defer func() {
		p.kill("")
		<-p.done
		<-watched
		_ = os.Remove(config.sockets[0].path) // if it is still there; a second run makes it anew
	}()
	if err := waitStarted(ctx, p, began); err != nil {
		return deploy.Exports{}, 0, checkFailure(ctx, err)
	}
	startup := time.Since(began)
	if !probed {
		return deploy.Exports{}, startup.Milliseconds(), nil
	}
	exports, err := askProbe(ctx, p, config.sockets[0].path, checkTimeout-startup)
	if err != nil {
		return deploy.Exports{}, 0, err
	}
	return exports, startup.Milliseconds(), nil
}

// waitStarted returns when the script's top level has ended. A process that is kept from its
// processor gets longer, as one that serves does: a busy machine is not the script's fault.
func waitStarted(ctx context.Context, p *process, began time.Time) error {
	err := p.waitReady(ctx, checkTimeout)
	for errors.Is(err, errStartTimeout) && time.Since(began) < hungFactor*checkTimeout {
		used, cpuErr := cpuOf(p.pid)
		if cpuErr != nil || used >= checkTimeout/busyShare {
			break
		}
		err = p.waitReady(ctx, checkTimeout/10)
	}
	return err
}

func checkFailure(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errStartTimeout):
		return errs.New(errs.Invalid, codeUnrunnable, "Script startup timed out: its top level has not ended after %s.", checkTimeout)
	}
	return errs.New(errs.Invalid, codeUnrunnable, "%s", cutMessage(err.Error()))
}

func cutMessage(s string) string {
	if utf8.RuneCountInString(s) <= checkMessageMax {
		return s
	}
	return firstRunes(s, checkMessageMax) + " ..."
}

// probed is what the probe answers.
type probed struct {
	Handlers []string
	Named    []struct {
		Name     string
		Kind     deploy.ExportKind
		Handlers []string
	}
}

// askProbe asks what the code exports. The answer is made in one isolate with the
// code, which can falsify what is said of itself, and nothing else.
func askProbe(ctx context.Context, p *process, path string, patience time.Duration) (deploy.Exports, error) {
	ctx, cancel := context.WithTimeout(ctx, max(patience, time.Second))
	defer cancel()
	t := newWorkerHTTP1(DefaultConfig(), path, new(atomic.Int64), unexplained)
	defer t.close()
	var answer probed
	err := func() error {
		resp, err := t.RoundTrip(internalRequest(ctx, "/"))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, checkAnswerMax))
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the runtime answered %s", resp.Status)
		}
		return json.Unmarshal(body, &answer)
	}()
	if err != nil {
		if p.endsWithin(deathNotice) {
			err = errors.New(p.startupError())
		}
		return deploy.Exports{}, errs.New(errs.Invalid, codeUnrunnable, "The script's exports cannot be read: %s", cutMessage(err.Error()))
	}
	return answer.exports()
}

func (a *probed) exports() (deploy.Exports, error) {
	if len(a.Named) > exportsMax {
		return deploy.Exports{}, errs.New(errs.Invalid, codeUnrunnable, "The script has %d exports; at most %d are allowed.", len(a.Named), exportsMax)
	}
	out := deploy.Exports{Handlers: []string{}}
	var err error
	if out.Handlers, err = exportNames(a.Handlers); err != nil {
		return deploy.Exports{}, err
	}
	for _, n := range a.Named {
		if err := exportName(n.Name); err != nil {
			return deploy.Exports{}, err
		}
		switch n.Kind {
		case deploy.ExportEntrypoint, deploy.ExportDurableObject, deploy.ExportWorkflow, deploy.ExportOther:
		default:
			return deploy.Exports{}, errs.New(errs.Invalid, codeUnrunnable, "The script's export %q is of no known kind.", n.Name)
		}
		handlers, err := exportNames(n.Handlers)
		if err != nil {
			return deploy.Exports{}, err
		}
		out.Named = append(out.Named, deploy.NamedExport{Name: n.Name, Kind: n.Kind, Handlers: handlers})
	}
	slices.SortFunc(out.Named, func(a, b deploy.NamedExport) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func exportNames(names []string) ([]string, error) {
	if len(names) > exportsMax {
		return nil, errs.New(errs.Invalid, codeUnrunnable, "An export of the script has %d methods; at most %d are allowed.", len(names), exportsMax)
	}
	for _, n := range names {
		if err := exportName(n); err != nil {
			return nil, err
		}
	}
	out := slices.Clone(names)
	if out == nil {
		out = []string{}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

func exportName(n string) error {
	if n == "" || utf8.RuneCountInString(n) > exportNameMax {
		return errs.New(errs.Invalid, codeUnrunnable, "An export of the script has a name of %d characters; 1 to %d are allowed.", utf8.RuneCountInString(n), exportNameMax)
	}
	return nil
}

// unusedName is a module's name that the upload has not.
func unusedName(w *deploy.Worker, prefix string) string {
	for i := 0; ; i++ {
		name := prefix + "-" + strconv.Itoa(i)
		if !slices.ContainsFunc(w.Modules, func(m deploy.Module) bool { return m.Name == name }) {
			return name
		}
	}
}

// jsString returns a JavaScript string literal. JSON is one, since ES2019.
func jsString(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a string always is JSON
	}
	return string(text)
}
