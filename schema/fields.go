package schema

// FieldType is the type of a Logpush field; filters and CSV depend on it.
type FieldType string

const (
	TypeString      FieldType = "string"
	TypeInt         FieldType = "int"
	TypeObject      FieldType = "object"
	TypeStringArray FieldType = "array[string]"
	TypeObjectArray FieldType = "array[object]"
)

// Dataset is the only Logpush dataset that Tidegate produces.
const Dataset = "workers_trace_events"

// Field is one selectable field of the dataset.
type Field struct {
	Name        string
	Type        FieldType
	Description string
	// Extension marks members that Cloudflare's dataset has not. They are never
	// part of a default selection.
	Extension bool
}

// Fields lists the dataset in alphabetical order. Validation, filters, output
// and the datasets endpoint all read this table; a record's value for a field is
// the top-level member of the same name.
var Fields = [...]Field{
	{Name: "CPUTimeMs", Type: TypeInt, Description: "The amount of CPU time used by the invocation, in milliseconds. Absent where it was not measured."},
	{Name: "DispatchNamespace", Type: TypeString, Description: "The dispatch namespace the script belongs to. Empty outside Workers for Platforms."},
	{Name: "Entrypoint", Type: TypeString, Description: "The class in which the invocation began. Empty for the default entrypoint."},
	{Name: "ErrorKind", Type: TypeString, Description: "Why the backend failed, as the gateway saw it (connect, timeout, ...). Empty when it did not.", Extension: true},
	{Name: "Event", Type: TypeObject, Description: "What triggered the invocation, such as the request and the response."},
	{Name: "EventTimestampMs", Type: TypeInt, Description: "When the event was received, in Unix milliseconds."},
	{Name: "EventType", Type: TypeString, Description: "The kind of event: fetch, scheduled, alarm, queue, email, worker_rpc, ..."},
	{Name: "Exceptions", Type: TypeObjectArray, Description: "Uncaught exceptions of the invocation."},
	{Name: "Gateway", Type: TypeObject, Description: "What chose the version (and which affinity rule, if one did), the ray id, the time to the backend's response header, and how many further requests a sampled event stands for.", Extension: true},
	{Name: "Logs", Type: TypeObjectArray, Description: "Console messages of the invocation."},
	{Name: "Outcome", Type: TypeString, Description: "How the invocation ended: ok, exception, canceled, exceededCpu, ..."},
	{Name: "ScriptName", Type: TypeString, Description: "The script's name."},
	{Name: "ScriptTags", Type: TypeStringArray, Description: "Tags that the user gave the script."},
	{Name: "ScriptVersion", Type: TypeObject, Description: "The version that served the invocation: id, message and tag."},
	{Name: "WallTimeMs", Type: TypeInt, Description: "The elapsed time of the invocation in milliseconds, for a request from its receipt to the end of its response. Absent where it was not measured."},
}

// FieldByName finds a field; names are case-sensitive.
func FieldByName(name string) (Field, bool) {
	for _, f := range Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// DefaultFields is the selection of a job that names none: the dataset without extensions.
func DefaultFields() []string {
	var names []string
	for _, f := range Fields {
		if !f.Extension {
			names = append(names, f.Name)
		}
	}
	return names
}
