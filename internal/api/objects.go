package api

import (
	"slices"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// migrationsBody changes the classes of Durable Objects of a script: by steps, as
// wrangler sends them, or by the one step that it is itself.
type migrationsBody struct {
	OldTag string              `json:"old_tag"`
	NewTag string              `json:"new_tag"`
	Steps  []migrationStepBody `json:"steps"`
	migrationStepBody
}

type migrationStepBody struct {
	NewClasses         []string               `json:"new_classes"`
	NewSQLiteClasses   []string               `json:"new_sqlite_classes"`
	RenamedClasses     []deploy.ClassRename   `json:"renamed_classes"`
	DeletedClasses     []string               `json:"deleted_classes"`
	TransferredClasses []deploy.ClassTransfer `json:"transferred_classes"`
}

func (b *migrationStepBody) empty() bool {
	return len(b.NewClasses)+len(b.NewSQLiteClasses)+len(b.RenamedClasses)+len(b.DeletedClasses)+len(b.TransferredClasses) == 0
}

// step is b: whether it can be taken is for the script's namespaces to say.
func (b *migrationStepBody) step() deploy.MigrationStep { return deploy.MigrationStep(*b) }

// migrations reads the member of that name; nil when it was not sent.
func (m *metadata) migrations() (*deploy.Migrations, error) {
	if !holds(m.Migrations) {
		return nil, nil
	}
	at := place{}.member("migrations")
	var body migrationsBody
	if err := decodeAt(m.Migrations, &body, at); err != nil {
		return nil, err
	}
	out := &deploy.Migrations{OldTag: body.OldTag, NewTag: body.NewTag}
	if !body.empty() {
		if len(body.Steps) > 0 {
			return nil, at.member("steps").fail("must not be there beside classes that migrations names itself")
		}
		out.Steps = []deploy.MigrationStep{body.step()}
		return out, nil
	}
	for i := range body.Steps {
		out.Steps = append(out.Steps, body.Steps[i].step())
	}
	return out, nil
}

// ownClasses leaves the name of the own script out of bindings to its classes: clients
// may name it.
func ownClasses(script string, list []deploy.Binding) []deploy.Binding {
	for i := range list {
		if list[i].ScriptName == script {
			list[i].ScriptName = ""
		}
	}
	return list
}

// unresolved is v as an upload takes it over: its bindings name classes of Durable Objects,
// and the namespaces that these have now are found when the upload is stored. A class
// may have been made anew since then, or have gone to another script.
func unresolved(v *deploy.Version) *deploy.Version {
	if v == nil || v.Worker == nil {
		return v
	}
	out, w := *v, *v.Worker
	w.Bindings = slices.Clone(w.Bindings)
	for i := range w.Bindings {
		w.Bindings[i].NamespaceID = ""
	}
	out.Worker = &w
	return &out
}

const needsObjects = "Durable Objects need one router that keeps their storage: start the control plane and that router with --durable-objects, as tidegate up does"

// checkObjects refuses what no router of this control plane would run.
func (s *Server) checkObjects(u deploy.Upload) error {
	switch {
	case s.durableObjects:
		return nil
	case u.Migrations != nil:
		return errs.New(errs.Invalid, 0, "migrations are not taken here: %s", needsObjects).At("/migrations")
	case u.Version.Worker == nil:
		return nil
	}
	for _, b := range u.Version.Worker.Bindings {
		if b.Type == deploy.BindingDurableObject {
			return errs.New(errs.Invalid, 0, "binding %s: type %s is not taken here: %s", shown(b.Name), b.Type, needsObjects).At("/bindings")
		}
	}
	return nil
}

// namespaceView has the names that clients read.
type namespaceView struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Script    string `json:"script"`
	Class     string `json:"class"`
	UseSQLite bool   `json:"use_sqlite"`
}

func viewNamespace(n deploy.ScriptNamespace) namespaceView {
	return namespaceView{ID: n.ID, Name: namespaceName(n.Script, n.Class), Script: n.Script, Class: n.Class, UseSQLite: n.SQLite}
}

func namespaceName(script, class string) string { return script + "_" + class }

// namespacesPageMax is what wrangler asks for.
const namespacesPageMax = 1000

// listNamespaces is a page of the namespaces of Durable Objects.
func (s *Server) listNamespaces(r *request) (any, error) {
	page, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return nil, err
	}
	perPage, err := r.intQuery("per_page", 20, 1, namespacesPageMax)
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Scripts.DurableObjectNamespaces(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	total := len(list)
	from := min(int(page-1)*int(perPage), total)
	list = list[from:min(from+int(perPage), total)]
	r.info = &resultInfo{Page: int(page), PerPage: int(perPage), Count: len(list), TotalCount: total}
	return views(list, viewNamespace), nil
}

// listObjects refuses: which objects a namespace has is known to the router's disk
// alone, under names from which their ids follow but no order does.
func (s *Server) listObjects(r *request) (any, error) {
	list, err := s.deps.Scripts.DurableObjectNamespaces(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	id := r.param("id")
	if !slices.ContainsFunc(list, func(n deploy.ScriptNamespace) bool { return n.ID == id }) {
		return nil, errs.New(errs.NotFound, 0, "namespace %q of Durable Objects does not exist in this account", shown(id))
	}
	return nil, errs.New(errs.Invalid, 0, "the objects of namespace %s cannot be listed: only the router that runs them has their storage", id)
}

// listNoContainers answers which containers belong to Durable Objects: none, because
// there are no containers here. wrangler asks for them when it deletes a script.
func (s *Server) listNoContainers(*request) (any, error) { return []struct{}{}, nil }
