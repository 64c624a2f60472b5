package store

import (
	"testing"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

func TestSamplingIsKeptAndInTheSnapshot(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		ctx := t.Context()
		mustVersion(t, s, "shop")
		mustVersion(t, s, "other")
		want := func(what string, rate, told float64) {
			t.Helper()
			if got, err := s.Sampling(ctx, testAccount, "shop"); err != nil || got.HeadSamplingRate != rate {
				t.Errorf("%s: the script has %+v, error %v, want the rate %v", what, got, err, rate)
			}
			shop, _ := inSnapshot(t, s, "shop")
			other, _ := inSnapshot(t, s, "other")
			if shop.HeadSamplingRate != told || other.HeadSamplingRate != 0 {
				t.Errorf("%s: in the snapshot shop has %v, other %v, want %v and 0", what, shop.HeadSamplingRate, other.HeadSamplingRate, told)
			}
		}
		want("a new script", 1, 0)
		for _, rate := range []float64{0.01, 1e-6, 1, 0.3} {
			_, before := inSnapshot(t, s, "shop")
			if err := s.SaveSampling(ctx, testAccount, "shop", deploy.Sampling{HeadSamplingRate: rate}); err != nil {
				t.Fatal(err)
			}
			told := rate
			if rate == 1 {
				told = 0
			}
			want("a save", rate, told)
			if _, after := inSnapshot(t, s, "shop"); after <= before {
				t.Errorf("gateways were given revision %d after %d", after, before)
			}
		}
		mustVersion(t, s, "shop")
		want("another version", 0.3, 0.3)
		wantKind(t, s.SaveSampling(ctx, testAccount, "none", deploy.Sampling{HeadSamplingRate: 0.5}), errs.NotFound, "none")
		_, err := s.Sampling(ctx, testAccount, "none")
		wantKind(t, err, errs.NotFound, "none")
		_, err = s.Sampling(ctx, "another", "shop")
		wantKind(t, err, errs.NotFound, "shop")

		var audited int
		if err := s.reader.QueryRowContext(ctx, `SELECT count(*) FROM audit_log WHERE action = 'sampling.save' AND target = 'shop'
			AND before_json LIKE '{"head_sampling_rate":%' AND after_json LIKE '{"head_sampling_rate":%'`).Scan(&audited); err != nil {
			t.Fatal(err)
		}
		if audited != 4 {
			t.Errorf("the audit log has %d saves, want 4", audited)
		}

		if err := s.DeleteScript(ctx, testAccount, "shop", false); err != nil {
			t.Fatal(err)
		}
		mustVersion(t, s, "shop")
		want("a new script of the same name", 1, 0)
	})
}
