package store

import (
	"strings"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// Three states: what was said is kept, what was not said is no answer, and both
// reach the gateways.
func TestLogpushSettingIsKeptAndInTheSnapshot(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		set := func(l deploy.Logpush) deploy.ScriptUpdate { return deploy.ScriptUpdate{Logpush: &l} }
		want := func(what string, want deploy.Logpush) {
			t.Helper()
			script, err := s.Script(ctx, testAccount, "shop")
			if err != nil || script.Logpush != want {
				t.Errorf("%s: the script has %v, error %v; want %v", what, script.Logpush, err, want)
			}
			list, err := s.Scripts(ctx, testAccount)
			if err != nil || len(list) != 2 || list[0].Logpush != deploy.LogpushUnset || list[1].Logpush != want {
				t.Errorf("%s: the scripts are %+v, error %v", what, list, err)
			}
			shop, _ := inSnapshot(t, s, "shop")
			other, _ := inSnapshot(t, s, "other")
			if shop.LogpushDisabled != (want == deploy.LogpushDisabled) || other.LogpushDisabled {
				t.Errorf("%s: logpush_disabled in the snapshot: shop %v, other %v", what, shop.LogpushDisabled, other.LogpushDisabled)
			}
		}
		want("a new script", deploy.LogpushUnset)
		for _, l := range []deploy.Logpush{deploy.LogpushDisabled, deploy.LogpushEnabled, deploy.LogpushDisabled, deploy.LogpushUnset} {
			_, before := inSnapshot(t, s, "shop")
			if err := s.UpdateScript(ctx, testAccount, "shop", set(l)); err != nil {
				t.Fatal(err)
			}
			want("an update", l)
			if _, after := inSnapshot(t, s, "shop"); after <= before {
				t.Errorf("gateways were given revision %d after %d", after, before)
			}
		}
		if err := s.UpdateScript(ctx, testAccount, "shop", set(deploy.LogpushDisabled)); err != nil {
			t.Fatal(err)
		}
		if err := s.UpdateScript(ctx, testAccount, "shop", deploy.ScriptUpdate{Tags: &[]string{"a"}}); err != nil {
			t.Fatal(err)
		}
		want("an update of something else", deploy.LogpushDisabled)
		mustVersion(t, s, "shop")
		want("another version", deploy.LogpushDisabled)
		u := workerOf("1")
		u.Settings = set(deploy.LogpushEnabled)
		mustUpload(t, s, "shop", u)
		want("an upload that says so", deploy.LogpushEnabled)

		var audited string
		if err := s.reader.QueryRowContext(ctx, `SELECT before_json || ' ' || after_json FROM audit_log
			WHERE action = 'script.update' AND target = 'shop' ORDER BY happened_on, id LIMIT 1`).Scan(&audited); err != nil {
			t.Fatal(err)
		}
		if before, after, _ := strings.Cut(audited, "} {"); !strings.Contains(before, `"logpush":null`) || !strings.Contains(after, `"logpush":false`) {
			t.Errorf("the audit log says %s", audited)
		}
		wantKind(t, s.UpdateScript(ctx, testAccount, "none", set(deploy.LogpushDisabled)), errs.NotFound, "none")
	})
}

// A script may be born with the setting, as Terraform makes them.
func TestLogpushSettingOfANewScript(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		off := deploy.LogpushDisabled
		if err := s.CreateScript(t.Context(), testAccount, "shop", deploy.ScriptUpdate{Logpush: &off}); err != nil {
			t.Fatal(err)
		}
		if script, err := s.Script(t.Context(), testAccount, "shop"); err != nil || script.Logpush != off {
			t.Errorf("the script has %v, error %v", script.Logpush, err)
		}
		if sc, _ := inSnapshot(t, s, "shop"); !sc.LogpushDisabled {
			t.Error("the snapshot does not say that Logpush is off")
		}
	})
}
