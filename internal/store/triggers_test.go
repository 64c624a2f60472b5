package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func TestHostsAreSwitchedInTheSnapshot(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		off, on := false, true
		_, before := inSnapshot(t, s, "shop")
		for _, step := range []struct {
			update deploy.HostsUpdate
			want   deploy.Hosts
		}{
			{deploy.HostsUpdate{Enabled: &on, PreviewsEnabled: &on}, deploy.Hosts{}},
			{deploy.HostsUpdate{Enabled: &off}, deploy.Hosts{Disabled: true}},
			{deploy.HostsUpdate{PreviewsEnabled: &off}, deploy.Hosts{Disabled: true, PreviewsDisabled: true}},
			{deploy.HostsUpdate{Enabled: &on}, deploy.Hosts{PreviewsDisabled: true}},
			{deploy.HostsUpdate{}, deploy.Hosts{PreviewsDisabled: true}},
		} {
			got, err := s.UpdateHosts(ctx, testAccount, "shop", step.update)
			if err != nil || got != step.want {
				t.Fatalf("hosts %+v, error %v; want %+v", got, err, step.want)
			}
			if got, err := s.Hosts(ctx, testAccount, "shop"); err != nil || got != step.want {
				t.Fatalf("read %+v, error %v; want %+v", got, err, step.want)
			}
			sc, revision := inSnapshot(t, s, "shop")
			if sc.HostDisabled != step.want.Disabled || sc.PreviewsDisabled != step.want.PreviewsDisabled {
				t.Errorf("the snapshot has host_disabled %v, previews_disabled %v; want %+v", sc.HostDisabled, sc.PreviewsDisabled, step.want)
			}
			if step.want == (deploy.Hosts{}) && revision != before {
				t.Errorf("nothing changed, and gateways were given revision %d after %d", revision, before)
			}
		}
		_, err := s.UpdateHosts(ctx, testAccount, "none", deploy.HostsUpdate{})
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.Hosts(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
	})
}

func TestSubdomainMovesAllHosts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		other, err := s.CreateAccount(ctx, "Other")
		if err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.SetSubdomain(ctx, testAccount, "other"), errs.Conflict, "other")
		wantKind(t, s.SetSubdomain(ctx, "none", "free"), errs.NotFound, "none")
		if err := s.SetSubdomain(ctx, testAccount, "team"); err != nil {
			t.Fatal(err)
		}
		if sc, _ := inSnapshot(t, s, "shop"); sc.Subdomain != "team" {
			t.Errorf("gateways serve it under %s", sc.Subdomain)
		}
		if owner, err := s.SubdomainOwner(ctx, "team"); err != nil || owner.ID != testAccount {
			t.Errorf("owner %+v, error %v", owner, err)
		}
		_, err = s.SubdomainOwner(ctx, "dev")
		wantKind(t, err, errs.NotFound, "dev")
		if err := s.SetSubdomain(ctx, other.ID, "dev"); err != nil {
			t.Errorf("the name that was given up is not free: %v", err)
		}
	})
}

// TestSubdomainIsTakenOnce: accounts that take one subdomain at the same time, one of
// them a new account by its name. On PostgreSQL all of them saw that it was free, and
// those that came too late were told of an internal error.
func TestSubdomainIsTakenOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		const accounts = 8
		var ids [accounts]string
		for i := range ids {
			ids[i] = mustScript(t, s, fmt.Sprint("Account ", i), "shop")
		}
		for round := range 10 {
			wanted := fmt.Sprint("team", round)
			results := make(chan error, accounts)
			var all sync.WaitGroup
			for _, id := range ids {
				all.Go(func() { results <- s.SetSubdomain(t.Context(), id, wanted) })
			}
			all.Go(func() {
				if _, err := s.CreateAccount(t.Context(), wanted); err != nil {
					t.Errorf("the account that was named %s: %v", wanted, err)
				}
			})
			all.Wait()
			close(results)
			won := 0
			for err := range results {
				if err == nil {
					won++
					continue
				}
				wantKind(t, err, errs.Conflict, wanted)
			}
			owner, err := s.SubdomainOwner(t.Context(), wanted)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			if slices.Contains(ids[:], owner.ID) {
				want = 1
			}
			if won != want {
				t.Fatalf("%d of %d accounts were given the subdomain, which %s has", won, accounts, owner.Name)
			}
		}
	})
}

func TestSchedulesThatStayKeepTheirTime(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		began := clock.now()
		if err := s.SetSchedules(ctx, testAccount, "shop", []string{"1 * * * *", "2 * * * *"}); err != nil {
			t.Fatal(err)
		}
		clock.add(time.Hour)
		if err := s.SetSchedules(ctx, testAccount, "shop", []string{"3 * * * *", "2 * * * *"}); err != nil {
			t.Fatal(err)
		}
		want := []deploy.Schedule{{Cron: "2 * * * *", CreatedOn: began}, {Cron: "3 * * * *", CreatedOn: clock.now()}}
		if got, err := s.Schedules(ctx, testAccount, "shop"); err != nil || !slices.Equal(got, want) {
			t.Errorf("schedules %+v, error %v", got, err)
		}
		if sc, _ := inSnapshot(t, s, "shop"); !slices.Equal(sc.Crons, []string{"2 * * * *", "3 * * * *"}) {
			t.Errorf("the snapshot has %q", sc.Crons)
		}
		wantKind(t, s.SetSchedules(ctx, testAccount, "none", nil), errs.NotFound, "none")
		_, err := s.Schedules(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		mustVersion(t, s, "shop")
		if sc, _ := inSnapshot(t, s, "shop"); len(sc.Crons) != 0 {
			t.Errorf("a new script has the schedules of a deleted one: %q", sc.Crons)
		}
	})
}

