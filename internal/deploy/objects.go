package deploy

import (
	"cmp"
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

// Migrations change the namespaces of a script, all steps or none.
type Migrations struct {
	OldTag string // the script's tag until then; empty for none
	NewTag string // empty leaves the tag as it is
	Steps  []MigrationStep
}

// MigrationStep is one change, in the order of its members.
type MigrationStep struct {
	NewClasses       []string
	NewSQLiteClasses []string
	RenamedClasses   []ClassRename
	DeletedClasses   []string
}

// ClassRename gives the objects of one class to another class of the same script.
type ClassRename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Cloudflare's codes for classes of Durable Objects.
const (
	codeNotNamespace    = 10061 // a binding to a class that has no namespace
	codeClassMissing    = 10064 // a class that has objects is no longer exported
	codeNewClassMissing = 10070 // a new class is not exported
	codeClassConflict   = 10074 // a migration of a class that is, or is not, there
	codeMigrationTag    = 10079 // the script has another migration tag
)

// CheckTag refuses migrations that were made for another state of the script than
// the one that tag stands for.
func (m *Migrations) CheckTag(tag string) error {
	if m.OldTag == tag {
		return nil
	}
	return errs.New(errs.Invalid, codeMigrationTag, "Migration tag precondition failed; current tag is %s, and the migrations start from %s",
		cmp.Or(tag, "empty"), cmp.Or(m.OldTag, "an empty one")).At("/migrations/old_tag")
}

// Apply returns the namespaces after the steps, in the order of their classes, and
// the ids of those that are gone. newID is called for each new class. before is not
// changed.
func (m *Migrations) Apply(before []DurableObjectNamespace, newID func() string) (after []DurableObjectNamespace, deleted []string, err error) {
	after = slices.Clone(before)
	find := func(class string) int {
		return slices.IndexFunc(after, func(n DurableObjectNamespace) bool { return n.Class == class })
	}
	refuse := func(kind, class, why string) error {
		return errs.New(errs.Invalid, codeClassConflict, "Cannot apply %s migration to class '%s' %s", kind, class, why).At("/migrations")
	}
	create := func(kind string, classes []string, sqlite bool) error {
		for _, class := range classes {
			if class == "" {
				return refuse(kind, class, "because it has no name")
			}
			if find(class) >= 0 {
				return refuse(kind, class, "that is already depended on by existing Durable Objects")
			}
			after = append(after, DurableObjectNamespace{newID(), class, sqlite})
		}
		return nil
	}
	const missing = "because no Durable Objects depend on it"
	for _, step := range m.Steps {
		if err := create("new-class", step.NewClasses, false); err != nil {
			return nil, nil, err
		}
		if err := create("new-sqlite-class", step.NewSQLiteClasses, true); err != nil {
			return nil, nil, err
		}
		for _, rename := range step.RenamedClasses {
			i := find(rename.From)
			switch {
			case i < 0:
				return nil, nil, refuse("rename-class", rename.From, missing)
			case rename.To == "" || find(rename.To) >= 0:
				return nil, nil, refuse("rename-class", rename.From, "because '"+rename.To+"' is no free name for it")
			}
			after[i].Class = rename.To
		}
		for _, class := range step.DeletedClasses {
			i := find(class)
			if i < 0 {
				return nil, nil, refuse("delete-class", class, missing)
			}
			after = slices.Delete(after, i, i+1)
		}
	}
	for _, n := range before {
		if !slices.ContainsFunc(after, func(left DurableObjectNamespace) bool { return left.ID == n.ID }) {
			deleted = append(deleted, n.ID)
		}
	}
	slices.SortFunc(after, func(a, b DurableObjectNamespace) int { return strings.Compare(a.Class, b.Class) })
	return after, deleted, nil
}

// Implementing returns a copy of w that implements all namespaces of its script:
// after the migrations of its upload, if any, and before them. Its bindings lead to
// them. The refusals name a class that w does not export, and a binding that leads
// to none.
func (w *Worker) Implementing(script string, before, after []DurableObjectNamespace) (*Worker, error) {
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
		if err := b.lead(script, before, after); err != nil {
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
	return errs.New(errs.Invalid, codeNewClassMissing, "Cannot apply new-class or rename-class migration to class '%s' that is not exported by script", n.Class)
}

// lead gives the binding the id of its namespace.
func (b *Binding) lead(script string, before, after []DurableObjectNamespace) error {
	if b.ScriptName != "" && b.ScriptName != script {
		return errs.New(errs.Invalid, 0, "binding %s: script_name %q is another script: bindings to the Durable Objects of another script are not supported yet, call that script through a service binding", b.Name, b.ScriptName)
	}
	b.ScriptName = ""
	of := func(list []DurableObjectNamespace) *DurableObjectNamespace {
		for i := range list {
			if list[i].Class == b.ClassName {
				return &list[i]
			}
		}
		return nil
	}
	switch n := of(after); {
	case n != nil && b.NamespaceID != "" && b.NamespaceID != n.ID:
		return errs.New(errs.Invalid, codeNotNamespace, "binding %s: namespace_id %q is not that of the class '%s', which is %s", b.Name, b.NamespaceID, b.ClassName, n.ID)
	case n != nil:
		b.NamespaceID = n.ID
		return nil
	case of(before) != nil:
		return errs.New(errs.Invalid, codeNotNamespace, "Cannot apply --delete-class or --rename-class migration to class '%s' without also removing the binding that references it.", b.ClassName)
	}
	return errs.New(errs.Invalid, codeNotNamespace, "Cannot create binding %s for class '%s' because it is not currently configured to implement Durable Objects. Ensure a new_sqlite_classes or new_classes migration has been applied to it.", b.Name, b.ClassName)
}

// HasDurableObjects reports whether the version implements Durable Objects.
func (v *Version) HasDurableObjects() bool {
	return v.Worker != nil && len(v.Worker.DurableObjects) > 0
}

// CheckDurableObjects refuses splits of a script that has the given namespaces if
// they could not be served honestly. versions are those that the splits name.
func CheckDurableObjects(script string, namespaces []DurableObjectNamespace, versions []Version) error {
	has := len(namespaces) > 0
	for i := range versions {
		has = has || versions[i].HasDurableObjects()
	}
	switch {
	case !has:
		return nil
	case len(versions) > 1:
		return errs.New(errs.Invalid, 0, "script %q has Durable Objects, and a split of a script with Durable Objects is not supported yet: the objects of two versions would need two processes on one storage. Deploy one version at 100%%.", script).At("/versions")
	}
	for i := range versions {
		var own []DurableObjectNamespace
		if w := versions[i].Worker; w != nil {
			own = w.DurableObjects
		}
		if !slices.Equal(own, namespaces) {
			return errs.New(errs.Invalid, 0, "version %s of script %q cannot be deployed: a Durable Object lifecycle change lies between. It implements %s, and the script now has %s. Upload its code again instead.",
				versions[i].ID, script, classes(own), classes(namespaces)).At("/versions/0/version_id")
		}
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
