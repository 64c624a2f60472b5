package store

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// room is a binding to the class Room of the script rooms.
var room = deploy.Binding{Name: "ROOM", Type: deploy.BindingDurableObject, ClassName: "Room", ScriptName: "rooms"}

// rooms is an upload that makes the class Room.
func rooms() deploy.Upload {
	return objectsOf("rooms", migration("", "v1", deploy.MigrationStep{NewSQLiteClasses: []string{"Room"}}), "Room")
}

// taking is an upload that takes a class over from another script, under its name.
func taking(content, from, class string, more ...string) deploy.Upload {
	return objectsOf(content, migration("", "", deploy.MigrationStep{TransferredClasses: []deploy.ClassTransfer{{From: class, FromScript: from, To: class}}}), append(more, class)...)
}

func TestBindingsToTheObjectsOfOthers(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		_, err := s.Upload(ctx, testAccount, "front", workerOf("1", room))
		wantCode(t, err, 10061) // there is no such script
		mustUpload(t, s, "rooms", workerOf("none yet"))
		_, err = s.Upload(ctx, testAccount, "front", workerOf("1", room))
		wantCode(t, err, 10061) // and now no such class
		owner := mustUpload(t, s, "rooms", rooms())
		id := owner.Worker.DurableObjects[0].ID

		v := mustUpload(t, s, "front", workerOf("1", room))
		want := room
		want.NamespaceID = id
		got, err := s.Version(ctx, testAccount, "front", v.ID)
		if err != nil || !reflect.DeepEqual(got.Worker.Bindings, []deploy.Binding{want}) || len(got.Worker.DurableObjects) != 0 {
			t.Fatalf("the version has %+v, error %v", got.Worker, err)
		}
		bundle, err := s.Bundle(ctx, testAccount, v.ID)
		if err != nil || !reflect.DeepEqual(bundle.Worker.Bindings, got.Worker.Bindings) {
			t.Errorf("the bundle has %+v, error %v", bundle.Worker.Bindings, err)
		}
		mustUpload(t, s, "front", workerOf("2", want)) // by its id, which is right
		wrong := want
		wrong.NamespaceID = strings.Repeat("0", 32)
		_, err = s.Upload(ctx, testAccount, "front", workerOf("3", wrong))
		wantCode(t, err, 10061)

		// The own script by its name, and own classes beside another's.
		own := deploy.Binding{Name: "OWN", Type: deploy.BindingDurableObject, ClassName: "Seat", ScriptName: "front"}
		u := objectsOf("4", migration("", "v1", deploy.MigrationStep{NewClasses: []string{"Seat"}}), "Seat")
		u.Version.Worker.Bindings = []deploy.Binding{own, room}
		both := mustUpload(t, s, "front", u)
		if b := both.Worker.Bindings; len(both.Worker.DurableObjects) != 1 || b[0].ScriptName != "" || b[0].NamespaceID != both.Worker.DurableObjects[0].ID || !reflect.DeepEqual(b[1], want) {
			t.Errorf("the version has %+v and implements %+v", b, both.Worker.DurableObjects)
		}
	})
}

