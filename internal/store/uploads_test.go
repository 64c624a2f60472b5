package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// workerOf is an upload of one module with bindings.
func workerOf(content string, bindings ...deploy.Binding) deploy.Upload {
	sum := sha256.Sum256([]byte(content))
	name := hex.EncodeToString(sum[:])
	return deploy.Upload{
		Create: true,
		Version: deploy.Version{Worker: &deploy.Worker{
			MainModule: "a.js", Modules: []deploy.Module{{Name: "a.js", ContentType: deploy.ModuleTypeESM, SHA256: name, Bytes: int64(len(content))}},
			Bindings: bindings, Kept: map[string]json.RawMessage{"placement": json.RawMessage(`{"mode":"smart"}`)},
			Exports: deploy.Exports{Handlers: []string{"fetch"}, Named: []deploy.NamedExport{{Name: "Admin", Kind: deploy.ExportEntrypoint, Handlers: []string{"reset"}}}},
		}},
		Contents: map[string][]byte{name: []byte(content)},
	}
}

func secret(name, text string) deploy.Binding {
	return deploy.Binding{Name: name, Type: deploy.BindingSecretText, Text: text}
}

func mustUpload(t *testing.T, s *Store, script string, u deploy.Upload) deploy.Version {
	t.Helper()
	v, err := s.Upload(t.Context(), testAccount, script, u)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func modulesOf(t *testing.T, s *Store) int {
	t.Helper()
	var n int
	if err := s.reader.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM modules`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestUploadIsStoredWhole(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		// Bytes that are no text, and none at all.
		u := workerOf("\x00\xff\x00")
		empty := workerOf("").Version.Worker.Modules[0]
		empty.Name = "empty.txt"
		u.Version.Worker.Modules = append(u.Version.Worker.Modules, empty, empty)
		u.Contents[empty.SHA256] = nil
		u.Version.Worker.Bindings = []deploy.Binding{secret("KEY", "hunter2"), {Name: "J", Type: deploy.BindingJSON, JSON: json.RawMessage("null")}}
		u.Version.Annotations = deploy.Annotations{Tag: "v1"}
		u.Deploy, u.Deployment.Annotations.Message = true, "Automatic deployment on upload."
		u.Settings = deploy.ScriptUpdate{Tags: &[]string{"team-a"}, Settings: map[string]json.RawMessage{"observability": json.RawMessage(`{"enabled":true}`)}}
		v := mustUpload(t, s, "shop", u)

		got, err := s.Version(ctx, testAccount, "shop", v.ID)
		if err != nil || !reflect.DeepEqual(got.Worker, u.Version.Worker) || got.Number != 1 {
			t.Fatalf("version %+v with %+v, error %v", got, got.Worker, err)
		}
		b, err := s.Bundle(ctx, testAccount, v.ID)
		if err != nil || !reflect.DeepEqual(&b.Worker, u.Version.Worker) || b.Script != "shop" || b.Tag != "v1" || !b.CreatedOn.Equal(v.CreatedOn) {
			t.Fatalf("bundle %+v, error %v", b, err)
		}
		for sum, want := range u.Contents {
			if content, err := s.Module(ctx, testAccount, sum); err != nil || content == nil || !bytes.Equal(content, want) {
				t.Errorf("module %s is %q, error %v", sum, content, err)
			}
		}
		list, err := s.Deployments(ctx, testAccount, "shop")
		if err != nil || len(list) != 1 || !reflect.DeepEqual(list[0].Versions, []deploy.Split{full(v)}) || list[0].Annotations.Message == "" {
			t.Fatalf("deployments %+v, error %v", list, err)
		}
		script, err := s.Script(ctx, testAccount, "shop")
		if err != nil || script.Tags[0] != "team-a" || string(script.Settings["observability"]) != `{"enabled":true}` || !script.DeployedOn.Equal(list[0].CreatedOn) {
			t.Fatalf("script %+v, error %v", script, err)
		}
		if found, err := s.FindScript(ctx, testAccount, script.Tag); err != nil || !reflect.DeepEqual(found, script) {
			t.Fatalf("by its tag %+v, error %v", found, err)
		}
		snap, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil || snap.Validate() != nil || !reflect.DeepEqual(snap.Scripts[0].Versions[0].Worker, &deploy.SnapshotWorker{Exports: u.Version.Worker.Exports}) {
			t.Fatalf("snapshot %+v, error %v", snap, err)
		}
		text, err := toJSON(snap)
		if err != nil || strings.Contains(text, "hunter2") {
			t.Errorf("the snapshot %s has a secret, error %v", text, err)
		}
		var audited int
		if err := s.reader.QueryRowContext(ctx, `SELECT COUNT(*) FROM audit_log WHERE action = 'version.create' AND after_json LIKE '%KEY%' AND after_json NOT LIKE '%hunter2%'`).
			Scan(&audited); err != nil || audited != 1 {
			t.Errorf("%d records name the secret and not its text, error %v", audited, err)
		}
	})
}

func TestUploadRefusalsLeaveNothing(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		first := mustUpload(t, s, "shop", workerOf("one"))
		second := mustUpload(t, s, "shop", workerOf("two"))
		mustDeploy(t, s, "shop", full(first))
		revision, err := s.revision(ctx)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(script string, kind errs.Kind, code int, change func(*deploy.Upload), parts ...string) {
			t.Helper()
			u := workerOf("three")
			change(&u)
			_, err := s.Upload(ctx, testAccount, script, u)
			wantKind(t, err, kind, parts...)
			if e, ok := errors.AsType[*errs.Error](err); code != 0 && (!ok || e.Code != code) {
				t.Errorf("error %v has not the code %d", err, code)
			}
		}
		refuse("none", errs.NotFound, 10007, func(u *deploy.Upload) { u.Create = false }, "none")
		refuse("shop", errs.Conflict, 0, func(u *deploy.Upload) { u.Base = &first.ID }, "meanwhile")
		none := ""
		refuse("shop", errs.Conflict, 0, func(u *deploy.Upload) { u.Base = &none }, "meanwhile")
		refuse("shop", errs.Conflict, 10215, func(u *deploy.Upload) { u.Base, u.Serving = &second.ID, 10215 }, second.ID)
		refuse("shop", errs.Internal, 0, func(u *deploy.Upload) { u.Contents = map[string][]byte{"00": {1}} }, "SHA-256")
		refuse("shop", errs.Internal, 0, func(u *deploy.Upload) { u.Contents = nil }, "a.js")
		refuse("fresh", errs.Internal, 0, func(u *deploy.Upload) { u.Contents = nil }, "a.js")

		if list, total, err := s.Versions(ctx, testAccount, "shop", 9, 0); err != nil || total != 2 || len(list) != 2 {
			t.Errorf("versions %+v, error %v", list, err)
		}
		if list, err := s.Scripts(ctx, testAccount); err != nil || len(list) != 1 {
			t.Errorf("scripts %+v, error %v", list, err)
		}
		if n := modulesOf(t, s); n != 2 {
			t.Errorf("%d modules are stored", n)
		}
		if after, err := s.revision(ctx); err != nil || after != revision {
			t.Errorf("refusals moved the revision from %d to %d, error %v", revision, after, err)
		}
	})
}

func TestModulesLiveAsLongAsAVersionNeedsThem(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		other, err := s.CreateAccount(ctx, "Other")
		if err != nil {
			t.Fatal(err)
		}
		shared := workerOf("shared")
		sum := shared.Version.Worker.Modules[0].SHA256
		v1 := mustUpload(t, s, "shop", shared)
		mustUpload(t, s, "shop", workerOf("own"))
		if _, err := s.Upload(ctx, other.ID, "theirs", shared); err != nil {
			t.Fatal(err)
		}
		if n := modulesOf(t, s); n != 2 {
			t.Fatalf("%d modules are stored", n)
		}
		// A version can be made of modules that are there already.
		again := workerOf("shared")
		again.Contents = nil
		mustUpload(t, s, "shop", again)

		if err := s.DeleteVersion(ctx, testAccount, "shop", v1.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Module(ctx, testAccount, sum); err != nil {
			t.Errorf("another version's module: %v", err)
		}
		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		if n := modulesOf(t, s); n != 1 {
			t.Errorf("%d modules are left", n)
		}
		_, err = s.Module(ctx, testAccount, sum)
		wantKind(t, err, errs.NotFound, sum)
		if content, err := s.Module(ctx, other.ID, sum); err != nil || string(content) != "shared" {
			t.Errorf("module %q, error %v", content, err)
		}
		if err := s.DeleteScript(ctx, other.ID, "theirs", false); err != nil {
			t.Fatal(err)
		}
		if n := modulesOf(t, s); n != 0 {
			t.Errorf("%d modules are left", n)
		}
	})
}

// TestModulesAreNotDroppedUnderAnUpload: while a script goes, another one is made
// of the same module.
func TestModulesAreNotDroppedUnderAnUpload(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		sum := workerOf("shared").Version.Worker.Modules[0].SHA256
		for range 20 {
			mustUpload(t, s, "old", workerOf("shared"))
			var all sync.WaitGroup
			all.Go(func() {
				if err := s.DeleteScript(t.Context(), testAccount, "old", false); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() {
				if _, err := s.Upload(t.Context(), testAccount, "new", workerOf("shared")); err != nil {
					t.Error(err)
				}
			})
			all.Wait()
			if _, err := s.Module(t.Context(), testAccount, sum); err != nil {
				t.Fatal(err)
			}
			if err := s.DeleteScript(t.Context(), testAccount, "new", false); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestDeleteVersion(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		v1, v2, v3 := mustVersion(t, s, "shop"), mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		past := mustDeploy(t, s, "shop", full(v1))
		mustDeploy(t, s, "shop", full(v2))
		wantKind(t, s.DeleteVersion(ctx, testAccount, "shop", v2.ID), errs.Invalid, v2.ID)
		wantKind(t, s.DeleteVersion(ctx, testAccount, "shop", v1.ID), errs.Invalid, past.ID)
		wantKind(t, s.DeleteVersion(ctx, testAccount, "shop", "nope"), errs.NotFound, "nope")
		wantKind(t, s.DeleteVersion(ctx, testAccount, "none", v3.ID), errs.NotFound, "none")
		if err := s.DeleteVersion(ctx, testAccount, "shop", v3.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteDeployment(ctx, testAccount, "shop", past.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteVersion(ctx, testAccount, "shop", v1.ID); err != nil {
			t.Fatal(err)
		}
		if v := mustVersion(t, s, "shop"); v.Number != 4 { // numbers are not given twice
			t.Errorf("the next version has the number %d", v.Number)
		}
		// The newest version is the one that is there.
		base := mustVersion(t, s, "shop")
		if err := s.DeleteVersion(ctx, testAccount, "shop", base.ID); err != nil {
			t.Fatal(err)
		}
		newest, _, err := s.Versions(ctx, testAccount, "shop", 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		u := workerOf("x")
		u.Base = &newest[0].ID
		mustUpload(t, s, "shop", u)
	})
}

func TestRollbackToOtherSecretsIsRefused(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		origin := mustVersion(t, s, "shop")
		v1 := mustUpload(t, s, "shop", workerOf("x", secret("A", "1"), secret("C", "1")))
		same := mustUpload(t, s, "shop", workerOf("y", secret("A", "1"), secret("C", "1")))
		v2 := mustUpload(t, s, "shop", workerOf("x", secret("A", "2"), secret("B", "1"), secret("C", "1")))
		try := func(splits ...deploy.Split) error {
			_, err := s.Deploy(t.Context(), testAccount, "shop", deploy.Deployment{Versions: splits}, "")
			return err
		}
		refused := func(err error) {
			t.Helper()
			wantKind(t, err, errs.Invalid, "The following secrets have changed: A, B")
			if e, ok := errors.AsType[*errs.Error](err); !ok || e.Code != 10220 {
				t.Errorf("error %v", err)
			}
		}
		mustDeploy(t, s, "shop", full(same))
		mustDeploy(t, s, "shop", full(v1)) // back to the same secrets
		mustDeploy(t, s, "shop", full(v2)) // forward
		refused(try(full(v1)))
		mustDeploy(t, s, "shop", share(v1, 90), share(v2, 10))
		refused(try(full(v1)))
		if _, err := s.DeployForced(t.Context(), testAccount, "shop", deploy.Deployment{Versions: []deploy.Split{full(v1)}}, ""); err != nil {
			t.Fatal(err)
		}
		mustDeploy(t, s, "shop", share(v1, 100), share(v2, 0))
		mustDeploy(t, s, "shop", full(v1)) // nobody was served by v2
		mustDeploy(t, s, "shop", full(v2))
		mustDeploy(t, s, "shop", full(origin)) // has no secrets to change
	})
}

func TestScriptsWithoutVersions(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		if err := s.CreateScript(ctx, testAccount, "shop", deploy.ScriptUpdate{Tags: &[]string{"a"}}); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.CreateScript(ctx, testAccount, "shop", deploy.ScriptUpdate{}), errs.Conflict, "shop")
		script, err := s.Script(ctx, testAccount, "shop")
		if err != nil || script.Tags[0] != "a" || !script.DeployedOn.IsZero() {
			t.Fatalf("script %+v, error %v", script, err)
		}
		set := func(value string) {
			t.Helper()
			if err := s.UpdateScript(ctx, testAccount, "shop", deploy.ScriptUpdate{Settings: map[string]json.RawMessage{"observability": json.RawMessage(value)}}); err != nil {
				t.Fatal(err)
			}
		}
		set(`{"enabled":true}`)
		if script, err := s.Script(ctx, testAccount, "shop"); err != nil || string(script.Settings["observability"]) != `{"enabled":true}` || script.Tags[0] != "a" {
			t.Errorf("script %+v, error %v", script, err)
		}
		set("null")
		if script, err := s.Script(ctx, testAccount, "shop"); err != nil || len(script.Settings) != 0 {
			t.Errorf("script %+v, error %v", script, err)
		}
		_, err = s.FindScript(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
		wantKind(t, s.UpdateScript(ctx, testAccount, "none", deploy.ScriptUpdate{}), errs.NotFound, "none")
		// A name comes before a tag.
		if err := s.CreateScript(ctx, testAccount, script.Tag, deploy.ScriptUpdate{}); err != nil {
			t.Fatal(err)
		}
		if found, err := s.FindScript(ctx, testAccount, script.Tag); err != nil || found.Name != script.Tag {
			t.Errorf("script %+v, error %v", found, err)
		}
		snap, err := s.Snapshot(ctx, testAccount, 0)
		if err != nil || snap.Validate() != nil || len(snap.Scripts) != 2 {
			t.Errorf("snapshot %+v, error %v", snap, err)
		}
	})
}
