package store

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

func TestTheHealthOfAJobIsSummed(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		j := mustJob(t, s)
		now := clock.now()
		report := logjob.HealthReport{
			JobID: j.ID, At: now,
			Partitions: []logjob.PartitionHealth{{Partition: 1, ReportedOn: now, Committed: 7, Next: 9, OldestOn: now, Message: "away"}, {Partition: 0, ReportedOn: now, Committed: 9, Next: 9}},
			Minutes: []logjob.MinuteHealth{
				{Minute: now, Status: 200, Final: true, DestinationType: "https", Destination: "https://a/", Uploads: logjob.Uploads{Uploads: 1, Records: 10, Bytes: 100, BytesCompressed: 20, DurationMS: 5, DurationMaxMS: 5}},
				{Minute: now, Status: 503, DestinationType: "https", Destination: "https://a/", Uploads: logjob.Uploads{Uploads: 2}},
			},
			Drops:       []logjob.MinuteDrops{{Minute: now, Reason: "filter", Events: 3}},
			Failures:    []logjob.Failure{{ID: "f1", Partition: 1, FirstOn: now, LastOn: now, Times: 1, Message: "away"}},
			SucceededAt: now,
		}
		for range 2 {
			failing, err := s.ReportHealth(ctx, []logjob.HealthReport{report, {JobID: 9999}})
			if err != nil || len(failing) != 0 {
				t.Fatalf("failing %v, error %v", failing, err)
			}
		}
		h, err := s.JobHealth(ctx, testAccount, j.ID, now.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if len(h.Minutes) != 2 || h.Minutes[0].Uploads != (logjob.Uploads{Uploads: 2, Records: 20, Bytes: 200, BytesCompressed: 40, DurationMS: 10, DurationMaxMS: 5}) ||
			h.Minutes[1].Status != 503 || h.Minutes[1].Final || h.Drops["filter"] != 6 {
			t.Errorf("the sums are %+v, %v", h.Minutes, h.Drops)
		}
		if len(h.Partitions) != 2 || h.Partitions[1].Lag() != 2 || !h.Partitions[1].OldestOn.Equal(now) || h.Partitions[1].Message != "away" || !h.Partitions[0].OldestOn.IsZero() {
			t.Errorf("the partitions are %+v", h.Partitions)
		}
		if len(h.Failures) != 1 || h.Failures[0].Times != 1 || h.Failures[0].Partition != 1 {
			t.Errorf("the failures are %+v", h.Failures)
		}
		all, err := s.AccountHealth(ctx, testAccount)
		if err != nil || !reflect.DeepEqual(all[j.ID].Partitions, h.Partitions) || !all[j.ID].FailingSince.Equal(h.FailingSince) || all[j.ID].Letters != h.Letters ||
			!reflect.DeepEqual(all[j.ID].Failures, h.Failures) {
			t.Errorf("the health of all is %+v, error %v", all, err)
		}
		if all, err := s.AccountHealth(ctx, "other"); err != nil || len(all) != 0 {
			t.Errorf("another account sees %+v, error %v", all, err)
		}
		list, err := s.HealthMinutes(ctx, logjob.HealthFilter{AccountID: testAccount, Since: now, Until: now.Add(time.Minute)})
		if err != nil || !reflect.DeepEqual(list, h.Minutes) {
			t.Errorf("the minutes are %+v, error %v", list, err)
		}
		_, err = s.HealthMinutes(ctx, logjob.HealthFilter{AccountID: testAccount, Since: now, Until: now.Add(time.Minute), Most: 1})
		wantKind(t, err, errs.TooLarge, "more than 1 minutes")
		if list, err := s.HealthMinutes(ctx, logjob.HealthFilter{AccountID: testAccount, Since: now, Until: now.Add(time.Minute), Most: 2}); err != nil || len(list) != 2 {
			t.Errorf("of at most 2 minutes there are %d, error %v", len(list), err)
		}
		if list, err := s.HealthMinutes(ctx, logjob.HealthFilter{AccountID: "other", Since: now, Until: now.Add(time.Minute)}); err != nil || len(list) != 0 {
			t.Errorf("another account sees %+v, error %v", list, err)
		}

		var many []logjob.Failure
		for i := range failuresMax + 20 {
			at := now.Add(time.Duration(i) * time.Second)
			many = append(many, logjob.Failure{ID: fmt.Sprintf("g%03d", i), FirstOn: at, LastOn: at, Times: 1})
		}
		if _, err := s.ReportHealth(ctx, []logjob.HealthReport{{JobID: j.ID, Failures: many}}); err != nil {
			t.Fatal(err)
		}
		if all, err := s.AccountHealth(ctx, testAccount); err != nil || !reflect.DeepEqual(all[j.ID].Failures, many[len(many)-1:]) {
			t.Errorf("of many failures %+v is the newest, error %v", all[j.ID].Failures, err)
		}
		clock.add(31 * 24 * time.Hour)
		if err := s.SweepHealth(ctx); err != nil {
			t.Fatal(err)
		}
		if h, err = s.JobHealth(ctx, testAccount, j.ID, now); err != nil || len(h.Minutes) != 0 || len(h.Drops) != 0 || len(h.Failures) != failuresMax || h.Failures[0].ID != "g119" {
			t.Errorf("after the sweep there are %d minutes and %d failures, error %v", len(h.Minutes), len(h.Failures), err)
		}
	})
}

