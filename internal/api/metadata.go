package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

const codeMigration = 10211 // Cloudflare: a migration in a version upload

// metadata describes an upload; null is the same as absent. Members that are not
// here are kept as they are, because a person may send what only their own tools
// read.
type metadata struct {
	MainModule         string            `json:"main_module"`
	BodyPart           string            `json:"body_part"`
	Bindings           []json.RawMessage `json:"bindings"`
	KeepBindings       []string          `json:"keep_bindings"`
	CompatibilityDate  string            `json:"compatibility_date"`
	CompatibilityFlags []string          `json:"compatibility_flags"`
	Annotations        *annotationsBody  `json:"annotations"`
	UsageModel         string            `json:"usage_model"`
	Limits             *limitsBody       `json:"limits"`
	KeepAssets         bool              `json:"keep_assets"` // there are none to keep
	Assets             json.RawMessage   `json:"assets"`
	Migrations         json.RawMessage   `json:"migrations"`
	Containers         json.RawMessage   `json:"containers"`
	CapnpSchema        json.RawMessage   `json:"capnp_schema"` // of wrangler's unsafe.capnp

	// Of the script or the deployment, not of the version.
	CodeUpdate             *codeUpdateBody   `json:"code_update_strategy"`
	Tags                   []string          `json:"tags"`
	Logpush                *bool             `json:"logpush"`
	Observability          json.RawMessage   `json:"observability"`
	TailConsumers          []json.RawMessage `json:"tail_consumers"`
	StreamingTailConsumers []json.RawMessage `json:"streaming_tail_consumers"`

	kept map[string]json.RawMessage
}

type limitsBody struct {
	CPUMs       *int64 `json:"cpu_ms"`
	Subrequests *int64 `json:"subrequests"`
}

// notVersioned are the members that a version upload leaves to the script; it
// keeps them with the version.
var notVersioned = []string{"tags", "logpush", "observability", "tail_consumers", "streaming_tail_consumers", "code_update_strategy"}

// decodeMetadata reads and checks what can be checked without the modules. versioned
// says that the upload leaves alone what belongs to the script.
func decodeMetadata(text []byte, versioned bool) (*metadata, error) {
	all := make(map[string]json.RawMessage)
	if err := decodeStrict(text, &all); err != nil {
		return nil, err
	}
	m := &metadata{kept: make(map[string]json.RawMessage)}
	known := members(reflect.TypeFor[metadata]())
	for name, value := range all {
		if versioned && slices.Contains(notVersioned, name) {
			m.kept[name] = value // and checked: its client sends it to the script when it has deployed the version
		}
		if _, ok := known[name]; !ok || string(value) == "null" {
			delete(all, name)
			if !ok {
				m.kept[name] = value
			}
		}
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil, err
	}
	if err := decodeStrict(text, m); err != nil {
		return nil, err
	}
	return m, m.check(versioned)
}

func (m *metadata) check(versioned bool) error {
	if err := m.checkSupported(versioned); err != nil {
		return err
	}
	if m.CompatibilityDate != "" {
		if _, err := time.Parse(time.DateOnly, m.CompatibilityDate); err != nil {
			return errs.New(errs.Invalid, codeBadScript, "compatibility_date %q is not a date such as 2026-01-31", shown(m.CompatibilityDate)).At("/compatibility_date")
		}
	}
	if m.Limits != nil {
		for name, n := range map[string]*int64{"cpu_ms": m.Limits.CPUMs, "subrequests": m.Limits.Subrequests} {
			if n != nil && *n < 0 {
				return errs.New(errs.Invalid, 0, "limits.%s is %d: it must not be negative", name, *n).At("/limits/" + name)
			}
		}
	}
	if m.UsageModel != "" && !slices.Contains(usageModels, m.UsageModel) {
		return errs.New(errs.Invalid, 0, "usage_model is %q: it must be one of %s", shown(m.UsageModel), strings.Join(usageModels, ", ")).At("/usage_model")
	}
	if m.Tags != nil {
		return checkTags(m.Tags)
	}
	return nil
}

// checkSupported refuses what would change how the version runs and cannot be
// honoured here.
func (m *metadata) checkSupported(versioned bool) error {
	unsupported := func(name, why string) error {
		return errs.New(errs.Invalid, 0, "%s is not supported yet: %s", name, why).At("/" + name)
	}
	switch {
	case holds(m.Migrations) && versioned:
		return errs.New(errs.Invalid, codeMigration, "migrations cannot be part of a version upload: deploy the script instead").At("/migrations")
	case holds(m.Containers):
		return unsupported("containers", "containers do not run here")
	case holds(m.Assets):
		return unsupported("assets", "static assets are not served here")
	case holds(m.CapnpSchema):
		return unsupported("capnp_schema", "bindings of that kind do not run here")
	}
	for i, flag := range m.CompatibilityFlags {
		if strings.HasPrefix(flag, "python_") { // the runtime would fetch an interpreter
			return errs.New(errs.Invalid, 0, "compatibility_flags[%d] %q: Python is not supported yet", i, shown(flag)).At(fmt.Sprintf("/compatibility_flags/%d", i))
		}
	}
	if err := checkExports(m.kept["exports"]); err != nil {
		return err
	}
	return checkTelemetry(m.Observability, m.TailConsumers, m.StreamingTailConsumers)
}

// exportWorker is the type of an export that is declared and needs nothing: what
// the code exports is found by running it.
const exportWorker = "worker"

