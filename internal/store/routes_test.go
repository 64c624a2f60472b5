package store

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// mustScript makes an account with a script and returns the account's id.
func mustScript(t *testing.T, s *Store, accountName, script string) string {
	t.Helper()
	a, err := s.CreateAccount(t.Context(), accountName)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.CreateVersion(t.Context(), a.ID, script, deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}})
	if err != nil {
		t.Fatal(err)
	}
	return a.ID
}

// TestHostBelongsToOneAccount: only equal patterns used to be a conflict, so that
// another account could add a scheme, a path or a wildcard and get the requests of
// a host's users, with their cookies.
func TestHostBelongsToOneAccount(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		victim, other := mustScript(t, s, "Victim", "shop"), mustScript(t, s, "Other", "trap")
		if err := s.SetRoutes(ctx, victim, "shop", []string{"HTTPS://Victim.example.com/*", "*.victim.example.net/*"}); err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{
			"https://victim.example.com/*", "victim.example.com/*", "http://victim.example.com/*", "VICTIM.example.com/admin/*",
			"victim.example.com/", "*victim.example.com/*", "*.victim.example.com/*", "*.example.com/*", "*com/*",
			"victim.example.net/*", "deep.victim.example.net/*", "*.deep.victim.example.net/*",
		} {
			err := s.SetRoutes(ctx, other, "trap", []string{"free.example.org/*", pattern})
			wantKind(t, err, errs.Conflict, strings.ToLower(pattern), "another account")
			for _, secret := range []string{victim, "shop", "Victim.", "https://V"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("the refusal of %s tells of %s: %v", pattern, secret, err)
				}
			}
		}
		if got, err := s.Script(ctx, other, "trap"); err != nil || len(got.Routes) != 0 {
			t.Fatalf("refused changes left routes %v, error %v", got.Routes, err)
		}

		// Neighbours, a fallback for hosts that nobody has, and the owner's own scripts.
		if err := s.SetRoutes(ctx, other, "trap", []string{"example.com/*", "shop.example.com/*", "notvictim.example.com/*", "*/*"}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.CreateVersion(ctx, victim, "admin", deploy.Version{Origin: &deploy.Origin{URL: "http://127.0.0.1:9000"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoutes(ctx, victim, "admin", []string{"victim.example.com/admin/*"}); err != nil {
			t.Fatal(err)
		}
		wantKind(t, s.SetRoutes(ctx, victim, "admin", []string{"https://VICTIM.example.com/*"}), errs.Conflict, "another script")
		wantKind(t, s.SetRoutes(ctx, victim, "admin", []string{"no host:80/"}), errs.Invalid, "no host:80/")

		// A host is free again when its account has no route left there.
		if err := s.SetRoutes(ctx, victim, "shop", nil); err != nil {
			t.Fatal(err)
		}
		if err := s.DeleteScript(ctx, victim, "admin", false); err != nil {
			t.Fatal(err)
		}
		if err := s.SetRoutes(ctx, other, "trap", []string{"victim.example.com/*"}); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHostIsClaimedOnce: accounts that claim one host at the same time, each with
// a pattern of its own, are let in one after the other.
func TestHostIsClaimedOnce(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		const accounts = 8
		var ids [accounts]string
		for i := range ids {
			ids[i] = mustScript(t, s, fmt.Sprint("Account ", i), "shop")
		}
		for round := range 10 {
			results := make(chan error, accounts)
			var all sync.WaitGroup
			for i, id := range ids {
				all.Go(func() {
					results <- s.SetRoutes(t.Context(), id, "shop", []string{fmt.Sprintf("%d.example.com/%d/*", round, i)})
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
				wantKind(t, err, errs.Conflict, "another account")
			}
			if won != 1 {
				t.Fatalf("%d of %d accounts have the host", won, accounts)
			}
		}
	})
}