// One machine's partition hangs for a day while another machine delivers the others:
// the job does not fail since a day.
func TestAJobThatDeliversElsewhereDoesNotFailForLong(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		j := mustJob(t, s)
		began := clock.now()
		report := func(r logjob.HealthReport) time.Time {
			t.Helper()
			r.JobID, r.At = j.ID, clock.now()
			failing, err := s.ReportHealth(t.Context(), []logjob.HealthReport{r})
			if err != nil {
				t.Fatal(err)
			}
			return failing[j.ID]
		}
		hangs := logjob.HealthReport{FailingSince: began}
		if since := report(hangs); !since.Equal(began) {
			t.Fatalf("it fails since %s, want %s", since, began)
		}
		clock.add(24 * time.Hour)
		report(logjob.HealthReport{SucceededAt: clock.now(), Minutes: []logjob.MinuteHealth{{Minute: clock.now().Truncate(time.Minute), Status: 200, Final: true}}})
		clock.add(10 * time.Second)
		if since := report(hangs); !since.Equal(clock.now()) {
			t.Errorf("after a success elsewhere it fails since %s, want %s", since, clock.now())
		}
		now := clock.now()
		clock.add(time.Hour)
		if since := report(hangs); !since.Equal(now) {
			t.Errorf("an hour later it fails since %s, want %s", since, now)
		}
	})
}

// The story: a job failed for most of a day, was mended, and had nothing to send for days.
// Ten minutes after its next failure it was switched off, as one that had failed all along.
func TestAJobThatIsMendedFailsAnew(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		j := mustJob(t, s)
		report := func(revision int64, failing time.Time, partitions ...logjob.PartitionHealth) time.Time {
			t.Helper()
			r := logjob.HealthReport{JobID: j.ID, Revision: revision, At: clock.now(), FailingSince: failing, Partitions: partitions}
			all, err := s.ReportHealth(t.Context(), []logjob.HealthReport{r})
			if err != nil {
				t.Fatal(err)
			}
			return all[j.ID]
		}
		began := clock.now()
		report(j.Revision, began)
		clock.add(20 * time.Hour)
		j, err := s.UpdateJob(t.Context(), j)
		if err != nil {
			t.Fatal(err)
		}
		if since := report(j.Revision-1, began); !since.IsZero() {
			t.Errorf("after a change it fails since %s, as a runner of before says", since)
		}
		again := clock.now()
		if since := report(j.Revision, again); !since.Equal(again) {
			t.Errorf("after a change it fails since %s, want %s", since, again)
		}

		// A deletion takes what failed, in one partition after the other.
		clock.add(time.Hour)
		f := func(what string, ends bool, partitions ...logjob.PartitionHealth) {
			t.Helper()
			if since := report(j.Revision, time.Time{}, partitions...); since.IsZero() != ends {
				t.Errorf("%s: it fails since %q", what, since)
			}
		}
		f("nothing is known of its partitions", false)
		f("a partition waits, since when is unknown", false, logjob.PartitionHealth{Partition: 0, Committed: 5, Next: 9}, logjob.PartitionHealth{Partition: 1, Committed: 5, Next: 5})
		f("a partition waits since before", false, logjob.PartitionHealth{Partition: 0, Committed: 5, Next: 9, OldestOn: again.Add(-time.Second)})
		f("a partition fails", false, logjob.PartitionHealth{Partition: 0, Committed: 9, Next: 9, Message: "503"})
		f("what waits came since", true, logjob.PartitionHealth{Partition: 0, Committed: 9, Next: 12, OldestOn: again.Add(time.Minute)})
		anew := clock.now()
		if since := report(j.Revision, anew); !since.Equal(anew) {
			t.Errorf("the next failure is since %s, want %s", since, anew)
		}
	})
}

