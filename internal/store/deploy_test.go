package store

import (
	"fmt"
	"maps"
	"reflect"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema/control"
)

func TestVersionsAreNumberedAndSigned(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := control.WithActor(t.Context(), control.Actor{TokenID: "tok", Email: "me@example.com", Source: "wrangler"})
		v, err := s.CreateVersion(ctx, testAccount, "shop", deploy.Version{
			Annotations: deploy.Annotations{Tag: "v1", Message: "first"}, Origin: &deploy.Origin{URL: "http://10.0.0.5:9000"},
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Version(ctx, testAccount, "shop", v.ID)
		if err != nil || got.Number != 1 || got.Source != "wrangler" || got.AuthorID != "tok" || got.AuthorEmail != "me@example.com" ||
			got.Annotations.Tag != "v1" || got.Origin.URL != "http://10.0.0.5:9000" || !got.CreatedOn.Equal(v.CreatedOn) {
			t.Fatalf("version %+v, error %v", got, err)
		}
		var all sync.WaitGroup
		for range 9 {
			all.Go(func() {
				if _, err := s.CreateVersion(ctx, testAccount, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://a"}}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		page, total, err := s.Versions(ctx, testAccount, "shop", 4, 0)
		if err != nil || total != 10 || len(page) != 4 || page[0].Number != 10 || page[3].Number != 7 {
			t.Fatalf("page %+v of %d, error %v", page, total, err)
		}
		if page, _, err = s.Versions(ctx, testAccount, "shop", 4, 12); err != nil || len(page) != 0 {
			t.Fatalf("page past the end %+v, error %v", page, err)
		}
		_, err = s.Version(ctx, testAccount, "shop", "nope")
		wantKind(t, err, errs.NotFound, "nope", "shop")
		_, _, err = s.Versions(ctx, testAccount, "none", 4, 0)
		wantKind(t, err, errs.NotFound, "none")
		if found, err := s.Script(ctx, testAccount, "shop"); err != nil || found.Logpush != deploy.LogpushUnset || len(found.Tag) != 32 {
			t.Fatalf("script %+v, error %v", found, err)
		}
	})
}

// An origin comes back whole, in a version and in what gateways get.
func TestOriginsAreKeptWhole(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		none := 0
		monitor := deploy.DefaultMonitor()
		monitor.Header, monitor.ConsecutiveUp = map[string][]string{"Host": {"shop"}, "X-A": {"1", "2"}}, 2
		for _, origin := range []*deploy.Origin{
			{URL: "http://10.0.0.5:9000"},
			{
				Endpoints: []deploy.Endpoint{{URL: "http://10.0.0.5:9000", Weight: 1}, {URL: "http://10.0.0.6:9000", Weight: 0.25}}, Monitor: &monitor,
				Timeouts: &deploy.OriginTimeouts{ConnectMS: 500, FirstByteMS: 2000, BetweenBytesMS: 30_000, IdleMS: 1000}, MaxRequests: 100, Retries: &none,
			},
		} {
			made, err := s.CreateVersion(t.Context(), testAccount, "shop", deploy.Version{Origin: origin})
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.Version(t.Context(), testAccount, "shop", made.ID)
			if err != nil || !reflect.DeepEqual(got.Origin, origin) {
				t.Errorf("the version has %+v, %v, want %+v", got.Origin, err, origin)
			}
			mustDeploy(t, s, "shop", full(made))
			snapshot, err := s.Snapshot(t.Context(), testAccount, 0)
			if err != nil || !reflect.DeepEqual(snapshot.Scripts[0].Versions[0].Origin, origin) {
				t.Errorf("the snapshot has %+v, %v, want %+v", snapshot.Scripts[0].Versions[0].Origin, err, origin)
			}
		}
	})
}

func TestVersionTags(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ids, want := []string{"gone"}, map[string]string{}
		for i := range tiesAtOnce + 2 { // in two queries
			if i > 1 && i < tiesAtOnce {
				ids = append(ids, fmt.Sprint("none of ", i))
				continue
			}
			tag := fmt.Sprint("v", i)
			v, err := s.CreateVersion(t.Context(), testAccount, fmt.Sprint("script-", i), deploy.Version{Annotations: deploy.Annotations{Tag: tag}, Origin: &deploy.Origin{URL: "http://a"}})
			if err != nil {
				t.Fatal(err)
			}
			ids, want[v.ID] = append(ids, v.ID), tag
		}
		f := func(account string, ids []string, want map[string]string) {
			t.Helper()
			if got, err := s.VersionTags(t.Context(), account, ids); err != nil || !maps.Equal(got, want) {
				t.Errorf("tags are %v, %v, want %v", got, err, want)
			}
		}
		f(testAccount, ids, want)
		f(testAccount, nil, nil)
		f("00000000000000000000000000000002", ids, nil)
	})
}