// TestDomainsAndRoutesShareTheirHosts: a host belongs to one account and a request
// to one script, whether it was claimed by a route or by a custom domain.
func TestDomainsAndRoutesShareTheirHosts(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		victim, other := mustScript(t, s, "Victim", "shop"), mustScript(t, s, "Other", "trap")
		if _, err := s.CreateVersion(ctx, victim, "admin", deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetDomains(ctx, victim, "shop", []string{"victim.example.com", "www.victim.example.com"}, false); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoutes(ctx, victim, "admin", []string{"routed.example.com/*"}); err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{"victim.example.com/admin/*", "*.example.com/*", "http://www.victim.example.com/*"} {
			wantKind(t, s.SetRoutes(ctx, other, "trap", []string{pattern}), errs.Conflict, pattern, "another account")
			wantKind(t, s.MoveRoute(ctx, other, deploy.ScriptRoute{}, deploy.ScriptRoute{Pattern: pattern, Script: "trap"}), errs.Conflict, pattern, "another account")
		}
		for _, hostname := range []string{"victim.example.com", "routed.example.com"} {
			wantKind(t, s.SetDomains(ctx, other, "trap", []string{hostname}, true), errs.Conflict, hostname, "another account")
			_, err := s.AttachDomain(ctx, other, "trap", hostname)
			wantKind(t, err, errs.Conflict, hostname, "another account")
		}
		wantKind(t, s.SetRoutes(ctx, victim, "admin", []string{"victim.example.com/*"}), errs.Conflict, "custom domain", "shop")
		wantKind(t, s.SetDomains(ctx, victim, "shop", []string{"routed.example.com"}, true), errs.Conflict, "routed.example.com", "admin")
		if list, err := s.Domains(ctx, victim); err != nil || len(list) != 2 {
			t.Fatalf("a refused change left %+v, error %v", list, err)
		}

		// Its own script may have both, and the other a part of it.
		if err := s.SetRoutes(ctx, victim, "shop", []string{"victim.example.com/*"}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoutes(ctx, victim, "admin", []string{"victim.example.com/admin/*"}); err != nil {
			t.Fatal(err)
		}
		snap, err := s.Snapshot(ctx, victim, 0)
		if err != nil || !slices.Equal(snap.Scripts[1].Routes, []string{"victim.example.com/*", "www.victim.example.com/*"}) {
			t.Errorf("routes in the snapshot %+v, error %v", snap.Scripts, err)
		}

		wantKind(t, s.SetDomains(ctx, victim, "admin", []string{"www.victim.example.com"}, false), errs.Conflict, "shop")
		d, err := s.AttachDomain(ctx, victim, "admin", "www.victim.example.com")
		if err != nil || d.Script != "admin" || d.AccountID != victim {
			t.Fatalf("attached %+v, error %v", d, err)
		}
		wantKind(t, s.DeleteDomain(ctx, other, d.ID), errs.NotFound, d.ID)
		if err := s.DeleteDomain(ctx, victim, d.ID); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteScript(ctx, victim, "shop", false); err != nil {
			t.Fatal(err)
		}
		if list, err := s.Domains(ctx, victim); err != nil || len(list) != 0 {
			t.Errorf("a deleted script has the domains %+v, error %v", list, err)
		}
	})
}

func TestRoutesMove(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		none := deploy.ScriptRoute{}
		a, b := deploy.ScriptRoute{Pattern: "a.example.com/*", Script: "shop"}, deploy.ScriptRoute{Pattern: "a.example.com/*", Script: "other"}
		wantRoutes := func(script string, want ...string) {
			t.Helper()
			if got, err := s.Script(ctx, testAccount, script); err != nil || !slices.Equal(got.Routes, want) {
				t.Fatalf("%s has %v, error %v; want %v", script, got.Routes, err, want)
			}
		}
		if err := s.MoveRoute(ctx, testAccount, none, a); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.MoveRoute(ctx, testAccount, none, b), errs.Conflict, "another script")
		wantRoutes("shop", "a.example.com/*")
		if err := s.MoveRoute(ctx, testAccount, a, b); err != nil {
			t.Fatal(err)
		}
		wantRoutes("shop")
		wantRoutes("other", "a.example.com/*")
		wantKind(t, s.MoveRoute(ctx, testAccount, a, none), errs.NotFound, "a.example.com/*", "shop")
		wantKind(t, s.MoveRoute(ctx, testAccount, b, deploy.ScriptRoute{Pattern: "b.example.com/*", Script: "none"}), errs.NotFound, "none")
		wantRoutes("other", "a.example.com/*")
		if err := s.MoveRoute(ctx, testAccount, b, none); err != nil {
			t.Fatal(err)
		}
		wantRoutes("other")
	})
}

func TestScriptInUseIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustDeploy(t, s, "stock", full(mustVersion(t, s, "stock")))
		uses, err := s.CreateVersion(ctx, testAccount, "shop", deploy.Version{Worker: &deploy.Worker{
			MainModule: "index.js", Bindings: []deploy.Binding{{Name: "STOCK", Type: deploy.BindingService, Service: "stock"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		wantUsers := func(names ...string) {
			t.Helper()
			found, err := s.References(ctx, testAccount, "stock")
			if err != nil || !slices.Equal(found.Dependents(), names) {
				t.Fatalf("stock is used by %v, error %v; want %v", found.Dependents(), err, names)
			}
		}
		wantUsers() // uploaded is not deployed
		mustDeploy(t, s, "shop", full(uses))
		wantUsers("shop")
		wantKind(t, s.DeleteScript(ctx, testAccount, "stock", false), errs.Conflict, "stock", "shop", "force")
		mustDeploy(t, s, "shop", full(mustVersion(t, s, "shop")))
		wantUsers()
		mustDeploy(t, s, "shop", share(uses, 1), share(mustVersion(t, s, "shop"), 99))
		wantUsers("shop")
		if err := s.DeleteScript(ctx, testAccount, "stock", true); err != nil {
			t.Fatal(err)
		}
		_, err = s.References(ctx, testAccount, "stock")
		wantKind(t, err, errs.NotFound, "stock")
	})
}

// TestTies has more versions than one query reads.
func TestTies(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		want := make(map[string][]string)
		for i := range tiesAtOnce + 1 {
			name := fmt.Sprintf("script-%d", i)
			v := mustVersion(t, s, name)
			mustDeploy(t, s, name, full(v))
			want[name] = []string{v.ID}
		}
		old, next := mustVersion(t, s, "script-0"), mustVersion(t, s, "script-0")
		newest := mustVersion(t, s, "script-0")
		mustDeploy(t, s, "script-0", share(old, 60), share(next, 40))
		want["script-0"] = []string{old.ID, next.ID}
		// The newest of a script need not have the last number.
		kept, gone := mustVersion(t, s, "never-deployed"), mustVersion(t, s, "never-deployed")
		if err := s.DeleteVersion(ctx, testAccount, "never-deployed", gone.ID); err != nil {
			t.Fatal(err)
		}
		ties, err := s.Ties(ctx, testAccount)
		if err != nil {
			t.Fatal(err)
		}
		if len(ties.Newest) != 2 || ties.Newest["script-0"].ID != newest.ID || ties.Newest["never-deployed"].ID != kept.ID {
			t.Errorf("newest are %+v", ties.Newest)
		}
		got := make(map[string][]string, len(ties.Deployed))
		for name, versions := range ties.Deployed {
			for _, v := range versions {
				got[name] = append(got[name], v.ID)
			}
			slices.Sort(got[name])
		}
		slices.Sort(want["script-0"])
		if !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%d scripts are deployed, want %d; script-0 has %v, want %v", len(got), len(want), got["script-0"], want["script-0"])
		}
		if other, err := s.Ties(ctx, strings.Repeat("f", 32)); err != nil || len(other.Deployed)+len(other.Newest)+len(other.Namespaces) != 0 {
			t.Errorf("another account has %v, error %v", other, err)
		}
	})
}

// Routes and domains that came one by one had no bound: a script of one account
// could fill the snapshot of every gateway.
func TestRoutesAndDomainsAreBoundedOneByOne(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		patterns, hostnames := make([]string, deploy.RoutesMax), make([]string, deploy.RoutesMax)
		for i := range deploy.RoutesMax {
			hostnames[i] = fmt.Sprintf("h%d.example.com", i)
			patterns[i] = fmt.Sprintf("r%d.example.com/*", i)
		}
		if err := s.SetRoutes(ctx, testAccount, "shop", patterns); err != nil {
			t.Fatal(err)
		}
		if err := s.SetDomains(ctx, testAccount, "shop", hostnames, false); err != nil {
			t.Fatal(err)
		}
		more := deploy.ScriptRoute{Pattern: "more.example.com/*", Script: "shop"}
		wantKind(t, s.MoveRoute(ctx, testAccount, deploy.ScriptRoute{}, more), errs.Invalid, "100 routes")
		_, err := s.AttachDomain(ctx, testAccount, "shop", "more.example.com")
		wantKind(t, err, errs.Invalid, "100 domains")

		// What is there already may be said again, or be exchanged.
		if err := s.MoveRoute(ctx, testAccount, deploy.ScriptRoute{Pattern: patterns[0], Script: "shop"}, more); err != nil {
			t.Error(err)
		}
		if _, err := s.AttachDomain(ctx, testAccount, "shop", hostnames[0]); err != nil {
			t.Error(err)
		}
	})
}