func TestAJobThatFailsForTooLongIsDisabled(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		ctx := t.Context()
		j := mustJob(t, s)
		began := clock.now()
		report := func(succeeded, failing time.Time) time.Time {
			t.Helper()
			all, err := s.ReportHealth(ctx, []logjob.HealthReport{{JobID: j.ID, SucceededAt: succeeded, FailingSince: failing}})
			if err != nil {
				t.Fatal(err)
			}
			return all[j.ID]
		}
		if since := report(time.Time{}, began); !since.Equal(began) {
			t.Errorf("failing since %s", since)
		}
		if since := report(time.Time{}, began.Add(time.Hour)); !since.Equal(began) {
			t.Errorf("another process says so too: failing since %s", since)
		}
		if since := report(began.Add(time.Hour), time.Time{}); !since.IsZero() {
			t.Errorf("after a success it fails since %s", since)
		}
		if done, err := s.DisableFailingJob(ctx, j.ID, j.Revision, began, "too long"); err != nil || done {
			t.Errorf("disabled %v after a success, error %v", done, err)
		}
		report(time.Time{}, began)
		if done, err := s.DisableFailingJob(ctx, j.ID, j.Revision+1, began, "too long"); err != nil || done {
			t.Errorf("disabled %v under other settings, error %v", done, err)
		}
		if done, err := s.DisableFailingJob(ctx, j.ID, j.Revision, began, "too long"); err != nil || !done {
			t.Fatalf("disabled %v, error %v", done, err)
		}
		if done, err := s.DisableFailingJob(ctx, j.ID, j.Revision, began, "again"); err != nil || done {
			t.Errorf("disabled %v twice, error %v", done, err)
		}
		// What others still have to say of it does not hide why it is off.
		for _, d := range []logjob.Delivery{{JobID: j.ID, FailedAt: clock.now(), Message: "503"}, {JobID: j.ID, CompleteUntil: clock.now()}} {
			_ = s.ReportDelivery(ctx, d) // not_found, as for a job that is gone
		}
		got, err := s.Job(ctx, testAccount, j.ID)
		if err != nil || got.Enabled || got.Revision != j.Revision+1 || got.ErrorMessage == nil || *got.ErrorMessage != "too long" || got.LastError == nil {
			t.Fatalf("the job is %+v, error %v", got, err)
		}
		var audited string
		if err := s.reader.QueryRowContext(ctx, `SELECT source || ' ' || before_json || ' ' || after_json FROM audit_log WHERE action = 'job.disable'`).Scan(&audited); err != nil ||
			!strings.HasPrefix(audited, "system ") || !strings.Contains(audited, `"enabled":false`) || strings.Contains(audited, "secret") {
			t.Errorf("the audit log says %s, error %v", audited, err)
		}
		h, err := s.JobHealth(ctx, testAccount, j.ID, began)
		if err != nil || !h.DisabledOn.Equal(clock.now()) || !h.FailingSince.Equal(began) {
			t.Errorf("the health is %+v, error %v", h, err)
		}
		got.Name = "renamed"
		if got, err = s.UpdateJob(ctx, got); err != nil || got.ErrorMessage == nil {
			t.Fatalf("renamed it is %+v, error %v", got, err)
		}
		// It went on to say "disabled at ..." until the next upload, of a job with few events for days.
		got.Enabled = true
		if got, err = s.UpdateJob(ctx, got); err != nil || got.ErrorMessage != nil || got.LastError != nil {
			t.Fatalf("switched on it is %+v, error %v", got, err)
		}
		if h, err := s.JobHealth(ctx, testAccount, j.ID, began); err != nil || !h.DisabledOn.IsZero() || !h.FailingSince.IsZero() {
			t.Errorf("after it was switched on the health is %+v, error %v", h, err)
		}
		if err := s.ReportDelivery(ctx, logjob.Delivery{JobID: j.ID, FailedAt: clock.now(), Message: "503"}); err != nil {
			t.Errorf("a failure: %v", err)
		}
		// What the service did not switch off keeps its last failure until the next success.
		got.Enabled = false
		if got, err = s.UpdateJob(ctx, got); err != nil {
			t.Fatal(err)
		}
		got.Enabled = true
		if got, err = s.UpdateJob(ctx, got); err != nil || got.ErrorMessage == nil || *got.ErrorMessage != "503" {
			t.Errorf("switched off and on by a person it is %+v, error %v", got, err)
		}
		if err := s.ReportDelivery(ctx, logjob.Delivery{JobID: j.ID, CompleteUntil: clock.now()}); err != nil {
			t.Errorf("a success: %v", err)
		}
	})
}

