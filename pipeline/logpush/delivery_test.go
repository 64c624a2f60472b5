package logpush

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// bubble runs a test in fake time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// pass lets time go by and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) expect(t *testing.T, text string, objects int) {
	t.Helper()
	if got := w.bucket.text(t); got != text {
		t.Errorf("delivered\n%s, want\n%s", got, text)
	}
	if names := w.bucket.names(); len(names) != objects {
		t.Errorf("there are %d objects, want %d: %v", len(names), objects, names)
	}
}

func fill(n int) []string { return slices.Repeat([]string{"ok"}, n) }

func TestABatchClosesAfterItsIntervalWithoutNewRecords(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		defer w.start().kill()
		pass(time.Minute)
		w.memory.add(fill(3)...)
		pass(29 * time.Second)
		w.expect(t, "", 0)
		pass(2 * time.Second)
		w.expect(t, lines(0, 3), 1)
		if w.memory.offset() != 3 {
			t.Errorf("committed %d, want 3", w.memory.offset())
		}
		o := w.bucket.objects[w.bucket.names()[0]]
		// The bubble's clock begins with the year 2000.
		if !strings.HasPrefix(o.Name, "20000101T000100Z_20000101T000101Z_") || len(o.Name) != len("20000101T000100Z_20000101T000101Z_01234567.log.gz") {
			t.Errorf("the object is called %s", o.Name)
		}
		if o.Records != 3 || o.JobID != 42 || !strings.HasPrefix(o.BatchID, "42-3-0-") || o.Dataset != "workers_trace_events" || o.ContentType != "application/x-ndjson" {
			t.Errorf("the object is labelled %+v", o)
		}
	})
}

func TestABatchClosesOnRecordsAndOnBytes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		thousand := int64(1000)
		w.job.MaxUploadRecords = &thousand
		r := w.start()
		w.memory.add(fill(2500)...)
		pass(0)
		w.expect(t, lines(0, 2000), 2)
		r.stop()
		w.expect(t, lines(0, 2500), 3)
	})
	bubble(t, func(t *testing.T, w *world) {
		five := int64(5_000_000)
		w.job.MaxUploadBytes = &five
		w.job.OutputOptions.FieldNames = []string{"Outcome"}
		r := w.start()
		w.memory.add(slices.Repeat([]string{strings.Repeat("x", 1_200_000)}, 10)...)
		pass(0)
		r.stop()
		var sizes []int
		for _, name := range w.bucket.puts {
			sizes = append(sizes, len(unzip(t, w.bucket.objects[name].Body)))
		}
		if len(sizes) != 3 || slices.Max(sizes) > 5_000_000 || sizes[0] < 4_800_000 {
			t.Errorf("the objects have %v bytes", sizes)
		}
	})
}

func TestABacklogIsSentInRangesOfTwoMinutes(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(2)...)
		time.Sleep(119 * time.Second)
		w.memory.add(fill(1)...)
		time.Sleep(2 * time.Second)
		w.memory.add(fill(1)...)
		r := w.start()
		pass(0)
		w.expect(t, lines(0, 3), 1)
		r.stop()
		w.expect(t, lines(0, 4), 2)
	})
}

// A gateway that empties its spool puts old batches between new ones. Were each
// change of time to close a batch, there would be thousands of tiny objects.
func TestOldRecordsAmongNewOnesCloseFewBatches(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.EnabledAt = time.Now().Add(-24 * time.Hour)
		for i := range 100 {
			w.memory.append(account, event("ok", i), time.Now().Add(-time.Duration(i%2)*time.Hour))
		}
		r := w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(0, 100), 1)
		if name := w.bucket.names()[0]; !strings.HasPrefix(name, "19991231T230000Z_20000101T000001Z_") {
			t.Errorf("the object is called %s", name)
		}
	})
}

func TestWhatIsFilteredAwayIsCommittedNowAndThen(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.Filter = `{"where":{"key":"Outcome","operator":"eq","value":"exception"}}`
		defer w.start().kill()
		w.memory.add("ok", "ok", "ok")
		pass(idleCommit + time.Second)
		if w.memory.offset() != 3 {
			t.Errorf("committed %d, want 3", w.memory.offset())
		}
		w.memory.add("ok", "exception", "ok")
		pass(31 * time.Second)
		w.expect(t, "{\"WallTimeMs\":4}\n", 1)
		if w.memory.offset() != 6 {
			t.Errorf("committed %d, want 6", w.memory.offset())
		}
	})
}

func TestOnlyEventsOfTheAccountAreSent(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		now := time.Now()
		w.memory.append("ffffffffffffffffffffffffffffffff", event("ok", 0), now)
		w.memory.append("", event("ok", 1), now)
		w.memory.append(account, event("ok", 2), now)
		w.memory.append(account, []byte("not json"), now)
		w.memory.append(account, event("ok", 4), now)
		r := w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(2, 3)+lines(4, 5), 1)
		if !strings.Contains(w.log.String(), "not JSON") {
			t.Errorf("nothing was said about the event that is not JSON:\n%s", w.log.String())
		}
	})
}

func TestADestinationThatFailsGetsEverythingInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		thousand := int64(1000)
		w.job.MaxUploadRecords = &thousand
		w.bucket.set(func(Object) error { return &UploadError{Status: 500} })
		defer w.start().kill()
		w.memory.add(fill(3000)...)
		pass(10 * time.Minute)
		w.expect(t, "", 0)
		if w.memory.offset() != 0 {
			t.Errorf("committed %d before anything was delivered", w.memory.offset())
		}
		list := w.reports.all()
		last := list[len(list)-1]
		if last.Message != "error 500: error pushing: error uploading to bucket: status:500" || last.FailedAt.IsZero() || !last.CompleteUntil.IsZero() {
			t.Errorf("the job's health is %+v", last)
		}
		if n := strings.Count(w.log.String(), "upload failed"); n == 0 || n > len(w.bucket.tries) {
			t.Errorf("%d log lines for %d tries", n, len(w.bucket.tries))
		}
		w.bucket.set(nil)
		pass(retryMax + time.Second)
		w.expect(t, lines(0, 3000), 3)
		list = w.reports.all()
		last = list[len(list)-1]
		if !last.FailedAt.IsZero() || last.Message != "" || !last.CompleteUntil.Equal(time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC)) {
			t.Errorf("the job's health is %+v after a success", last)
		}
		w.checkPauses(t)
	})
}

// checkPauses holds tries against the schedule: doubling to a minute, at least
// half of it.
func (w *world) checkPauses(t *testing.T) {
	t.Helper()
	for i := 1; i < len(w.bucket.tries)-3; i++ {
		full := min(retryMin<<(i-1), retryMax)
		if got := w.bucket.tries[i].Sub(w.bucket.tries[i-1]); got < full/2 || got > full {
			t.Errorf("pause %d is %s, want %s to %s", i, got, full/2, full)
		}
	}
}

func TestRetryAfterIsHeeded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.set(func(Object) error { return &UploadError{Status: 429, RetryAfter: 5 * time.Minute} })
		defer w.start().kill()
		w.memory.add("ok")
		pass(35 * time.Second)
		w.bucket.set(nil)
		pass(4 * time.Minute)
		w.expect(t, "", 0)
		pass(2 * time.Minute)
		w.expect(t, lines(0, 1), 1)
	})
}

func TestARefusalIsTriedAgainAndShown(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.set(func(Object) error {
			return &UploadError{Status: 415, Text: `{"message":"no hunter22 here"}`, Permanent: true}
		})
		defer w.start().kill()
		w.memory.add("ok")
		pass(time.Hour)
		list := w.reports.all()
		want := `error 415: error pushing: error uploading to bucket: 415 {"message":"no *** here"}`
		if got := list[len(list)-1].Message; got != want {
			t.Errorf("the message is %s, want %s", got, want)
		}
		if strings.Contains(w.log.String(), "hunter22") {
			t.Error("a credential is in the log")
		}
		w.bucket.set(nil)
		pass(retryMax)
		w.expect(t, lines(0, 1), 1)
	})
}

func TestHealthIsWrittenAtMostOnceASecond(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		thousand := int64(1000)
		w.job.MaxUploadRecords = &thousand
		defer w.start().kill()
		for range 10 {
			w.memory.add(fill(1000)...)
			pass(100 * time.Millisecond)
		}
		if n := len(w.reports.all()); n > 2 {
			t.Errorf("%d writes in a second", n)
		}
		pass(2 * time.Second)
		list := w.reports.all()
		if got := list[len(list)-1].CompleteUntil; !got.Equal(time.Date(2000, 1, 1, 0, 0, 1, 0, time.UTC)) {
			t.Errorf("the last write says %s", got)
		}
	})
}

func TestAStopFinishesTheBatchInHand(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(3)...)
		pass(0)
		r.stop()
		w.expect(t, lines(0, 3), 1)
		if w.memory.offset() != 3 || r.err != nil {
			t.Errorf("committed %d, ended with %v", w.memory.offset(), r.err)
		}
	})
}

func TestAStopDoesNotWaitForADestinationThatIsAway(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.set(func(Object) error { return &UploadError{Status: 503, RetryAfter: time.Hour} })
		r := w.start()
		w.memory.add(fill(3)...)
		pass(40 * time.Second)
		before := time.Now()
		r.stop()
		if waited := time.Since(before); waited > 0 {
			t.Errorf("the stop took %s", waited)
		}
		if r.err != nil {
			t.Errorf("ended with %v", r.err)
		}
	})
}

func TestDollarBracesAreDefusedAcrossChunks(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.OutputOptions.CVE202144228 = ptr(true)
		w.job.OutputOptions.RecordSuffix = ptr("}$")
		r := w.start()
		const n = 5 * pieceBytes / len(`{"WallTimeMs":0}$`)
		w.memory.add(fill(n)...)
		pass(0)
		r.stop()
		text := w.bucket.text(t)
		if strings.Contains(text, "${") || strings.Count(text, "x{") != n-1 {
			t.Errorf("%d of %d are defused, %d are not", strings.Count(text, "x{"), n-1, strings.Count(text, "${"))
		}
	})
}

// A record that closed a window was counted then, and again when it was taken into the next.
func TestARecordIsCountedOnce(t *testing.T) {
	metrics := readMetrics(t)
	bubble(t, func(t *testing.T, w *world) {
		w.job.MaxUploadBytes = ptr(int64(5_000_000))
		w.job.OutputOptions.FieldNames = []string{"Outcome"}
		r := w.start()
		w.memory.add(slices.Repeat([]string{strings.Repeat("x", 1_200_000)}, 10)...)
		pass(0)
		r.stop()
		if n := len(w.bucket.puts); n != 3 {
			t.Fatalf("%d objects were delivered, want 3", n)
		}
		in := counted(t, metrics, w.job.ID, "tidegate_logpush_events_in_total")[""]
		cut := counted(t, metrics, w.job.ID, "tidegate_logpush_events_truncated_total")[""]
		if in != 10 || cut != 0 {
			t.Errorf("%d events came in, %d of them were cut, want 10 and 0", in, cut)
		}
	})
}