// TestNamespacesOfOtherAccountsCannotBeReached has two accounts with scripts and
// classes of the same names.
func TestNamespacesOfOtherAccountsCannotBeReached(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		other, err := s.CreateAccount(ctx, "Other")
		if err != nil {
			t.Fatal(err)
		}
		theirs := mustUpload(t, s, "rooms", rooms())
		id := theirs.Worker.DurableObjects[0].ID
		known := room
		known.NamespaceID = id
		bare := room
		bare.ScriptName, bare.NamespaceID = "", id // as if the class were its own
		for _, b := range []deploy.Binding{room, known, bare} {
			_, err = s.Upload(ctx, other.ID, "front", workerOf("1", b))
			wantCode(t, err, 10061)
		}
		_, err = s.Upload(ctx, other.ID, "front", taking("1", "rooms", "Room"))
		wantCode(t, err, 10074)

		// Its own rooms are other rooms.
		ours, err := s.Upload(ctx, other.ID, "rooms", rooms())
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Upload(ctx, other.ID, "front", workerOf("1", known))
		wantCode(t, err, 10061)
		v, err := s.Upload(ctx, other.ID, "front", workerOf("1", room))
		if err != nil || v.Worker.Bindings[0].NamespaceID != ours.Worker.DurableObjects[0].ID || v.Worker.Bindings[0].NamespaceID == id {
			t.Errorf("the binding is %+v, error %v", v.Worker.Bindings, err)
		}
		if _, err := s.Upload(ctx, other.ID, "front", taking("2", "rooms", "Room")); err != nil {
			t.Fatal(err)
		}
		if list, err := s.DurableObjectNamespaces(ctx, testAccount); err != nil || len(list) != 1 || list[0].Script != "rooms" || list[0].ID != id {
			t.Errorf("the first account has %+v, error %v", list, err)
		}
	})
}

func TestScriptWhoseObjectsAreInUseIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		id := mustUpload(t, s, "rooms", rooms()).Worker.DurableObjects[0].ID
		users := func(want ...string) {
			t.Helper()
			found, err := s.References(ctx, testAccount, "rooms")
			if err != nil || !slices.Equal(found.Dependents(), want) {
				t.Fatalf("rooms is used by %v, error %v; want %v", found.Dependents(), err, want)
			}
		}
		users()
		v := mustUpload(t, s, "front", workerOf("1", room)) // not deployed, but to be
		users("front")
		mustDeploy(t, s, "front", full(v))
		next := mustUpload(t, s, "front", workerOf("2"))
		users("front") // it serves
		found, err := s.References(ctx, testAccount, "rooms")
		if want := []deploy.DurableObjectReference{{Script: "front", Binding: "ROOM", ClassName: "Room", NamespaceID: id}}; err != nil || !reflect.DeepEqual(found.DurableObjects, want) {
			t.Errorf("references %+v, error %v", found, err)
		}
		wantKind(t, s.DeleteScript(ctx, testAccount, "rooms", false), errs.Conflict, "rooms", "front", "force")
		mustDeploy(t, s, "front", full(next))
		users()
		mustDeploy(t, s, "front", full(v))

		// By force the other script stays as it is, and what it was bound to is gone.
		if err := s.DeleteScript(ctx, testAccount, "rooms", true); err != nil {
			t.Fatal(err)
		}
		if after, err := s.Version(ctx, testAccount, "front", v.ID); err != nil || !reflect.DeepEqual(after, v) {
			t.Errorf("the version is now %+v, error %v", after, err)
		}
		snap, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil || snap.Validate() != nil || !slices.Equal(snap.DeletedDurableObjects, []string{id}) {
			t.Errorf("snapshot %+v, error %v", snap, err)
		}
		mustDeploy(t, s, "front", full(next))
		mustDeploy(t, s, "front", full(v))
	})
}