func TestOnlyTheNewestHundredVersionsAreDeployable(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		idle, serving := mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		served := mustDeploy(t, s, "shop", full(serving))
		for range deploy.DeployableVersions - 1 {
			mustVersion(t, s, "shop")
		}
		next := mustVersion(t, s, "shop")
		_, err := s.Deploy(t.Context(), testAccount, "shop", deploy.Deployment{Versions: []deploy.Split{full(idle)}}, "")
		wantKind(t, err, errs.Invalid, idle.ID, "not deployable")

		snap, err := s.Snapshot(t.Context(), testAccount, 0)
		if err != nil {
			t.Fatal(err)
		}
		script := snap.Scripts[0]
		if len(script.Versions) != deploy.DeployableVersions+1 || script.DeploymentID != served.ID {
			t.Fatalf("snapshot has %d versions and deployment %s", len(script.Versions), script.DeploymentID)
		}
		if err := snap.Validate(); err != nil { // the version that serves must be there although it is old
			t.Fatal(err)
		}
		// A canary against the old version, and the way back.
		mustDeploy(t, s, "shop", share(serving, 90), share(next, 10))
		mustDeploy(t, s, "shop", full(serving))
	})
}

func TestDeployRefusals(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		a, b, c := mustVersion(t, s, "shop"), mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		foreign := mustVersion(t, s, "other")
		revision, err := s.revision(ctx)
		if err != nil {
			t.Fatal(err)
		}
		refuse := func(kind errs.Kind, ifCurrent string, splits []deploy.Split, parts ...string) {
			t.Helper()
			_, err := s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: splits}, ifCurrent)
			wantKind(t, err, kind, parts...)
		}
		refuse(errs.Invalid, "", []deploy.Split{share(a, 50), share(b, 49)}, "99%")
		refuse(errs.Invalid, "", []deploy.Split{share(a, 50), share(b, 25), share(c, 25)}, "3 entries", "at most 2")
		refuse(errs.Invalid, "", []deploy.Split{full(foreign)}, foreign.ID)
		refuse(errs.Conflict, "11111111-1111-4111-8111-111111111111", []deploy.Split{full(a)}, "none does")
		_, err = s.Deploy(ctx, testAccount, "none", deploy.Deployment{Versions: []deploy.Split{full(a)}}, "")
		wantKind(t, err, errs.NotFound, "none")

		if list, err := s.Deployments(ctx, testAccount, "shop"); err != nil || len(list) != 0 {
			t.Fatalf("%d deployments were stored, error %v", len(list), err)
		}
		if after, err := s.revision(ctx); err != nil || after != revision {
			t.Fatalf("refusals moved the revision from %d to %d, error %v", revision, after, err)
		}
	})
}