// Ten seconds after a job was switched on its partitions told of the new delivery, and nobody knew
// any more from when on a replay was to send what came while it was off.
func TestWhereAJobHadStoppedIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		clock := newClock()
		s := bootstrapped(t, open, Options{Now: clock.now})
		j := mustJob(t, s)
		change := func(enabled bool) {
			t.Helper()
			j.Enabled = enabled
			var err error
			if j, err = s.UpdateJob(t.Context(), j); err != nil {
				t.Fatal(err)
			}
		}
		report := func(committed int64, oldest time.Time) {
			t.Helper()
			p := []logjob.PartitionHealth{{Partition: 0, ReportedOn: clock.now(), Committed: 9, Next: 9}, {Partition: 1, ReportedOn: clock.now(), Committed: committed, Next: 9, OldestOn: oldest}}
			if _, err := s.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: j.ID, At: clock.now(), Partitions: p}}); err != nil {
				t.Fatal(err)
			}
		}
		f := func(what string, want time.Time) {
			t.Helper()
			if h, err := s.JobHealth(t.Context(), testAccount, j.ID, clock.now()); err != nil || !h.ResumedFrom.Equal(want) {
				t.Errorf("%s: %s, want %s, error %v", what, h.ResumedFrom, want, err)
			}
		}
		change(false)
		change(true)
		f("nothing was delivered", time.Time{})
		behind := clock.now().Add(-time.Minute)
		report(5, behind)
		change(false)
		f("it is off", time.Time{})
		clock.add(time.Hour)
		change(true)
		f("it goes on", behind)
		clock.add(10 * time.Second)
		report(9, time.Time{})
		change(true)
		f("its new delivery has told", behind)
		last := clock.now()
		change(false)
		clock.add(time.Hour)
		change(true)
		f("once more", last)
	})
}

// A destination that refused with a NUL in its answer kept the health of all jobs of the process
// out of PostgreSQL, and the letter, too.
func TestWhatOthersSaidIsKept(t *testing.T) {
	eachStore(t, func(t *testing.T, open func(Options) *Store) {
		s := bootstrapped(t, open, Options{})
		j, at := mustJob(t, s), time.Now()
		const odd, want = "400 a\x00b\xffc", "400 ab\uFFFDc"
		if err := s.ReportDelivery(t.Context(), logjob.Delivery{JobID: j.ID, FailedAt: at, Message: odd}); err != nil {
			t.Error(err)
		}
		if _, err := s.ReportHealth(t.Context(), []logjob.HealthReport{{JobID: j.ID, At: at,
			Partitions: []logjob.PartitionHealth{{ReportedOn: at, Message: odd}}, Failures: []logjob.Failure{{ID: "f", FirstOn: at, LastOn: at, Times: 1, Message: odd}}}}); err != nil {
			t.Error(err)
		}
		l := letterOf(j, 0)
		l.Reason = odd
		if err := s.AddDeadLetter(t.Context(), l, logjob.LetterLimits{}); err != nil {
			t.Error(err)
		}
		h, err := s.JobHealth(t.Context(), testAccount, j.ID, at)
		got, e := s.Job(t.Context(), testAccount, j.ID)
		letters, _, listed := s.DeadLetters(t.Context(), testAccount, j.ID, "", 10, 0)
		if err := errors.Join(err, e, listed); err != nil || len(h.Partitions) != 1 || len(h.Failures) != 1 || len(letters) != 1 || got.ErrorMessage == nil {
			t.Fatalf("%+v, %+v, %+v, error %v", h, got, letters, err)
		}
		for _, text := range []string{h.Partitions[0].Message, h.Failures[0].Message, *got.ErrorMessage, letters[0].Reason} {
			if text != want {
				t.Errorf("it says %q, want %q", text, want)
			}
		}
		if err := s.RefuseDeadLetter(t.Context(), letters[0].ID, 400, odd); err != nil {
			t.Error(err)
		}

		v := mustVersion(t, s, "shop")
		if err := s.SaveReports(t.Context(), []deploy.VersionReport{{AccountID: testAccount, Script: "shop", VersionID: v.ID, RouterID: "r", Phase: deploy.BackendFailed, Error: odd, At: at}}); err != nil {
			t.Error(err)
		}
		if list, err := s.Reports(t.Context(), testAccount, "shop"); err != nil || len(list) != 1 || list[0].Error != want {
			t.Errorf("reports %+v, error %v", list, err)
		}
	})
}
