package store

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// objectsOf is an upload that exports classes of Durable Objects, and goes live.
func objectsOf(content string, m *deploy.Migrations, classes ...string) deploy.Upload {
	u := workerOf(content)
	u.Migrations, u.Deploy = m, true
	for _, class := range classes {
		u.Version.Worker.Exports.Named = append(u.Version.Worker.Exports.Named, deploy.NamedExport{Name: class, Kind: deploy.ExportDurableObject})
	}
	return u
}

func migration(from, to string, steps ...deploy.MigrationStep) *deploy.Migrations {
	return &deploy.Migrations{OldTag: from, NewTag: to, Steps: steps}
}

func wantCode(t *testing.T, err error, code int) {
	t.Helper()
	if e, ok := errors.AsType[*errs.Error](err); !ok || e.Code != code || e.Kind != errs.Invalid {
		t.Fatalf("error %v, want an invalid one with code %d", err, code)
	}
}

func TestMigrationsComeWithTheirVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		plain := mustUpload(t, s, "shop", workerOf("0"))
		mustDeploy(t, s, "shop", full(plain))

		u := objectsOf("1", migration("", "v1", deploy.MigrationStep{NewClasses: []string{"b"}, NewSQLiteClasses: []string{"A"}}), "A", "b", "Late")
		u.Version.Worker.Bindings = []deploy.Binding{{Name: "ROOM", Type: deploy.BindingDurableObject, ClassName: "A"}}
		first := mustUpload(t, s, "shop", u)
		list, err := s.DurableObjectNamespaces(ctx, testAccount)
		if err != nil || len(list) != 2 || list[0].Script != "shop" {
			t.Fatalf("namespaces %+v, error %v", list, err)
		}
		got, err := s.Version(ctx, testAccount, "shop", first.ID)
		if err != nil || len(got.Worker.DurableObjects) != 2 || got.Worker.DurableObjects[0].Class != "A" || !got.Worker.DurableObjects[0].SQLite ||
			got.Worker.Bindings[0].NamespaceID != got.Worker.DurableObjects[0].ID || got.Worker.MigrationTag != "v1" {
			t.Fatalf("version %+v, error %v", got.Worker, err)
		}
		if !reflect.DeepEqual(first.Worker, got.Worker) {
			t.Errorf("the upload answered %+v", first.Worker)
		}
		if script, err := s.Script(ctx, testAccount, "shop"); err != nil || script.MigrationTag != "v1" {
			t.Fatalf("script %+v, error %v", script, err)
		}
		snap, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil || snap.Validate() != nil || len(snap.Scripts[0].Versions[0].Worker.Objects) == 0 || len(snap.Scripts[0].Versions[1].Worker.Objects) > 0 || len(snap.DeletedDurableObjects) != 0 {
			t.Fatalf("snapshot %+v, error %v", snap, err)
		}

		// Without migrations a version implements what its script has.
		second := mustUpload(t, s, "shop", objectsOf("2", nil, "A", "b"))
		if !reflect.DeepEqual(second.Worker.DurableObjects, first.Worker.DurableObjects) {
			t.Errorf("the next version implements %+v", second.Worker.DurableObjects)
		}
		_, err = s.Upload(ctx, testAccount, "shop", objectsOf("3", nil, "A"))
		wantCode(t, err, 10064)
		_, err = s.Upload(ctx, testAccount, "shop", objectsOf("3", migration("", "v2"), "A", "b"))
		wantCode(t, err, 10079)

		// Versions that implement the same share a deployment, in every way to one.
		mustDeploy(t, s, "shop", share(first, 60), share(second, 40))
		mustDeploy(t, s, "shop", share(first, 0), share(second, 100))
		snap, err = s.Snapshot(ctx, testAccount, 0)
		if err != nil || snap.Validate() != nil || len(snap.Scripts[0].Splits) != 2 {
			t.Fatalf("snapshot %+v, error %v", snap, err)
		}
		// No way back leads across a migration, and none shares a deployment across one.
		refuse := func(code int, splits ...deploy.Split) {
			t.Helper()
			_, err := s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: splits}, "")
			wantCode(t, err, code)
			_, err = s.DeployForced(ctx, testAccount, "shop", deploy.Deployment{Versions: splits}, "")
			wantCode(t, err, code)
			current, err := s.Deployments(ctx, testAccount, "shop")
			if err != nil {
				t.Fatal(err)
			}
			wantCode(t, s.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current[0].ID}, &deploy.Deployment{ID: "11111111-1111-4111-8111-111111111111", Versions: splits}, nil, nil), code)
		}
		refuse(0, full(plain))
		refuse(100405, share(plain, 50), share(second, 50))
		refuse(100405, share(second, 100), share(plain, 0))
		refuse(100405, share(mustVersion(t, s, "shop"), 1), share(second, 99)) // an origin has no objects
		mustDeploy(t, s, "shop", full(first))
	})
}

func TestDeletedNamespacesAreTold(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		first := mustUpload(t, s, "shop", objectsOf("1", migration("", "v1", deploy.MigrationStep{NewSQLiteClasses: []string{"A", "B"}}), "A", "B"))
		a, b := first.Worker.DurableObjects[0].ID, first.Worker.DurableObjects[1].ID
		deleted := func(want ...string) {
			t.Helper()
			snap, err := s.Snapshot(ctx, testAccount, 0)
			got := slices.Clone(snap.DeletedDurableObjects)
			slices.Sort(got)
			slices.Sort(want)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("deleted are %v, error %v; want %v", got, err, want)
			}
		}
		deleted()
		u := objectsOf("2", migration("v1", "v2", deploy.MigrationStep{DeletedClasses: []string{"A"}, RenamedClasses: []deploy.ClassRename{{From: "B", To: "C"}}}), "C")
		second := mustUpload(t, s, "shop", u)
		if got := second.Worker.DurableObjects; len(got) != 1 || got[0].ID != b || got[0].Class != "C" {
			t.Errorf("after the renaming there is %+v", got)
		}
		deleted(a)
		// A refused upload leaves the classes as they are.
		_, err := s.Upload(ctx, testAccount, "shop", objectsOf("3", migration("v2", "v3", deploy.MigrationStep{DeletedClasses: []string{"C"}, NewClasses: []string{"D"}})))
		wantCode(t, err, 10070)
		deleted(a)
		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		deleted(a, b)
		if list, err := s.DurableObjectNamespaces(ctx, testAccount); err != nil || len(list) != 0 {
			t.Errorf("namespaces %+v, error %v", list, err)
		}
		// The same name again is other storage.
		third := mustUpload(t, s, "shop", objectsOf("1", migration("", "v1", deploy.MigrationStep{NewSQLiteClasses: []string{"B"}}), "B"))
		if id := third.Worker.DurableObjects[0].ID; id == b || id == a {
			t.Errorf("the id %s was given twice", id)
		}
	})
}

func TestSnapshotTellsTheDelayOfUpdates(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		u := objectsOf("1", migration("", "v1", deploy.MigrationStep{NewClasses: []string{"A"}}), "A")
		for _, want := range []int64{300_000, 0} {
			if want == 0 {
				u.Migrations, u.Deployment.CodeUpdate = nil, deploy.CodeUpdate{Mode: deploy.CodeUpdateImmediate}
			}
			mustUpload(t, s, "shop", u)
			if snap, err := s.SnapshotAll(t.Context(), 0); err != nil || snap.Scripts[0].ObjectsDelayMS != want {
				t.Errorf("the delay is %d ms, error %v; want %d", snap.Scripts[0].ObjectsDelayMS, err, want)
			}
		}
	})
}
