package store

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func TestAffinityIsKeptInOrderAndInTheSnapshot(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		_, revision := inSnapshot(t, s, "shop")
		want := func(what string, rules []deploy.AffinityRule) {
			t.Helper()
			a, err := s.Affinity(ctx, testAccount, "shop")
			if rules == nil {
				wantKind(t, err, errs.NotFound, "shop", "affinity")
			} else if err != nil || !reflect.DeepEqual(a.Rules, rules) {
				t.Errorf("%s: the script has %+v, error %v", what, a, err)
			}
			shop, now := inSnapshot(t, s, "shop")
			other, _ := inSnapshot(t, s, "other")
			if !reflect.DeepEqual(shop.Affinity, rules) || other.Affinity != nil {
				t.Errorf("%s: in the snapshot shop has %+v, other %+v", what, shop.Affinity, other.Affinity)
			}
			if what != "a new script" && now <= revision {
				t.Errorf("%s: gateways were given revision %d after %d", what, now, revision)
			}
			revision = now
		}
		want("a new script", nil)
		first := []deploy.AffinityRule{
			{Source: deploy.AffinityPath, Prefix: "/räume/"}, {Source: deploy.AffinityClientIP},
			{Source: deploy.AffinityCookie, Name: "user"}, {Source: deploy.AffinityPath, Segment: 2},
		}
		yes := true
		second := []deploy.AffinityRule{
			{Source: deploy.AffinityQuery, Name: "user", Forward: &yes},
			{Source: deploy.AffinityCookie, Name: "visitor", Set: &deploy.AffinityCookieAttributes{MaxAge: 60, Domain: "example.com", Secure: deploy.CookieSecureAlways, Partitioned: true}},
		}
		for _, rules := range [][]deploy.AffinityRule{first, second} {
			if err := s.SaveAffinity(ctx, testAccount, "shop", deploy.Affinity{Rules: rules}); err != nil {
				t.Fatal(err)
			}
			want("a save", rules)
		}
		for range 2 { // the second finds none
			if err := s.DeleteAffinity(ctx, testAccount, "shop"); err != nil {
				t.Fatal(err)
			}
			want("a delete", nil)
		}
		wantKind(t, s.SaveAffinity(ctx, testAccount, "none", deploy.Affinity{Rules: first}), errs.NotFound, "none")
		wantKind(t, s.DeleteAffinity(ctx, testAccount, "none"), errs.NotFound, "none")
		_, err := s.Affinity(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.Affinity(ctx, "another", "shop")
		wantKind(t, err, errs.NotFound, "shop")

		var audited []string
		if err := each(ctx, s.reader, func(row scanner) error {
			var line string
			err := row.Scan(&line)
			audited = append(audited, line)
			return err
		}, `SELECT action || ' ' || COALESCE(before_json, '-') || ' ' || COALESCE(after_json, '-') FROM audit_log WHERE action LIKE 'affinity.%' AND target = 'shop'
			ORDER BY happened_on, id`); err != nil {
			t.Fatal(err)
		}
		slices.Sort(audited) // some happened in one microsecond
		if len(audited) != 4 || !strings.HasPrefix(audited[3], "affinity.save {") || !strings.Contains(strings.Join(audited, "\n"), `"segment":2}]} {"rules":[{"source":"query"`) {
			t.Errorf("the audit log says\n%s", strings.Join(audited, "\n"))
		}
	})
}

// The rules go with the script: one of the same name that comes later has none.
func TestAffinityEndsWithItsScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		if err := s.SaveAffinity(ctx, testAccount, "shop", deploy.Affinity{Rules: []deploy.AffinityRule{{Source: deploy.AffinityClientIP}}}); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		mustVersion(t, s, "shop")
		if sc, _ := inSnapshot(t, s, "shop"); sc.Affinity != nil {
			t.Errorf("the new script has %+v", sc.Affinity)
		}
	})
}
