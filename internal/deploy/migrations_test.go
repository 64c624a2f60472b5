package deploy

import (
	"reflect"
	"slices"
	"strconv"
	"testing"
)

func TestMigrationsApply(t *testing.T) {
	before := []DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}}
	f := func(want []DurableObjectNamespace, wantDeleted []string, steps ...MigrationStep) {
		t.Helper()
		n := 0
		newID := func() string { n++; return strconv.Itoa(n) }
		got, err := (&Migrations{Steps: steps}).Apply("shop", before, nil, newID)
		if err != nil || !reflect.DeepEqual(got, Migrated{Namespaces: want, Deleted: wantDeleted}) {
			t.Errorf("%+v gives %+v, error %v", steps, got, err)
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

// theirs are the namespaces of the scripts that tests transfer from.
func theirs() map[string][]DurableObjectNamespace {
	return map[string][]DurableObjectNamespace{
		"cart":  {{"c", "Cart", true}, {"d", "Draft", false}},
		"empty": nil,
	}
}

func TestMigrationsTransfer(t *testing.T) {
	before := []DurableObjectNamespace{{"a", "A", false}}
	f := func(want Migrated, steps ...MigrationStep) {
		t.Helper()
		others := theirs()
		got, err := (&Migrations{Steps: steps}).Apply("shop", before, others, func() string { return "new" })
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v gives %+v, error %v; want %+v", steps, got, err, want)
		}
		if !reflect.DeepEqual(others, theirs()) {
			t.Errorf("the others are now %+v", others)
		}
	}
	cart, draft := ScriptNamespace{DurableObjectNamespace{"c", "Cart", true}, "cart"}, ScriptNamespace{DurableObjectNamespace{"d", "Draft", false}, "cart"}
	f(Migrated{Namespaces: []DurableObjectNamespace{{"a", "A", false}, {"c", "Basket", true}}, Transferred: []ScriptNamespace{cart}},
		MigrationStep{TransferredClasses: []ClassTransfer{{"Cart", "cart", "Basket"}}})
	// A step transfers at its end: what it deletes or renames gives its name away.
	f(Migrated{Namespaces: []DurableObjectNamespace{{"d", "A", false}, {"c", "Cart", true}}, Deleted: []string{"a"}, Transferred: []ScriptNamespace{draft, cart}},
		MigrationStep{DeletedClasses: []string{"A"}, TransferredClasses: []ClassTransfer{{"Draft", "cart", "A"}, {"Cart", "cart", "Cart"}}})
	// What came and was deleted at once is deleted for good, and no longer the other's.
	f(Migrated{Namespaces: before, Deleted: []string{"c"}, Transferred: []ScriptNamespace{cart}},
		MigrationStep{TransferredClasses: []ClassTransfer{{"Cart", "cart", "Cart"}}}, MigrationStep{DeletedClasses: []string{"Cart"}})

	m := Migrations{Steps: []MigrationStep{
		{TransferredClasses: []ClassTransfer{{"X", "two", "X"}, {"Y", "one", "Y"}}}, {TransferredClasses: []ClassTransfer{{"Z", "two", "Z"}}},
	}}
	if names := m.Sources(); !slices.Equal(names, []string{"one", "two"}) {
		t.Errorf("the sources are %v", names)
	}
}

func TestMigrationsRefused(t *testing.T) {
	f := func(step MigrationStep, parts ...string) {
		t.Helper()
		_, err := (&Migrations{Steps: []MigrationStep{step}}).Apply("shop", []DurableObjectNamespace{{"a", "A", false}, {"b", "B", true}}, theirs(), func() string { return "n" })
		wantCode(t, err, codeClassConflict, parts...)
	}
	f(MigrationStep{NewClasses: []string{"A"}}, "new-class", "'A'")
	f(MigrationStep{NewSQLiteClasses: []string{"C", "C"}}, "new-sqlite-class", "'C'")
	f(MigrationStep{NewClasses: []string{""}}, "no name")
	f(MigrationStep{DeletedClasses: []string{"C"}}, "delete-class", "'C'")
	f(MigrationStep{RenamedClasses: []ClassRename{{"C", "D"}}}, "rename-class", "'C'")
	f(MigrationStep{RenamedClasses: []ClassRename{{"A", "B"}}}, "rename-class", "'A'", "'B'")
	f(MigrationStep{RenamedClasses: []ClassRename{{"A", ""}}}, "rename-class", "'A'", "no free name")

	transfer := func(transfers ...ClassTransfer) MigrationStep { return MigrationStep{TransferredClasses: transfers} }
	f(transfer(ClassTransfer{"Room", "cart", "Room"}), "transfer-class", "'Room'", "'cart'", "no Durable Objects")
	f(transfer(ClassTransfer{"Cart", "empty", "Cart"}), "transfer-class", "'Cart'", "'empty'", "no Durable Objects")
	f(transfer(ClassTransfer{"Cart", "none", "Cart"}), "transfer-class", "'Cart'", "'none'", "does not exist")
	f(transfer(ClassTransfer{"Cart", "cart", "A"}), "transfer-class", "'Cart'", "'A' is no free name")
	f(transfer(ClassTransfer{"Cart", "cart", ""}), "transfer-class", "'Cart'", "no free name")
	f(transfer(ClassTransfer{"A", "shop", "C"}), "transfer-class", "'A'", "rename-class")
	f(transfer(ClassTransfer{"Cart", "cart", "C"}, ClassTransfer{"Cart", "cart", "D"}), "transfer-class", "'Cart'", "no Durable Objects") // it went already

	m := Migrations{OldTag: "v1"}
	if err := m.CheckTag("v1"); err != nil {
		t.Error(err)
	}
	wantCode(t, m.CheckTag("v2"), codeMigrationTag, "v1", "v2")
	wantCode(t, m.CheckTag(""), codeMigrationTag, "v1")
}
