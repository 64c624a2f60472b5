package logpush

import (
	"strings"
	"testing"
	"time"
)

// knowing makes a bucket what receivers may be: one that knows batches by their ids,
// and forgets a batch that it has.
type knowing struct {
	bodies map[string]string // by batch id
	lose   bool              // answers
}

func (w *world) knowing(t *testing.T) *knowing {
	r := &knowing{bodies: map[string]string{}}
	w.bucket.after = func(o Object) error {
		if _, ok := r.bodies[o.BatchID]; !ok {
			r.bodies[o.BatchID] = unzip(t, o.Body)
		}
		if r.lose {
			return &UploadError{Status: 504}
		}
		return nil
	}
	return r
}

// has requires that the receiver has each of the events at least once.
func (r *knowing) has(t *testing.T, want ...int) {
	t.Helper()
	var text strings.Builder
	for _, body := range r.bodies {
		text.WriteString(body)
	}
	for _, i := range want {
		if !strings.Contains("\n"+text.String(), "\n"+lines(i, i+1)) {
			t.Errorf("event %d is not there: %v", i, r.bodies)
			return
		}
	}
}

// The story: an answer was lost, and the job's owner saved the job. The window was cut
// anew from the same offset on and took in what had come meanwhile; the receiver had a
// batch of that name already, and forgot it.
func TestABatchOfOtherContentHasAnotherID(t *testing.T) {
	f := func(name string, change func(w *world), want []int) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := w.knowing(t)
				r.lose = true
				first := w.start()
				w.memory.add("ok", "exception", "ok")
				pass(31 * time.Second)
				first.kill()
				r.lose = false
				change(w)
				second := w.start()
				pass(31 * time.Second)
				second.stop()
				r.has(t, want...)
				if len(r.bodies) != 2 {
					t.Errorf("the receiver has %d batches, want 2", len(r.bodies))
				}
			})
		})
	}
	f("settings were saved and more came", func(w *world) {
		w.job.Revision++
		w.memory.add("ok", "ok")
	}, []int{0, 1, 2, 3, 4})
	f("another format", func(w *world) {
		w.job.Revision++
		w.job.OutputOptions.RecordPrefix = ptr(`{"WallTimeMs":77}` + "\n{")
	}, []int{0, 1, 2, 77})
	f("the topic was made anew", func(w *world) {
		w.memory.cut(0)
		w.memory.append(account, event("ok", 5), time.Now())
		w.memory.append(account, event("ok", 6), time.Now())
		w.memory.append(account, event("ok", 7), time.Now())
	}, []int{0, 1, 2, 5, 6, 7})
}

// A repeat has the id that it had before, also where an earlier version planned it.
func TestARepeatHasTheSameID(t *testing.T) {
	f := func(name string, metadata func(string) string, want func(id string) bool) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				r := w.knowing(t)
				r.lose = true
				first := w.start()
				w.memory.add(fill(3)...)
				pass(31 * time.Second)
				first.kill()
				w.memory.metadata = metadata(w.memory.metadata)
				r.lose = false
				w.memory.add(fill(3)...)
				clear(r.bodies)
				planned := w.bucket.objects[w.bucket.names()[0]].BatchID
				second := w.start()
				pass(time.Second)
				second.kill()
				for id, body := range r.bodies {
					if body != lines(0, 3) || !want(id) {
						t.Errorf("after %s came batch %s with\n%s", planned, id, body)
					}
				}
				if len(r.bodies) != 1 {
					t.Errorf("%d batches were repeated", len(r.bodies))
				}
			})
		})
	}
	f("of this version", func(m string) string { return m }, func(id string) bool { return len(id) == len("42-3-0-01234567") })
	f("of an earlier version", func(m string) string {
		parsed := parseMark(0, m)
		for i := range parsed.Plans {
			parsed.Plans[i].ID = ""
		}
		return parsed.String()
	}, func(id string) bool { return id == "42-3-0" })
}

// What begins at the same offset and is not the same has another id and object.
func TestContentIDs(t *testing.T) {
	same := plan{Begin: 1, End: 9, From: 100, Until: 101}
	seen := map[string]bool{}
	for _, revision := range []int64{1, 2} {
		for _, p := range []plan{same, {1, 8, 100, 101, false, ""}, {1, 9, 99, 101, false, ""}, {1, 9, 100, 102, false, ""}} {
			for _, records := range []int{7, 8} {
				seen[contentID(revision, &p, records)] = true
			}
		}
	}
	done := same
	done.Done = true
	if len(seen) != 16 || contentID(1, &same, 8) != contentID(1, &done, 8) {
		t.Errorf("16 contents have the ids %v", seen)
	}
}