func TestTransfer(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		u := objectsOf("1", migration("", "v1", deploy.MigrationStep{NewSQLiteClasses: []string{"Cart"}, NewClasses: []string{"Stock"}}), "Cart", "Stock")
		u.Version.Worker.Bindings = []deploy.Binding{{Name: "CART", Type: deploy.BindingDurableObject, ClassName: "Cart"}}
		source := mustUpload(t, s, "shop", u)
		cart, stock := source.Worker.DurableObjects[0], source.Worker.DurableObjects[1]
		user := mustUpload(t, s, "front", workerOf("1", deploy.Binding{Name: "CART", Type: deploy.BindingDurableObject, ClassName: "Cart", ScriptName: "shop"}))
		mustDeploy(t, s, "front", full(user))

		take := objectsOf("2", migration("", "v1", deploy.MigrationStep{TransferredClasses: []deploy.ClassTransfer{{From: "Cart", FromScript: "shop", To: "Basket"}}}), "Basket")
		take.Version.Worker.Bindings = []deploy.Binding{{Name: "BASKET", Type: deploy.BindingDurableObject, ClassName: "Basket"}, {Name: "STOCK", Type: deploy.BindingDurableObject, ClassName: "Stock", ScriptName: "shop"}}
		target := mustUpload(t, s, "basket", take)
		basket := deploy.DurableObjectNamespace{ID: cart.ID, Class: "Basket", SQLite: true}
		if b := target.Worker.Bindings; !reflect.DeepEqual(target.Worker.DurableObjects, []deploy.DurableObjectNamespace{basket}) || b[0].NamespaceID != cart.ID || b[1].NamespaceID != stock.ID {
			t.Errorf("the version implements %+v with %+v", target.Worker.DurableObjects, b)
		}
		list, err := s.DurableObjectNamespaces(ctx, testAccount)
		want := []deploy.ScriptNamespace{{DurableObjectNamespace: basket, Script: "basket"}, {DurableObjectNamespace: stock, Script: "shop"}}
		if err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("namespaces %+v, error %v; want %+v", list, err, want)
		}

		// What serves goes on to serve; only one script implements a namespace, and nothing
		// is to be deleted.
		snap, err := s.SnapshotAll(ctx, 0)
		if err != nil || snap.Validate() != nil || len(snap.DeletedDurableObjects) != 0 || len(snap.Scripts) != 3 {
			t.Fatalf("snapshot %+v, error %v", snap, err)
		}
		for i, want := range [][]deploy.DurableObjectNamespace{{basket}, nil, {stock}} {
			if sc := snap.Scripts[i]; !reflect.DeepEqual(sc.Versions[0].Worker.Objects, want) {
				t.Errorf("script %s implements %+v, want %+v", sc.Name, sc.Versions[0].Worker.Objects, want)
			}
		}
		found, err := s.References(ctx, testAccount, "basket")
		if err != nil || !slices.Equal(found.Dependents(), []string{"front", "shop"}) || found.DurableObjects[0].ClassName != "Basket" {
			t.Errorf("references %+v, error %v", found, err)
		}

		// Nothing leads back: not the same version, and no binding to the class as it was.
		_, err = s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: []deploy.Split{full(source)}}, "")
		wantCode(t, err, 0)
		_, err = s.Upload(ctx, testAccount, "front", workerOf("2", deploy.Binding{Name: "CART", Type: deploy.BindingDurableObject, ClassName: "Cart", ScriptName: "shop"}))
		wantCode(t, err, 10061)
		_, err = s.Upload(ctx, testAccount, "shop", u)
		wantCode(t, err, 10079) // its own tag is what it was
		next := objectsOf("3", nil, "Stock")
		next.Version.Worker.Bindings = []deploy.Binding{{Name: "CART", Type: deploy.BindingDurableObject, ClassName: "Basket", ScriptName: "basket"}}
		if v := mustUpload(t, s, "shop", next); v.Worker.Bindings[0].NamespaceID != cart.ID || v.Worker.MigrationTag != "v1" {
			t.Errorf("the source's next version is %+v", v.Worker)
		}

		var audited int
		if err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_log WHERE action = 'script.migrate' AND (target = 'shop' AND before_json LIKE '%Cart%' AND after_json NOT LIKE '%Cart%'
			OR target = 'basket' AND before_json NOT LIKE '%Basket%' AND after_json LIKE '%Basket%')`).Scan(&audited); err != nil || audited != 2 {
			t.Errorf("%d records tell of the transfer, error %v", audited, err)
		}
	})
}

func TestTransferRefusalsLeaveNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		first := mustUpload(t, s, "rooms", rooms())
		before, err := s.DurableObjectNamespaces(ctx, testAccount)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(code int, u deploy.Upload, parts ...string) {
			t.Helper()
			_, err := s.Upload(ctx, testAccount, "house", u)
			wantCode(t, err, code)
			wantKind(t, err, errs.Invalid, parts...)
			list, err := s.DurableObjectNamespaces(ctx, testAccount)
			if err != nil || !reflect.DeepEqual(list, before) {
				t.Errorf("namespaces %+v, error %v; want %+v", list, err, before)
			}
		}
		refuse(10074, taking("1", "rooms", "Hall"), "'Hall'", "'rooms'", "no Durable Objects")
		refuse(10074, taking("1", "none", "Room"), "'none'", "does not exist")
		refuse(10074, taking("1", "house", "Room"), "rename-class")
		u := taking("1", "rooms", "Room")
		u.Version.Worker.Exports.Named = nil
		refuse(10070, u, "'Room'", "not exported")
		mustUpload(t, s, "house", objectsOf("1", migration("", "", deploy.MigrationStep{NewClasses: []string{"Room"}}), "Room"))
		if before, err = s.DurableObjectNamespaces(ctx, testAccount); err != nil || len(before) != 2 {
			t.Fatalf("namespaces %+v, error %v", before, err)
		}
		refuse(10074, taking("2", "rooms", "Room"), "no free name")

		// Of two versions that serve one may be bad, and afterwards neither could be deployed.
		second := mustUpload(t, s, "rooms", objectsOf("again", nil, "Room"))
		mustDeploy(t, s, "rooms", share(first, 90), share(second, 10))
		into := objectsOf("2", migration("", "", deploy.MigrationStep{TransferredClasses: []deploy.ClassTransfer{{From: "Room", FromScript: "rooms", To: "Hall"}}}), "Room", "Hall")
		refuse(10074, into, "'Room'", "'rooms'", "2 versions", "100%")
		mustDeploy(t, s, "rooms", full(first))
		mustUpload(t, s, "house", into)
	})
}

// TestTransfersDoNotWaitForEachOther has two scripts that take from each other again
// and again. Locked in the order of the uploads they would wait for each other.
func TestTransfersDoNotWaitForEachOther(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		names := []string{"a", "b"}
		for _, name := range names {
			mustUpload(t, s, name, objectsOf(name, migration("", "", deploy.MigrationStep{NewClasses: []string{"Of" + name}}), "Of"+name))
		}
		var all sync.WaitGroup
		for i, name := range names {
			all.Go(func() {
				for range 10 {
					// Refused when the class is here already; another error is one too many.
					_, err := s.Upload(t.Context(), testAccount, name, taking(name, names[1-i], "Of"+names[1-i], "Of"+name))
					if err != nil && errs.KindOf(err) != errs.Invalid {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		list, err := s.DurableObjectNamespaces(t.Context(), testAccount)
		if err != nil || len(list) != 2 {
			t.Errorf("namespaces %+v, error %v", list, err)
		}
	})
}

// TestTransferFromAScriptThatIsDeleted has both at once: whichever is first, a
// namespace that lives is never told as deleted, or a router would remove its storage.
func TestTransferFromAScriptThatIsDeleted(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		for i := range 10 {
			from, to := fmt.Sprintf("from-%d", i), fmt.Sprintf("to-%d", i)
			id := mustUpload(t, s, from, rooms()).Worker.DurableObjects[0].ID
			both := []func(context.Context) error{
				func(ctx context.Context) error { return s.DeleteScript(ctx, testAccount, from, false) },
				func(ctx context.Context) error {
					_, err := s.Upload(ctx, testAccount, to, taking(to, from, "Room"))
					if errs.KindOf(err) == errs.Invalid {
						return nil // it came too late
					}
					return err
				},
			}
			var all sync.WaitGroup
			for _, do := range both {
				all.Go(func() {
					if err := do(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			all.Wait()
			list, err := s.DurableObjectNamespaces(ctx, testAccount)
			if err != nil {
				t.Fatal(err)
			}
			snap, err := s.SnapshotAll(ctx, 0)
			if err != nil {
				t.Fatal(err)
			}
			lives := slices.ContainsFunc(list, func(n deploy.ScriptNamespace) bool { return n.ID == id })
			if deleted := slices.Contains(snap.DeletedDurableObjects, id); lives == deleted {
				t.Errorf("the namespace lives: %v, and is deleted: %v", lives, deleted)
			}
		}
	})
}
