package store

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"tidegate/internal/seal"
	"tidegate/schema/control"
)

func TestLongValuesAreLeftOutOfTheAuditLog(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		long, fits := strings.Repeat("x", auditTextMax-1), strings.Repeat("y", auditTextMax-2) // and two quotes
		if err := s.write(t.Context(), "change", func(t *tx) error { return t.audit(context.Background(), testAccount, "long.new", "a", long, fits) }); err != nil {
			t.Fatal(err)
		}
		look := func(column string) (text string) {
			t.Helper()
			if err := s.reader.QueryRowContext(t.Context(), `SELECT `+column+` FROM audit_log WHERE action = 'long.new'`).Scan(&text); err != nil {
				t.Fatal(err)
			}
			return text
		}
		const omitted = `{"omitted_bytes":65537}`
		if before, after := look("before_json"), look("after_json"); before != omitted || len(after) != auditTextMax {
			t.Errorf("stored are %.40s and %d bytes", before, len(after))
		}
		// A version before this one kept all of it.
		if _, err := s.writer.ExecContext(t.Context(), `UPDATE audit_log SET before_json = $1 WHERE action = 'long.new'`, `"`+long+`"`); err != nil {
			t.Fatal(err)
		}
		list, _, err := s.AuditLog(t.Context(), testAccount, control.AuditFilter{Action: "long"}, 1, 0)
		if err != nil || len(list) != 1 || list[0].Before != omitted || list[0].After != `"`+fits+`"` {
			t.Errorf("the entry is %.200v, error %v", list, err)
		}
	})
}

func TestAuditLog(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		begin := clock.now().Add(time.Minute)
		ann, bob := control.Actor{TokenID: "1", Email: "ann@example.com", Source: "api"}, control.Actor{TokenID: "2", Source: "wrangler"}
		for i, change := range []struct {
			who            control.Actor
			action, target string
		}{
			{ann, "script.create", "shop"}, {ann, "deployment.create", "shop/1"}, {bob, "deployment.delete", "shop/1"},
			{bob, "script.create", "shop_2"}, {control.Actor{}, "deployment.create", "shopping/1"}, {ann, "deployments.create", "shopX2"},
		} {
			clock.add(time.Minute)
			var before any
			if i == 2 {
				before = map[string]string{"a": "b"}
			}
			ctx := control.WithActor(t.Context(), change.who)
			err := s.write(ctx, "change", func(t *tx) error {
				return t.audit(ctx, testAccount, change.action, change.target, before, i)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		f := func(filter control.AuditFilter, want ...int) {
			t.Helper()
			if filter.Since.IsZero() {
				filter.Since = begin // after what Bootstrap did
			}
			list, total, err := s.AuditLog(t.Context(), testAccount, filter, 10, 0)
			if err != nil || total != len(want) || len(list) != len(want) {
				t.Fatalf("%+v means %d entries, %d listed, error %v, want %d", filter, total, len(list), err, len(want))
			}
			for i, e := range list {
				if e.After != fmt.Sprint(want[i]) || !e.HappenedOn.Equal(begin.Add(time.Duration(want[i])*time.Minute)) {
					t.Errorf("%+v: entry %d is %+v, want %d", filter, i, e, want[i])
				}
			}
		}
		yes, no := true, false
		f(control.AuditFilter{}, 5, 4, 3, 2, 1, 0)
		f(control.AuditFilter{OldestFirst: true}, 0, 1, 2, 3, 4, 5)
		f(control.AuditFilter{ActorEmail: "ann@example.com"}, 5, 1, 0)
		f(control.AuditFilter{ActorID: "2"}, 3, 2)
		f(control.AuditFilter{System: &yes}, 4)
		f(control.AuditFilter{System: &no}, 5, 3, 2, 1, 0)
		f(control.AuditFilter{Action: "deployment"}, 4, 2, 1)
		f(control.AuditFilter{Action: "deployment.create"}, 4, 1)
		f(control.AuditFilter{Target: "shop"}, 2, 1, 0)
		f(control.AuditFilter{Target: "shop_2"}, 3) // an underscore is itself
		f(control.AuditFilter{Target: "shop/1"}, 2, 1)
		f(control.AuditFilter{Since: begin.Add(time.Minute), Before: begin.Add(3 * time.Minute)}, 2, 1)
		f(control.AuditFilter{Target: "shop", Action: "script", ActorID: "1"}, 0)
		f(control.AuditFilter{ID: "none"})

		list, total, err := s.AuditLog(t.Context(), testAccount, control.AuditFilter{Since: begin}, 2, 3)
		if err != nil || total != 6 || len(list) != 2 || list[0].After != "2" || list[1].After != "1" {
			t.Fatalf("the second page is %+v of %d, error %v", list, total, err)
		}
		if e := list[0]; e.Before != `{"a":"b"}` || e.Actor != bob || e.Action != "deployment.delete" || e.Target != "shop/1" || e.AccountID != testAccount {
			t.Errorf("the entry is %+v", e)
		}
		if list, total, err := s.AuditLog(t.Context(), "another", control.AuditFilter{}, 10, 0); err != nil || total != 0 || len(list) != 0 {
			t.Errorf("another account's log is %+v, error %v", list, err)
		}
	})
}

// With which key secrets are sealed, and which is done with, was for nobody to see afterwards.
func TestKeysOfSecretsAreAudited(t *testing.T) {
	eachDatabase(t, func(t *testing.T, databaseURL string) {
		first := newKeys(t)
		second, err := first.Added()
		if err == nil {
			second, err = second.Promoted()
		}
		if err != nil {
			t.Fatal(err)
		}
		var s *Store
		for _, keys := range []*seal.Keys{first, first, second} { // each a start
			if s, err = Open(t.Context(), databaseURL, Options{Keys: keys}); err != nil {
				t.Fatal(err)
			}
			opened := s
			t.Cleanup(func() { _ = opened.Close() })
		}
		secrets, err := OpenSecrets(t.Context(), databaseURL)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = secrets.Close() })
		for range 2 { // a repeat, where the file was not written
			if err := secrets.Forget(t.Context(), first.Primary()); err != nil {
				t.Fatal(err)
			}
		}
		list, total, err := s.AuditLog(t.Context(), "", control.AuditFilter{Action: "secret_key", OldestFirst: true}, 10, 0)
		if err != nil || total != 3 {
			t.Fatalf("the audit log has %+v, error %v", list, err)
		}
		for i, want := range []struct{ action, id, before, after string }{
			{"secret_key.create", first.Primary(), "", `{"id":"` + first.Primary() + `"}`},
			{"secret_key.create", second.Primary(), "", `{"id":"` + second.Primary() + `"}`},
			{"secret_key.retire", first.Primary(), `{"id":"` + first.Primary() + `"}`, ""},
		} {
			if e := list[i]; e.Action != want.action || e.Target != want.id || e.Before != want.before || e.After != want.after || e.Actor.Source != sourceSystem {
				t.Errorf("entry %d is %+v, want %+v", i, e, want)
			}
		}
	})
}
