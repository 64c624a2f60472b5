package store

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"tidegate/internal/deploy"
)

// Watched remembers what it has read. Whatever is changed through another control plane, it says
// what one says that remembers nothing, and the next change is told from what it says then.
func TestWatchedRemembersNothingThatHasChanged(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		other := bootstrapped(t, open, Options{})
		s := open(Options{})
		ctx := t.Context()
		first, second := mustVersion(t, other, "shop"), mustVersion(t, other, "shop")
		mustVersion(t, other, "till")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		var last []deploy.Watched
		f := func(name string, change func()) {
			t.Helper()
			change()
			got, err := s.Watched(ctx)
			must(err)
			want, err := open(Options{}).Watched(ctx)
			must(err)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: a new control plane says - and one that remembers +:\n%s", name, diff)
			}
			if cmp.Equal(last, got) {
				t.Errorf("%s: nothing changed", name)
			}
			last = got
		}
		remove := func(script string) { t.Helper(); must(other.DeleteScript(ctx, testAccount, script, true)) }
		f("the account's default", func() {
			mustDeploy(t, other, "shop", full(first))
			mustPolicy(t, other, accountDefault, limited(0.01))
		})
		f("another default", func() { mustPolicy(t, other, accountDefault, limited(0.02)) })
		f("a policy of its own", func() { mustPolicy(t, other, "shop", limited(0.03)) })
		f("another policy of its own", func() { mustPolicy(t, other, "shop", limited(0.04)) })
		f("back to the default", func() { must(other.DeletePolicy(ctx, testAccount, "shop", nil)) })
		f("a deployment", func() { mustDeploy(t, other, "shop", full(second)) })
		f("a split", func() { mustDeploy(t, other, "shop", share(second, 90), share(first, 10)) })
		f("another script", func() { mustDeploy(t, other, "till", full(mustVersion(t, other, "till"))) })
		f("a decision and a ramp", func() {
			current := last[0].Deployments[0].ID
			must(other.ApplyDecision(ctx, testAccount, "shop", deploy.Judged{DeploymentID: current}, nil,
				&deploy.Ramp{VersionID: first.ID, DeploymentID: current, State: deploy.RampRunning},
				&deploy.RollbackDecision{ID: uuid.NewString(), Verdict: deploy.VerdictInconclusive, FromDeployment: current, Sentence: "once"}))
		})
		f("a policy that is disabled", func() {
			p := limited(0.03)
			p.Enabled = false
			mustPolicy(t, other, "shop", p)
		})
		f("and enabled again, of a deployment that was made meanwhile", func() {
			mustDeploy(t, other, "shop", full(first))
			mustPolicy(t, other, "shop", limited(0.03))
		})
		f("a past deployment is deleted", func() {
			must(other.DeletePolicy(ctx, testAccount, "shop", nil))
			must(other.DeletePolicy(ctx, testAccount, accountDefault, nil)) // which protects what the baseline is found by
			must(other.DeleteDeployment(ctx, testAccount, "shop", last[0].Deployments[len(last[0].Deployments)-1].ID))
			mustPolicy(t, other, accountDefault, limited(0.03))
		})
		f("one of another name in its place", func() { remove("till") })
		f("a policy of its own once more", func() { mustPolicy(t, other, "shop", limited(0.05)) })
		f("the script is made anew, with as many deployments and as many revisions", func() {
			was := last[0]
			remove("shop")
			again := mustVersion(t, other, "shop")
			for range was.Deployments {
				mustDeploy(t, other, "shop", full(again))
			}
			var revision int64
			for i := range was.PolicyRevision {
				revision = mustPolicy(t, other, "shop", limited(0.06+float64(i)/100)).Revision
			}
			if revision != was.PolicyRevision {
				t.Errorf("revision %d, was %d", revision, was.PolicyRevision)
			}
		})
		f("no script", func() { remove("shop") })
	})
}

// counted counts what is asked.
type counted struct {
	querier
	queries int
}

func (c *counted) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	c.queries++
	return c.querier.QueryContext(ctx, query, args...)
}

// A control plane that takes over many scripts asks for many at a time, for each question is a
// round trip. What a call has read before it ran out of time helps the next one, or with still more
// scripts it would run out of time always.
func TestWatchedReadsManyScriptsAtOnceAndKeepsThem(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		mustPolicy(t, s, accountDefault, limited(0.01))
		const scripts = watchedAtOnce + 1
		name := func(i int) string { return fmt.Sprintf("s%03d", i) }
		for i := range scripts {
			mustDeploy(t, s, name(i), full(mustVersion(t, s, name(i))))
		}
		// A row that cannot be read fails the call that reads it.
		splits := func(script, text string) {
			t.Helper()
			if n, err := changed(t.Context(), s.writer, `UPDATE deployments SET splits_json = $1 WHERE script = $2`, text, script); err != nil || n != 1 {
				t.Fatalf("%d changed, error %v", n, err)
			}
		}
		watched := func(queries int) ([]deploy.Watched, error) {
			t.Helper()
			var list []deploy.Watched
			err := s.read(t.Context(), "", func(tx *sql.Tx) (err error) {
				q := &counted{querier: tx}
				if list, err = s.watchedLocked(t.Context(), q); q.queries != queries {
					t.Errorf("%d queries, want %d", q.queries, queries)
				}
				return err
			})
			return list, err
		}
		first, last := name(0), name(scripts-1)
		splits(last, "broken")
		if _, err := watched(3); err == nil { // the scripts, two times deployments
			t.Fatal("what cannot be read was read")
		}
		splits(first, "broken") // nobody reads it again
		splits(last, "[]")
		for _, queries := range []int{3, 2} { // the scripts, what was not read yet, decisions
			list, err := watched(queries)
			if err != nil || len(list) != scripts || len(list[0].Deployments[0].Versions) != 1 {
				t.Errorf("%d watched, error %v", len(list), err)
			}
			splits(last, "broken")
		}
	})
}

// A call that does not get to the last script keeps what the policies of the others say, of those
// that it got to and of those that were known before.
func TestWatchedKeepsPoliciesThatItOpenedBeforeItFailed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		add := func(script string) {
			t.Helper()
			mustDeploy(t, s, script, full(mustVersion(t, s, script)))
			mustPolicy(t, s, script, limited(0.01))
		}
		add("c")
		if _, err := s.Watched(t.Context()); err != nil {
			t.Fatal(err)
		}
		add("a")
		add("b")
		if _, err := s.writer.ExecContext(t.Context(), `UPDATE policy_revisions SET policy_json = 'broken' WHERE script = 'b'`); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Watched(t.Context()); err == nil {
			t.Fatal("what cannot be read was read")
		}
		if err := s.DeleteScript(t.Context(), testAccount, "b", true); err != nil {
			t.Fatal(err)
		}
		s.keys = newKeys(t) // which open nothing
		if list, err := s.Watched(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("%d watched, error %v", len(list), err)
		}
	})
}
