package deploy

import (
	"fmt"
	"slices"
	"strings"

	"tidegate/internal/errs"
)

// DurableObjectNamespace is the storage of one class of a script's Durable Objects.
// Its id is given once and never again, whatever the class is called later.
type DurableObjectNamespace struct {
	ID     string `json:"id"` // 32 hex digits
	Class  string `json:"class"`
	SQLite bool   `json:"sqlite"` // objects may use storage.sql
}

// ScriptNamespace is a namespace with the script that implements its class.
type ScriptNamespace struct {
	DurableObjectNamespace
	Script string
}

// indexClass returns the index of the namespace of a class, negative if it has none.
func indexClass(list []DurableObjectNamespace, class string) int {
	return slices.IndexFunc(list, func(n DurableObjectNamespace) bool { return n.Class == class })
}

// Cloudflare's codes for classes of Durable Objects.
const (
	codeNotNamespace    = 10061 // a binding to a class that has no namespace
	codeClassMissing    = 10064 // a class that has objects is no longer exported
	codeNewClassMissing = 10070 // a new class is not exported
	codeClassConflict   = 10074 // a migration of a class that is, or is not, there
	codeMigrationTag    = 10079 // the script has another migration tag

	codeInconsistentObjects = 100405 // versions of a split that implement other classes
)

// Implementing returns a copy of w that implements all namespaces of its script:
// after the migrations of its upload, if any, and before them. Its bindings lead to
// them, and to those of others: the scripts of the account that the bindings name, as
// far as they exist. The refusals name a class that w does not export, and a binding
// that leads to none.
func (w *Worker) Implementing(script string, before, after []DurableObjectNamespace, others map[string][]DurableObjectNamespace) (*Worker, error) {
	out := *w
	out.DurableObjects = nil
	if len(after) > 0 {
		out.DurableObjects = slices.Clone(after)
	}
	out.Exports.Named = slices.Clone(w.Exports.Named)
	for _, n := range after {
		if err := out.Exports.implement(n, before); err != nil {
			return nil, err
		}
	}
	out.Bindings = slices.Clone(w.Bindings)
	for i := range out.Bindings {
		b := &out.Bindings[i]
		if b.Type != BindingDurableObject {
			continue
		}
		var err error
		if b.ScriptName == "" || b.ScriptName == script {
			b.ScriptName = ""
			err = b.leadHome(before, after)
		} else {
			err = b.leadAway(others)
		}
		if err != nil {
			return nil, err
		}
	}
	return &out, nil
}

// implement finds the class of n. A plain class is one of Durable Objects once it
// has a namespace: nothing but that tells.
func (e *Exports) implement(n DurableObjectNamespace, before []DurableObjectNamespace) error {
	for i := range e.Named {
		if kind := &e.Named[i].Kind; e.Named[i].Name == n.Class && (*kind == ExportDurableObject || *kind == ExportOther) {
			*kind = ExportDurableObject
			return nil
		}
	}
	for _, old := range before {
		if old.ID == n.ID && old.Class == n.Class {
			return errs.New(errs.Invalid, codeClassMissing, "New version of script does not export class '%s' which is depended on by existing Durable Objects. If they are to be deleted, apply a delete-class migration to it.", n.Class)
		}
	}
	return errs.New(errs.Invalid, codeNewClassMissing, "Cannot apply new-class, rename-class or transfer-class migration to class '%s' that is not exported by script", n.Class)
}

// OtherScripts names the scripts whose Durable Objects the bindings of script's
// version lead to, in the order of their names.
func (w *Worker) OtherScripts(script string) []string {
	var names []string
	for _, b := range w.Bindings {
		if b.Type == BindingDurableObject && b.ScriptName != "" && b.ScriptName != script {
			names = append(names, b.ScriptName)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// leadHome gives the binding the id of a namespace of the own script.
func (b *Binding) leadHome(before, after []DurableObjectNamespace) error {
	switch i := indexClass(after, b.ClassName); {
	case i >= 0:
		return b.lead(after[i])
	case indexClass(before, b.ClassName) >= 0:
		return errs.New(errs.Invalid, codeNotNamespace, "Cannot apply --delete-class or --rename-class migration to class '%s' without also removing the binding that references it.", b.ClassName)
	}
	return errs.New(errs.Invalid, codeNotNamespace, "Cannot create binding %s for class '%s' because it is not currently configured to implement Durable Objects. Ensure a new_sqlite_classes or new_classes migration has been applied to it, or name the script that implements it as script_name.", b.Name, b.ClassName)
}

// leadAway gives the binding the id of a namespace of another script.
func (b *Binding) leadAway(others map[string][]DurableObjectNamespace) error {
	theirs, exists := others[b.ScriptName]
	switch i := indexClass(theirs, b.ClassName); {
	case i >= 0:
		return b.lead(theirs[i])
	case !exists:
		return errs.New(errs.Invalid, codeNotNamespace, "Cannot create binding %s for class '%s' in script '%s' that does not exist. Upload that script first.", b.Name, b.ClassName, b.ScriptName)
	}
	return errs.New(errs.Invalid, codeNotNamespace, "Cannot create binding %s for class '%s' of script '%s' because it is not currently configured there to implement Durable Objects. Ensure a new_sqlite_classes or new_classes migration has been applied to it.", b.Name, b.ClassName, b.ScriptName)
}

func (b *Binding) lead(n DurableObjectNamespace) error {
	if b.NamespaceID != "" && b.NamespaceID != n.ID {
		return errs.New(errs.Invalid, codeNotNamespace, "binding %s: namespace_id %q is not that of the class '%s', which is %s", b.Name, b.NamespaceID, b.ClassName, n.ID)
	}
	b.NamespaceID = n.ID
	return nil
}

// HasDurableObjects reports whether the version implements Durable Objects.
func (v *Version) HasDurableObjects() bool { return len(v.durableObjects()) > 0 }

func (v *Version) durableObjects() []DurableObjectNamespace {
	if v.Worker == nil {
		return nil // an origin has none
	}
	return v.Worker.DurableObjects
}

// CheckDurableObjects refuses splits of a script that has the given namespaces,
// unless each of the versions that they name, at 0 % too, implements exactly these: an
// object of any of them may be given to any version. Alone, a version that does not was
// uploaded before a lifecycle change; beside others its refusal has a code of its own.
func CheckDurableObjects(script string, namespaces []DurableObjectNamespace, versions []Version) error {
	for i := range versions {
		own := versions[i].durableObjects()
		if slices.Equal(own, namespaces) {
			continue
		}
		at := fmt.Sprintf("/versions/%d/version_id", i)
		if len(versions) > 1 {
			return errs.New(errs.Invalid, codeInconsistentObjects, "version %s of script %q cannot be part of a split: it implements %s, and the script has %s. Every version of a split must implement the same Durable Objects.",
				versions[i].ID, script, classes(own), classes(namespaces)).At(at)
		}
		return errs.New(errs.Invalid, 0, "version %s of script %q cannot be deployed: a Durable Object lifecycle change lies between. It implements %s, and the script now has %s. Upload its code again instead.",
			versions[i].ID, script, classes(own), classes(namespaces)).At(at)
	}
	return nil
}

func classes(list []DurableObjectNamespace) string {
	if len(list) == 0 {
		return "no class of Durable Objects"
	}
	names := make([]string, len(list))
	for i, n := range list {
		names[i] = n.Class
		if n.SQLite {
			names[i] += " (SQLite)"
		}
	}
	return strings.Join(names, ", ")
}