func TestDeployComparesAndSets(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{Now: newClock().now}) // a clock that stands still
		v := mustVersion(t, s, "shop")
		current := mustDeploy(t, s, "shop", full(v))
		var all sync.WaitGroup
		results := make(chan error, 8)
		for range 8 {
			all.Go(func() {
				_, err := s.Deploy(t.Context(), testAccount, "shop", deploy.Deployment{Versions: []deploy.Split{full(v)}}, current.ID)
				results <- err
			})
		}
		all.Wait()
		close(results)
		won := 0
		for err := range results {
			if err == nil {
				won++
				continue
			}
			wantKind(t, err, errs.Conflict, current.ID)
		}
		if won != 1 {
			t.Fatalf("%d of 8 deployments replaced one", won)
		}
		list, err := s.Deployments(t.Context(), testAccount, "shop")
		if err != nil || len(list) != 2 || list[1].ID != current.ID || !list[0].CreatedOn.After(list[1].CreatedOn) {
			t.Fatalf("deployments %+v, error %v", list, err)
		}
	})
}

func TestCodeUpdateIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		splits := []deploy.Split{full(mustVersion(t, s, "shop"))}
		want := func(id string, want deploy.CodeUpdate) {
			t.Helper()
			got, err := s.Deployment(ctx, testAccount, "shop", id)
			if err != nil || !reflect.DeepEqual(got.CodeUpdate, want) {
				t.Errorf("deployment %s: %+v, error %v", id, got, err)
			}
		}
		immediate := deploy.CodeUpdate{Mode: deploy.CodeUpdateImmediate}
		d, err := s.Deploy(ctx, testAccount, "shop", deploy.Deployment{Versions: splits, CodeUpdate: immediate}, "")
		if err != nil {
			t.Fatal(err)
		}
		want(d.ID, immediate)
		want(mustDeploy(t, s, "shop", splits...).ID, deploy.DefaultCodeUpdate())

		// What was deployed before there was such a column.
		if _, err := s.writer.ExecContext(ctx, `INSERT INTO deployments
			(id, account_id, script, number, created_on, source, author_email, strategy, splits_json, annotations_json)
			SELECT 'old', account_id, script, 100, created_on, source, author_email, strategy, splits_json, annotations_json
			FROM deployments WHERE id = $1`, d.ID); err != nil {
			t.Fatal(err)
		}
		want("old", deploy.DefaultCodeUpdate())
	})
}

func TestDeleteDeployment(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		v := mustVersion(t, s, "shop")
		old, current := mustDeploy(t, s, "shop", full(v)), mustDeploy(t, s, "shop", full(v))
		wantKind(t, s.DeleteDeployment(t.Context(), testAccount, "shop", current.ID), errs.Invalid, current.ID)
		wantKind(t, s.DeleteDeployment(t.Context(), testAccount, "shop", "nope"), errs.NotFound)
		if err := s.DeleteDeployment(t.Context(), testAccount, "shop", old.ID); err != nil {
			t.Fatal(err)
		}
		_, err := s.Deployment(t.Context(), testAccount, "shop", old.ID)
		wantKind(t, err, errs.NotFound)
		if _, err := s.Deployment(t.Context(), testAccount, "shop", current.ID); err != nil {
			t.Fatal(err)
		}
	})
}

func TestRoutesBelongToOneScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		if err := s.SetRoutes(ctx, testAccount, "shop", []string{"b.example.com/*", "a.example.com/*"}); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.SetRoutes(ctx, testAccount, "other", []string{"c.example.com/*", "a.example.com/*"}), errs.Conflict, "a.example.com/*")
		if got, err := s.Script(ctx, testAccount, "other"); err != nil || len(got.Routes) != 0 {
			t.Fatalf("a refused change left routes %v, error %v", got.Routes, err)
		}
		if err := s.SetRoutes(ctx, testAccount, "shop", []string{"b.example.com/*"}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoutes(ctx, testAccount, "other", []string{"a.example.com/*"}); err != nil {
			t.Fatal(err)
		}
		if err := s.UpdateScript(ctx, testAccount, "other", deploy.ScriptUpdate{Tags: &[]string{"team-a"}}); err != nil {
			t.Fatal(err)
		}
		list, err := s.Scripts(ctx, testAccount)
		if err != nil || len(list) != 2 || list[0].Name != "other" || list[0].Tags[0] != "team-a" || list[0].Routes[0] != "a.example.com/*" {
			t.Fatalf("scripts %+v, error %v", list, err)
		}
		if err := s.DeleteScript(ctx, testAccount, "other", false); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.DeleteScript(ctx, testAccount, "other", false), errs.NotFound)
		snap, err := s.SnapshotAll(ctx, 0)
		if err != nil || len(snap.Scripts) != 1 || snap.Scripts[0].Routes[0] != "b.example.com/*" || snap.Scripts[0].Subdomain != "dev" {
			t.Fatalf("snapshot %+v, error %v", snap, err)
		}
	})
}

