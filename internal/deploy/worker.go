package deploy

import (
	"encoding/json"
	"time"
)

// Worker is the code and the configuration of a version that the Workers runtime
// runs. It is immutable.
type Worker struct {
	// MainModule names the ES module whose exports are the entry points. Empty for
	// the service-worker syntax, whose only script BodyPart names.
	MainModule string   `json:"main_module,omitempty"`
	BodyPart   string   `json:"body_part,omitempty"`
	Modules    []Module `json:"modules"` // in the order of the upload

	CompatibilityDate  string    `json:"compatibility_date,omitempty"` // YYYY-MM-DD
	CompatibilityFlags []string  `json:"compatibility_flags,omitempty"`
	Bindings           []Binding `json:"bindings,omitempty"` // in the order of their names
	Limits             Limits    `json:"limits,omitzero"`
	UsageModel         string    `json:"usage_model,omitempty"`
	// DurableObjects are the namespaces that its script had when it was uploaded, in the
	// order of their classes. It is deployed only while the script has the same; what it
	// may open while it serves is in SnapshotWorker.Objects.
	DurableObjects []DurableObjectNamespace `json:"durable_objects,omitempty"`
	MigrationTag   string                   `json:"migration_tag,omitempty"` // of the script then
	// Kept are members of the upload's metadata that are stored and shown, and that
	// nothing here interprets, such as "placement".
	Kept map[string]json.RawMessage `json:"kept,omitempty"`

	Exports       Exports `json:"exports"`         // found by running it
	StartupTimeMs int64   `json:"startup_time_ms"` // of that run
	ETag          string  `json:"etag"`            // hex; equal for equal code
}

// Module is one part of an upload. Its content is stored once under its hash.
type Module struct {
	Name        string `json:"name"`
	ContentType string `json:"content_type"` // one of the ModuleType constants, or that of a source map
	SHA256      string `json:"sha256"`       // hex, of the content
	Bytes       int64  `json:"bytes"`
}

// Content types of modules (reference/deployments.md, section 2.5).
const (
	ModuleTypeESM       = "application/javascript+module"
	ModuleTypeCommonJS  = "application/javascript" // also a script in service-worker syntax
	ModuleTypeWasm      = "application/wasm"
	ModuleTypeText      = "text/plain"
	ModuleTypeData      = "application/octet-stream"
	ModuleTypeSourceMap = "application/source-map" // kept, not run
)

// Binding is a member of env. Which members are set follows from Type.
type Binding struct {
	Name string `json:"name"`
	Type string `json:"type"`
	// Text of plain_text and, in what the control plane stores and what a router
	// fetches, of secret_text. No answer to a person has a secret's text.
	Text       string          `json:"text,omitempty"`
	JSON       json.RawMessage `json:"json,omitempty"`        // of json
	Part       string          `json:"part,omitempty"`        // of wasm_module, text_blob, data_blob: a module's name
	Service    string          `json:"service,omitempty"`     // of service: a script of the account
	Entrypoint string          `json:"entrypoint,omitempty"`  // of service; empty for the default one
	Props      json.RawMessage `json:"props,omitempty"`       // of service
	ClassName  string          `json:"class_name,omitempty"`  // of durable_object_namespace
	ScriptName string          `json:"script_name,omitempty"` // of durable_object_namespace; empty for the own script
	// NamespaceID of durable_object_namespace, 32 hex digits.
	NamespaceID string `json:"namespace_id,omitempty"`
}

// Types of bindings that run here; an upload with another one is refused by name.
const (
	BindingPlainText       = "plain_text"
	BindingJSON            = "json"
	BindingSecretText      = "secret_text"
	BindingService         = "service"
	BindingVersionMetadata = "version_metadata"
	BindingWasmModule      = "wasm_module"
	BindingTextBlob        = "text_blob"
	BindingDataBlob        = "data_blob"
	BindingDurableObject   = "durable_object_namespace"
	BindingInherit         = "inherit" // in uploads only: replaced by the binding that it names
)

// Limits of one invocation. Zero is the default of the runtime.
type Limits struct {
	CPUMs       int64 `json:"cpu_ms,omitempty"`
	Subrequests int64 `json:"subrequests,omitempty"`
}

// Exports is what a version's main module offers.
type Exports struct {
	Handlers []string      `json:"handlers"` // of the default export, such as "fetch"
	Named    []NamedExport `json:"named_handlers,omitempty"`
}

// NamedExport is a class that the main module exports.
type NamedExport struct {
	Name     string     `json:"name"`
	Kind     ExportKind `json:"kind"`
	Handlers []string   `json:"handlers"` // its methods
}

// ExportKind tells what a class extends.
type ExportKind string

const (
	ExportEntrypoint    ExportKind = "entrypoint"     // WorkerEntrypoint
	ExportDurableObject ExportKind = "durable_object" // DurableObject, or a plain class bound as one
	ExportWorkflow      ExportKind = "workflow"
	ExportOther         ExportKind = "other" // an object with handlers, or a class of its own
)

// Bundle is all that a router needs to run one version, secrets included, except
// the contents of its modules, which it fetches by hash.
type Bundle struct {
	AccountID string    `json:"account_id"`
	Script    string    `json:"script"`
	VersionID string    `json:"version_id"`
	Tag       string    `json:"tag"`
	CreatedOn time.Time `json:"created_on"`
	Worker    Worker    `json:"worker"`
}
