package logpush

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tidegate/pipeline/stream"
)

// A process that dies between an upload and its commit repeats the upload. More
// records have come meanwhile; were they part of the repeat, it would have
// another name, and the first records were there twice.
func TestARepeatedUploadOverwritesItself(t *testing.T) {
	f := func(name string, prepare func(w *world), end func(r *run)) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				rate := 0.5
				w.job.OutputOptions.SampleRate = &rate
				prepare(w)
				r := w.start()
				w.memory.add(fill(20)...)
				pass(31 * time.Second)
				end(r)
				first := w.bucket.text(t)
				w.memory.add(fill(20)...)
				pass(time.Hour) // whoever takes over may be late

				w.bucket.fail, w.bucket.after, w.memory.refuse = nil, nil, nil
				r = w.start()
				pass(time.Minute)
				r.stop()
				var want strings.Builder
				for i := range 40 {
					if sampled(rate, 42, 3, int64(i)) {
						want.WriteString(lines(i, i+1))
					}
				}
				w.expect(t, want.String(), 2)
				if !strings.HasPrefix(w.bucket.text(t), first) {
					t.Errorf("the repeat differs from what was uploaded first:\n%s", first)
				}
			})
		})
	}
	away := func(w *world) { w.bucket.fail = func(Object) error { return errors.New("away") } }
	kill, stop := func(r *run) { r.kill() }, func(r *run) { r.stop() }
	f("killed after the upload", func(w *world) {
		w.bucket.after = func(Object) error { return errors.New("the answer was lost") }
	}, kill)
	f("killed before the upload", away, kill)
	f("told to stop while the destination is away", away, stop)
	f("fenced when the upload was done", func(w *world) {
		w.bucket.after = func(Object) error {
			w.memory.mu.Lock()
			defer w.memory.mu.Unlock()
			w.memory.refuse = stream.ErrFenced
			return nil
		}
	}, kill)
}

// The owner makes batches smaller because the destination refuses large ones: a
// plan that was made for a large one must not be kept.
func TestAPlanIsVoidUnderOtherSettings(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.fail = func(o Object) error {
			if o.Records > 1000 {
				return &UploadError{Status: 413, Permanent: true}
			}
			return nil
		}
		r := w.start()
		w.memory.add(fill(3000)...)
		pass(time.Hour)
		r.stop()
		w.expect(t, "", 0)
		thousand := int64(1000)
		w.job.MaxUploadRecords = &thousand
		w.job.Revision++
		r = w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(0, 3000), 3)
	})
}

func TestAJobBeginsWhenItIsEnabled(t *testing.T) {
	metrics := readMetrics(t)
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(3)...)
		time.Sleep(time.Minute)
		w.job.EnabledAt = time.Now()
		w.memory.add(fill(3)...)
		r := w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(3, 6), 1)

		// Switched off, and on again later: what came between is not sent.
		w.memory.add(fill(2)...)
		time.Sleep(time.Minute)
		w.job.EnabledAt, w.job.Revision = time.Now(), 3
		w.memory.add(fill(2)...)
		r = w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(3, 6)+lines(8, 10), 2)
		if got := dropped(t, metrics, w.job.ID); len(got) != 1 || got[droppedOff] != 2 {
			t.Errorf("left out are %v, want the two of when it was off", got)
		}
		if log := w.log.String(); strings.Count(log, "switched on again") != 1 || !strings.Contains(log, "begin=6 end=7") {
			t.Errorf("the log says\n%s", log)
		}
	})
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(3)...)
		pass(0)
		r.kill() // nothing was uploaded yet
		w.expect(t, "", 0)
		w.memory.add(fill(3)...)
		r = w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(0, 6), 1)
	})
}

func TestLossByRetentionIsTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(2)...)
		pass(31 * time.Second)
		r.kill()
		w.memory.add(fill(10)...)
		w.memory.forget(7)
		pass(time.Second)
		r = w.start()
		pass(2 * time.Second)
		list := w.reports.all()
		want := "lost 5 records of partition 3, offsets 2 to 6: the topic's retention removed them before they were delivered"
		if got := list[len(list)-1].Message; got != want {
			t.Errorf("the health says %q, want %q", got, want)
		}
		r.stop()
		w.expect(t, lines(0, 2)+lines(7, 12), 2)
	})
}

// What was lost while the job was off is nobody's loss.
func TestRetentionInADisabledGapIsNoLoss(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(2)...)
		pass(31 * time.Second)
		r.kill()
		w.memory.add(fill(8)...)
		w.memory.forget(9)
		time.Sleep(time.Minute)
		w.job.EnabledAt, w.job.Revision = time.Now(), 3
		before := len(w.reports.all())
		w.memory.add(fill(1)...)
		r = w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(0, 2)+lines(10, 11), 2)
		for _, d := range w.reports.all()[before:] {
			if d.Message != "" {
				t.Errorf("a loss is told: %s", d.Message)
			}
		}
	})
}

func TestAPlanWhoseRecordsAreGoneIsGivenUp(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.fail = func(Object) error { return errors.New("away") }
		r := w.start()
		w.memory.add(fill(4)...)
		pass(31 * time.Second)
		r.kill()
		w.memory.add(fill(4)...)
		w.memory.forget(6)
		w.bucket.fail = nil
		r = w.start()
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(6, 8), 1)
		if w.memory.offset() != 8 {
			t.Errorf("committed %d, want 8", w.memory.offset())
		}
	})
}

// The story: an upload was whole when the process died. Until it was repeated, retention
// took its first records: what was left of it replaced the object under the same name.
func TestWhatRetentionLeftOfABatchDoesNotReplaceIt(t *testing.T) {
	f := func(name string, change func(metadata string) string, whole int) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.bucket.after = func(Object) error { return errors.New("the answer was lost") }
				again := func() {
					r := w.start()
					pass(31 * time.Second)
					r.kill()
				}
				w.memory.add(fill(8)...)
				again()
				w.memory.metadata = change(w.memory.metadata)
				again()
				w.memory.forget(5)
				again()
				again() // what is left has one name
				w.bucket.after = nil
				r := w.start()
				pass(31 * time.Second)
				r.stop()
				w.expect(t, strings.Repeat(lines(0, 8), whole)+lines(5, 8), whole+1)
				if got := w.memory.offset(); got != 8 {
					t.Errorf("committed %d, want 8", got)
				}
				w.told(t, "lost up to 5 records of partition 3, offsets 0 to 4: the topic's retention removed them, and they may not have been delivered before")
			})
		})
	}
	f("of this version", func(m string) string { return m }, 1)
	f("of an earlier version", func(m string) string {
		parsed := parseMark(0, m)
		parsed.Plans[0].ID = ""
		return parsed.String()
	}, 2) // the one that this version planned before its mark was made an old one
}
