package deploy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tidegate/internal/errs"
)

// Migrations change the namespaces of a script, all steps or none.
type Migrations struct {
	OldTag string // the script's tag until then; empty for none
	NewTag string // empty leaves the tag as it is
	Steps  []MigrationStep
}

// MigrationStep is one change, in the order of its members.
type MigrationStep struct {
	NewClasses         []string
	NewSQLiteClasses   []string
	RenamedClasses     []ClassRename
	DeletedClasses     []string
	TransferredClasses []ClassTransfer
}

// ClassRename gives the objects of one class to another class of the same script.
type ClassRename struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// ClassTransfer gives the objects of a class of another script of the account to a
// class of this one.
type ClassTransfer struct {
	From       string `json:"from"`
	FromScript string `json:"from_script"`
	To         string `json:"to"`
}

// Migrated is what migrations make of the namespaces of a script.
type Migrated struct {
	Namespaces []DurableObjectNamespace // that it then has, in the order of their classes
	Deleted    []string                 // ids of those that are gone for good
	// Transferred came from other scripts. They are told as they were there.
	Transferred []ScriptNamespace
}

// Sources are the scripts that classes are transferred from, in the order of their
// names.
func (m *Migrations) Sources() []string {
	var names []string
	for _, step := range m.Steps {
		for _, transfer := range step.TransferredClasses {
			names = append(names, transfer.FromScript)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// CheckTag refuses migrations that were made for another state of the script than
// the one that tag stands for.
func (m *Migrations) CheckTag(tag string) error {
	if m.OldTag == tag {
		return nil
	}
	return errs.New(errs.Invalid, codeMigrationTag, "Migration tag precondition failed; current tag is %s, and the migrations start from %s",
		cmp.Or(tag, "empty"), cmp.Or(m.OldTag, "an empty one")).At("/migrations/old_tag")
}

// Apply takes the steps from the namespaces that the script has before them. others
// are those of the Sources that exist, by their names; newID is called for each new
// class. Neither before nor others is changed.
func (m *Migrations) Apply(script string, before []DurableObjectNamespace, others map[string][]DurableObjectNamespace, newID func() string) (Migrated, error) {
	run := migrating{script: script, newID: newID, others: maps.Clone(others)}
	run.Namespaces = slices.Clone(before)
	for i := range m.Steps {
		if err := run.take(&m.Steps[i]); err != nil {
			return Migrated{}, err
		}
	}
	had := slices.Clone(before)
	for _, n := range run.Transferred {
		had = append(had, n.DurableObjectNamespace)
	}
	for _, n := range had {
		if !slices.ContainsFunc(run.Namespaces, func(left DurableObjectNamespace) bool { return left.ID == n.ID }) {
			run.Deleted = append(run.Deleted, n.ID)
		}
	}
	slices.SortFunc(run.Namespaces, func(a, b DurableObjectNamespace) int { return strings.Compare(a.Class, b.Class) })
	return run.Migrated, nil
}

// CheckTransfer refuses to take n from a script while several versions of it serve:
// none of them could be deployed again, so that a bad one could not be taken out of
// traffic any more.
func CheckTransfer(n ScriptNamespace, serving []Split) error {
	if len(serving) <= 1 {
		return nil
	}
	return refuseMigration("transfer-class", n.Class, fmt.Sprintf("of script '%s' while its deployment is split between %d versions, none of which could be deployed afterwards. Deploy one of them at 100%% first.", n.Script, len(serving)))
}

// migrating is a run of Apply, up to some step.
type migrating struct {
	Migrated
	script string
	others map[string][]DurableObjectNamespace // those that were not transferred yet
	newID  func() string
}

func (r *migrating) take(step *MigrationStep) error {
	if err := r.create("new-class", step.NewClasses, false); err != nil {
		return err
	}
	if err := r.create("new-sqlite-class", step.NewSQLiteClasses, true); err != nil {
		return err
	}
	for _, rename := range step.RenamedClasses {
		i := r.find(rename.From)
		switch {
		case i < 0:
			return refuseMigration("rename-class", rename.From, noObjects)
		case !r.free(rename.To):
			return refuseMigration("rename-class", rename.From, notFree(rename.To))
		}
		r.Namespaces[i].Class = rename.To
	}
	for _, class := range step.DeletedClasses {
		i := r.find(class)
		if i < 0 {
			return refuseMigration("delete-class", class, noObjects)
		}
		r.Namespaces = slices.Delete(r.Namespaces, i, i+1)
	}
	for _, transfer := range step.TransferredClasses {
		if err := r.transfer(transfer); err != nil {
			return err
		}
	}
	return nil
}

func (r *migrating) create(kind string, classes []string, sqlite bool) error {
	for _, class := range classes {
		switch {
		case class == "":
			return refuseMigration(kind, class, "because it has no name")
		case !r.free(class):
			return refuseMigration(kind, class, "that is already depended on by existing Durable Objects")
		}
		r.Namespaces = append(r.Namespaces, DurableObjectNamespace{r.newID(), class, sqlite})
	}
	return nil
}

func (r *migrating) transfer(t ClassTransfer) error {
	const kind = "transfer-class"
	theirs, exists := r.others[t.FromScript]
	i := indexClass(theirs, t.From)
	switch {
	case t.FromScript == r.script:
		return refuseMigration(kind, t.From, "of the script itself: that is a rename-class migration")
	case !exists:
		return refuseMigration(kind, t.From, "of script '"+t.FromScript+"' that does not exist")
	case i < 0:
		return refuseMigration(kind, t.From, "of script '"+t.FromScript+"' "+noObjects)
	case !r.free(t.To):
		return refuseMigration(kind, t.From, "of script '"+t.FromScript+"' "+notFree(t.To))
	}
	from := theirs[i]
	r.others[t.FromScript] = slices.Delete(slices.Clone(theirs), i, i+1)
	r.Transferred = append(r.Transferred, ScriptNamespace{from, t.FromScript})
	r.Namespaces = append(r.Namespaces, DurableObjectNamespace{from.ID, t.To, from.SQLite})
	return nil
}

func (r *migrating) find(class string) int { return indexClass(r.Namespaces, class) }

// free reports whether a class can be given a namespace.
func (r *migrating) free(class string) bool { return class != "" && r.find(class) < 0 }

const noObjects = "because no Durable Objects depend on it"

func notFree(class string) string { return "because '" + class + "' is no free name for it" }

func refuseMigration(kind, class, why string) error {
	return errs.New(errs.Invalid, codeClassConflict, "Cannot apply %s migration to class '%s' %s", kind, class, why).At("/migrations")
}
