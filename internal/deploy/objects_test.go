package deploy

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

func TestMigrationsApply(t *testing.T) {
	before := []DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}}
	f := func(want []DurableObjectNamespace, wantDeleted []string, steps ...MigrationStep) {
		t.Helper()
		n := 0
		newID := func() string { n++; return strconv.Itoa(n) }
		got, deleted, err := (&Migrations{Steps: steps}).Apply(before, newID)
		if err != nil || !reflect.DeepEqual(got, want) || !reflect.DeepEqual(deleted, wantDeleted) {
			t.Errorf("%+v gives %+v, deleted %v, error %v", steps, got, deleted, err)
		}
	}
	f(before, nil)
	f([]DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}, {"1", "C", false}, {"2", "D", true}}, nil,
		MigrationStep{NewClasses: []string{"C"}, NewSQLiteClasses: []string{"D"}})
	f([]DurableObjectNamespace{{"b", "A", true}, {"a", "B", false}}, nil, // names changed with each other
		MigrationStep{RenamedClasses: []ClassRename{{"A", "X"}, {"B", "A"}, {"X", "B"}}})
	f([]DurableObjectNamespace{{"1", "A", true}, {"b", "B", true}}, []string{"a"}, // another storage under the old name
		MigrationStep{DeletedClasses: []string{"A"}}, MigrationStep{NewSQLiteClasses: []string{"A"}})
	f(before, nil, MigrationStep{NewClasses: []string{"C"}}, MigrationStep{DeletedClasses: []string{"C"}}) // never was
	if !reflect.DeepEqual(before, []DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}}) {
		t.Errorf("what was before is now %+v", before)
	}
}

func wantCode(t *testing.T, err error, code int, parts ...string) {
	t.Helper()
	e, ok := errors.AsType[*errs.Error](err)
	if !ok || e.Code != code {
		t.Fatalf("error %v, want code %d", err, code)
	}
	for _, part := range parts {
		if !strings.Contains(e.Message, part) {
			t.Errorf("%q does not name %q", e.Message, part)
		}
	}
}

func TestMigrationsRefused(t *testing.T) {
	f := func(step MigrationStep, parts ...string) {
		t.Helper()
		_, _, err := (&Migrations{Steps: []MigrationStep{step}}).Apply([]DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}}, func() string { return "n" })
		wantCode(t, err, codeClassConflict, parts...)
	}
	f(MigrationStep{NewClasses: []string{"A"}}, "new-class", "'A'")
	f(MigrationStep{NewSQLiteClasses: []string{"C", "C"}}, "new-sqlite-class", "'C'")
	f(MigrationStep{NewClasses: []string{""}}, "no name")
	f(MigrationStep{DeletedClasses: []string{"C"}}, "delete-class", "'C'")
	f(MigrationStep{RenamedClasses: []ClassRename{{"C", "D"}}}, "rename-class", "'C'")
	f(MigrationStep{RenamedClasses: []ClassRename{{"A", "B"}}}, "rename-class", "'A'", "'B'")

	m := Migrations{OldTag: "v1"}
	if err := m.CheckTag("v1"); err != nil {
		t.Error(err)
	}
	wantCode(t, m.CheckTag("v2"), codeMigrationTag, "v1", "v2")
	wantCode(t, m.CheckTag(""), codeMigrationTag, "v1")
}

func TestImplementing(t *testing.T) {
	w := &Worker{
		Exports: Exports{Named: []NamedExport{
			{Name: "A", Kind: ExportDurableObject}, {Name: "Admin", Kind: ExportEntrypoint}, {Name: "B", Kind: ExportOther},
		}},
		Bindings: []Binding{{Name: "ONE", Type: BindingDurableObject, ClassName: "A", ScriptName: "shop"}, {Name: "T", Type: BindingPlainText}},
	}
	a, b := DurableObjectNamespace{"a", "A", false}, DurableObjectNamespace{"b", "B", true}
	got, err := w.Implementing("shop", nil, []DurableObjectNamespace{a, b})
	if err != nil || !reflect.DeepEqual(got.Bindings[0], Binding{Name: "ONE", Type: BindingDurableObject, ClassName: "A", NamespaceID: "a"}) ||
		got.Exports.Named[2].Kind != ExportDurableObject || len(got.DurableObjects) != 2 {
		t.Fatalf("%+v, error %v", got, err)
	}
	if w.Bindings[0].NamespaceID != "" || w.Exports.Named[2].Kind != ExportOther {
		t.Errorf("the original is now %+v", w)
	}
	f := func(code int, change func(w *Worker), before, after []DurableObjectNamespace, parts ...string) {
		t.Helper()
		changed := *got
		changed.Bindings = append([]Binding{}, got.Bindings...)
		if change != nil {
			change(&changed)
		}
		_, err := changed.Implementing("shop", before, after)
		wantCode(t, err, code, parts...)
	}
	c, entry := DurableObjectNamespace{"c", "C", true}, DurableObjectNamespace{"d", "Admin", true}
	both := []DurableObjectNamespace{a, b}
	f(codeNewClassMissing, nil, both, append(both, c), "'C'")
	f(codeNewClassMissing, nil, both, append(both, entry), "'Admin'") // an entry point is no class of objects
	f(codeClassMissing, nil, append(both, c), append(both, c), "'C'", "existing Durable Objects")
	f(codeNotNamespace, nil, both, []DurableObjectNamespace{b}, "'A'", "delete-class")
	f(codeNotNamespace, func(w *Worker) { w.Bindings[0].ClassName = "X" }, both, both, "ONE", "'X'")
	f(codeNotNamespace, func(w *Worker) { w.Bindings[0].NamespaceID = "b" }, both, both, "ONE", "namespace_id", `"b"`)
	f(0, func(w *Worker) { w.Bindings[0].ScriptName = "other" }, both, both, "ONE", `"other"`, "not supported yet")
}

func TestCheckDurableObjects(t *testing.T) {
	a, b := DurableObjectNamespace{"a", "A", false}, DurableObjectNamespace{"b", "B", true}
	version := func(id string, has ...DurableObjectNamespace) Version {
		return Version{ID: id, Worker: &Worker{DurableObjects: has}}
	}
	for _, versions := range [][]Version{
		{version("1", a, b)}, {version("1"), version("2")}, {{ID: "1", Origin: &Origin{}}},
	} {
		has := versions[0].Worker
		var namespaces []DurableObjectNamespace
		if has != nil {
			namespaces = has.DurableObjects
		}
		if err := CheckDurableObjects("shop", namespaces, versions); err != nil {
			t.Error(err)
		}
	}
	f := func(namespaces []DurableObjectNamespace, versions []Version, parts ...string) {
		t.Helper()
		wantCode(t, CheckDurableObjects("shop", namespaces, versions), 0, parts...)
	}
	two := []DurableObjectNamespace{a, b}
	f(two, []Version{version("1", a, b), version("2", a, b)}, "split", "not supported yet", "two processes", "100%")
	f(nil, []Version{version("1", a), version("2")}, "split")
	f(two, []Version{version("1", a)}, "1", "lifecycle change", "It implements A,", "now has A, B (SQLite)")
	f(nil, []Version{version("1", a)}, "lifecycle change", "now has no class")
	f(two, []Version{{ID: "1", Origin: &Origin{}}}, "lifecycle change")
}