func TestDeploymentsSinceATime(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		begin := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		now := begin
		s := bootstrapped(t, open, Options{Now: func() time.Time { return now }})
		v, err := s.CreateVersion(t.Context(), testAccount, "shop", deploy.Version{Origin: &deploy.Origin{URL: "http://a"}})
		if err != nil {
			t.Fatal(err)
		}
		f := func(since time.Time, before, limit int, want ...int) {
			t.Helper()
			list, err := s.DeploymentsSince(t.Context(), testAccount, "shop", since, before, limit)
			if err != nil || len(list) != len(want) {
				t.Fatalf("%d deployments, error %v; want those of minutes %v", len(list), err, want)
			}
			for i, d := range list {
				if !d.CreatedOn.Equal(begin.Add(time.Duration(want[i]) * time.Minute)) {
					t.Errorf("number %d is of %v, want minutes %v", i, d.CreatedOn, want)
				}
			}
		}
		f(begin, 2, 10)
		for i := range 6 {
			now = begin.Add(time.Duration(i) * time.Minute)
			mustDeploy(t, s, "shop", full(v))
		}
		f(begin, 0, 10, 5, 4, 3, 2, 1, 0)
		f(begin.Add(3*time.Minute), 0, 10, 5, 4, 3)
		f(begin.Add(3*time.Minute), 2, 10, 5, 4, 3, 2, 1)
		f(begin.Add(3*time.Minute), 9, 10, 5, 4, 3, 2, 1, 0)
		f(begin.Add(3*time.Minute), 2, 4, 5, 4, 3, 2)
		f(begin.Add(time.Hour), 2, 10, 5, 4)
		_, err = s.DeploymentsSince(t.Context(), testAccount, "none", begin, 1, 1)
		wantKind(t, err, errs.NotFound, "none")
	})
}

// The deployment in which the version before had all traffic was deleted while another was on
// trial against it: a failure then put back the one before that.
func TestDeleteDeploymentKeepsTheBaseline(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		z, a, b := mustVersion(t, s, "shop"), mustVersion(t, s, "shop"), mustVersion(t, s, "shop")
		p := deploy.DefaultPolicy()
		p.Enabled = true
		mustPolicy(t, s, "shop", p)
		first, zFull, before := mustDeploy(t, s, "shop", full(a)), mustDeploy(t, s, "shop", full(z)), mustDeploy(t, s, "shop", full(a))
		small := []deploy.Split{{VersionID: a.ID, Percentage: 95_000}, {VersionID: b.ID, Percentage: 5_000}}
		between := mustDeploy(t, s, "shop", small...)
		mustDeploy(t, s, "shop", small...)
		for _, d := range []deploy.Deployment{before, between, first} {
			wantKind(t, s.DeleteDeployment(t.Context(), testAccount, "shop", d.ID), errs.Invalid, d.ID, "disable the policy")
		}
		if err := s.DeleteDeployment(t.Context(), testAccount, "shop", zFull.ID); err != nil {
			t.Errorf("delete one that nothing rests on: %v", err)
		}
		p.Enabled = false
		mustPolicy(t, s, "shop", p)
		if err := s.DeleteDeployment(t.Context(), testAccount, "shop", before.ID); err != nil {
			t.Errorf("delete without a policy that is enabled: %v", err)
		}
	})
}
