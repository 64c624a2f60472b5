package deploy

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/errs"
)

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

func TestImplementing(t *testing.T) {
	w := &Worker{
		Exports: Exports{Named: []NamedExport{
			{Name: "A", Kind: ExportDurableObject}, {Name: "Admin", Kind: ExportEntrypoint}, {Name: "B", Kind: ExportOther},
		}},
		Bindings: []Binding{{Name: "ONE", Type: BindingDurableObject, ClassName: "A", ScriptName: "shop"}, {Name: "T", Type: BindingPlainText}},
	}
	a, b := DurableObjectNamespace{"a", "A", false}, DurableObjectNamespace{"b", "B", true}
	got, err := w.Implementing("shop", nil, []DurableObjectNamespace{a, b}, nil)
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
		_, err := changed.Implementing("shop", before, after, map[string][]DurableObjectNamespace{"other": {{"o", "Theirs", true}}, "bare": nil})
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
	away := func(script, class, id string) func(w *Worker) {
		return func(w *Worker) {
			w.Bindings[0].ScriptName, w.Bindings[0].ClassName, w.Bindings[0].NamespaceID = script, class, id
		}
	}
	f(codeNotNamespace, away("other", "A", ""), both, both, "ONE", "'A'", "'other'", "not currently configured") // an own class of that name is no other's
	f(codeNotNamespace, away("bare", "A", ""), both, both, "ONE", "'A'", "'bare'", "not currently configured")
	f(codeNotNamespace, away("none", "A", ""), both, both, "ONE", "'A'", "'none'", "does not exist")
	f(codeNotNamespace, away("other", "Theirs", "a"), both, both, "ONE", "namespace_id", `"a"`, "o")
}

func TestImplementingWithTheObjectsOfOthers(t *testing.T) {
	theirs := Binding{Name: "ROOM", Type: BindingDurableObject, ClassName: "Room", ScriptName: "rooms"}
	w := &Worker{
		Exports:  Exports{Named: []NamedExport{{Name: "A", Kind: ExportDurableObject}}},
		Bindings: []Binding{{Name: "ONE", Type: BindingDurableObject, ClassName: "A"}, theirs, {Name: "S", Type: BindingService, Service: "front"}},
	}
	if names := w.OtherScripts("shop"); !slices.Equal(names, []string{"rooms"}) {
		t.Errorf("the bindings lead to %v", names)
	}
	if names := w.OtherScripts("rooms"); len(names) != 0 {
		t.Errorf("the bindings of rooms lead to %v", names)
	}
	own := []DurableObjectNamespace{{"a", "A", true}}
	for _, id := range []string{"", "r"} { // which a client may know
		w.Bindings[1].NamespaceID = id
		got, err := w.Implementing("shop", nil, own, map[string][]DurableObjectNamespace{"rooms": {{"r", "Room", true}}})
		theirs.NamespaceID = "r"
		if err != nil || !reflect.DeepEqual(got.DurableObjects, own) || got.Bindings[1].NamespaceID != "r" ||
			!reflect.DeepEqual(got.Bindings[1], theirs) || got.Bindings[0].NamespaceID != "a" {
			t.Errorf("%+v, error %v", got, err)
		}
	}
}

func TestCheckDurableObjects(t *testing.T) {
	a, b := DurableObjectNamespace{"a", "A", false}, DurableObjectNamespace{"b", "B", true}
	version := func(id string, has ...DurableObjectNamespace) Version {
		return Version{ID: id, Worker: &Worker{DurableObjects: has}}
	}
	for _, versions := range [][]Version{
		{version("1", a, b)}, {version("1", a, b), version("2", a, b), version("3", a, b)},
		{version("1"), version("2")}, {{ID: "1", Origin: &Origin{}}}, {version("1"), {ID: "2", Origin: &Origin{}}},
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
	f := func(code int, namespaces []DurableObjectNamespace, versions []Version, pointer string, parts ...string) {
		t.Helper()
		err := CheckDurableObjects("shop", namespaces, versions)
		wantCode(t, err, code, parts...)
		if e, _ := errors.AsType[*errs.Error](err); e.Pointer != pointer {
			t.Errorf("the error points at %s, want %s", e.Pointer, pointer)
		}
	}
	two, first, second := []DurableObjectNamespace{a, b}, "/versions/0/version_id", "/versions/1/version_id"
	f(0, two, []Version{version("1", a)}, first, "1", "lifecycle change", "It implements A,", "now has A, B (SQLite)")
	f(0, nil, []Version{version("1", a)}, first, "lifecycle change", "now has no class")
	f(0, two, []Version{{ID: "1", Origin: &Origin{}}}, first, "lifecycle change")

	f(codeInconsistentObjects, two, []Version{version("1", a, b), version("2", a)}, second, "version 2", "split", "implements A,", "has A, B (SQLite)")
	f(codeInconsistentObjects, two, []Version{version("1", a), version("2", a)}, first, "version 1") // alike, but from before
	f(codeInconsistentObjects, nil, []Version{version("1", a), version("2", a)}, first, "has no class")
	f(codeInconsistentObjects, two, []Version{version("1", a, b), {ID: "2", Origin: &Origin{}}}, second, "version 2", "no class of Durable Objects")
	renamed := DurableObjectNamespace{"a", "C", false}
	f(codeInconsistentObjects, two, []Version{version("1", a, b), version("2", renamed, b)}, second, "C, B")
}