func checkExports(text json.RawMessage) error {
	if !holds(text) {
		return nil
	}
	var exports map[string]json.RawMessage
	if err := decodeAt(text, &exports, place{}.member("exports")); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(exports)) {
		var export map[string]json.RawMessage // not a struct, which takes TYPE for type
		var kind string
		at := place{}.member("exports").member(name)
		if json.Unmarshal(exports[name], &export) != nil || json.Unmarshal(export["type"], &kind) != nil {
			return at.fail("must be an object with the text type")
		}
		if kind != exportWorker {
			return errs.New(errs.Invalid, 0, "export %s: type %s is not supported yet", shown(name), shown(kind)).At(at.pointer())
		}
	}
	return nil
}

// holds reports whether a value is more than nothing.
func holds(value json.RawMessage) bool {
	switch string(value) {
	case "", "null", "{}", "[]":
		return false
	}
	return true
}

// checkTelemetry checks what a script says about its events, at upload and in its
// settings. What is let through changes nothing here, or asks for what is so anyway.
func checkTelemetry(observability json.RawMessage, tail, streaming []json.RawMessage) error {
	switch {
	case len(tail) > 0:
		return errs.New(errs.Invalid, 0, "tail_consumers is not supported yet: no script is called with the events of another").At("/tail_consumers")
	case len(streaming) > 0:
		return errs.New(errs.Invalid, 0, "streaming_tail_consumers is not supported yet: no script is called with the events of another").At("/streaming_tail_consumers")
	}
	return checkObservability(observability)
}

// settings are the members that belong to the script.
func (m *metadata) settings() deploy.ScriptUpdate {
	var u deploy.ScriptUpdate
	if m.Tags != nil {
		u.Tags = &m.Tags
	}
	u.Logpush = logpushSaid(m.Logpush)
	if m.Observability != nil {
		u.Settings = map[string]json.RawMessage{"observability": m.Observability}
	}
	return u
}

// logpushSaid is nil for a client that said nothing.
func logpushSaid(enabled *bool) *deploy.Logpush {
	if enabled == nil {
		return nil
	}
	return new(deploy.LogpushOf(*enabled))
}

// worker is the configuration, without bindings, on the modules that came with it.
func (m *metadata) worker(modules []deploy.Module) (deploy.Worker, error) {
	w := deploy.Worker{Modules: modules}
	m.configure(&w)
	return w, m.entry(&w)
}

// configure sets the members that were sent, except bindings and code.
func (m *metadata) configure(w *deploy.Worker) {
	if m.CompatibilityDate != "" {
		w.CompatibilityDate = m.CompatibilityDate
	}
	if m.CompatibilityFlags != nil {
		w.CompatibilityFlags = m.CompatibilityFlags
	}
	if m.UsageModel != "" {
		w.UsageModel = m.UsageModel
	}
	if m.Limits != nil {
		w.Limits = m.Limits.limits()
	}
	keep(w, m.kept)
}

// keep adds members to those that w keeps.
func keep(w *deploy.Worker, more map[string]json.RawMessage) {
	if len(more) == 0 {
		return
	}
	all := maps.Clone(w.Kept) // shared with the version that w was copied from
	if all == nil {
		all = make(map[string]json.RawMessage, len(more))
	}
	maps.Copy(all, more)
	w.Kept = all
}

func (b *limitsBody) limits() deploy.Limits {
	var l deploy.Limits
	if b.CPUMs != nil {
		l.CPUMs = *b.CPUMs
	}
	if b.Subrequests != nil {
		l.Subrequests = *b.Subrequests
	}
	return l
}

// entry sets the module that the runtime starts from.
func (m *metadata) entry(w *deploy.Worker) error {
	w.MainModule, w.BodyPart = m.MainModule, m.BodyPart
	member, name, want := "main_module", m.MainModule, deploy.ModuleTypeESM
	switch {
	case (m.MainModule == "") == (m.BodyPart == ""):
		return errs.New(errs.Invalid, codeBadScript, "metadata must have exactly one of main_module and body_part: name the module to start from")
	case m.BodyPart != "":
		member, name, want = "body_part", m.BodyPart, deploy.ModuleTypeCommonJS
	}
	for _, module := range w.Modules {
		if module.Name != name {
			continue
		}
		if module.ContentType != want {
			return errs.New(errs.Invalid, codeBadScript, "%s %q has the Content-Type %s: it must be %s", member, shown(name), module.ContentType, want).At("/" + member)
		}
		w.ETag = etag(w)
		return nil
	}
	return errs.New(errs.Invalid, codeBadScript, "%s %q is not among the modules of the upload", member, shown(name)).At("/" + member)
}

type codeUpdateBody struct {
	Mode     string   `json:"mode"`
	MaxDelay *float64 `json:"max_delay"`
}

// effective is zero, which is the default, for nil.
func (b *codeUpdateBody) effective() (deploy.CodeUpdate, error) {
	if b == nil {
		return deploy.CodeUpdate{}, nil
	}
	asked := deploy.CodeUpdate{Mode: b.Mode, MaxDelaySeconds: b.MaxDelay}
	return asked.Effective()
}

func checkTags(tags []string) error {
	if len(tags) > tagsMax {
		return errs.New(errs.Invalid, 0, "tags has %d entries: at most %d are allowed", len(tags), tagsMax).At("/tags")
	}
	for i, tag := range tags {
		if !validTag(tag) {
			return errs.New(errs.Invalid, 0, "tags[%d] %q must have 1 to %d characters and no control characters", i, shown(tag), tagCharsMax).
				At(fmt.Sprintf("/tags/%d", i))
		}
	}
	return nil
}
