package logpush

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/logjob"
	"tidegate/schema"
)

// of is an event of a script's version.
func of(script, version string, number int) []byte {
	e := schema.TraceEvent{ScriptName: script, ScriptVersion: schema.ScriptVersion{ID: version, Tag: "t"},
		EventTimestampMs: 1_700_000_000_000 + int64(number), EventType: "fetch", Outcome: "ok", WallTimeMs: new(int64(number))}
	return e.AppendJSON(nil)
}

// A folder that names the script or the version gets an object for each, and a
// repeat the same ones, whatever came meanwhile.
func TestPlaceholdersSplitABatch(t *testing.T) {
	f := func(folder string, want map[string]string) {
		t.Run(folder, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.job.DestinationConf = "bucket://b" + folder + "?secret-access-key=hunter22"
				w.bucket.after = func(o Object) error {
					if len(w.bucket.puts) == 2 {
						return errors.New("the answer was lost")
					}
					return nil
				}
				for i := range 12 {
					w.memory.append(account, of([]string{"shop", "cart"}[i%2], fmt.Sprint("v", i%3), i), time.Now())
				}
				r := w.start()
				pass(30*time.Second + 100*time.Millisecond)
				r.kill()
				if w.memory.offset() != 0 {
					t.Errorf("committed %d before all objects were delivered", w.memory.offset())
				}
				w.memory.append(account, of("shop", "v0", 12), time.Now())
				w.bucket.after = nil
				r = w.start()
				pass(time.Minute)
				r.stop()
				got := map[string]string{}
				for _, o := range w.bucket.objects {
					if strings.HasPrefix(o.BatchID, "42-3-0-") {
						got[strings.TrimSuffix(o.Key(folder), o.Name)] = unzip(t, o.Body)
					}
				}
				if len(got) != len(want) {
					t.Errorf("there are %d objects, want %d: %v", len(got), len(want), got)
				}
				for folder, numbers := range want {
					if got[folder] != numbers {
						t.Errorf("%s has\n%s, want\n%s", folder, got[folder], numbers)
					}
				}
				if len(w.bucket.puts) == len(w.bucket.objects) {
					t.Error("nothing was repeated: this tested nothing")
				}
			})
		})
	}
	of := func(list ...int) (text string) {
		for _, i := range list {
			text += lines(i, i+1)
		}
		return text
	}
	f("/{SCRIPT}/", map[string]string{"shop/": of(0, 2, 4, 6, 8, 10), "cart/": of(1, 3, 5, 7, 9, 11)})
	f("/v={VERSION}/x/", map[string]string{"v=v0/x/": of(0, 3, 6, 9), "v=v1/x/": of(1, 4, 7, 10), "v=v2/x/": of(2, 5, 8, 11)})
	f("/{SCRIPT}/{VERSION}/", map[string]string{
		"shop/v0/": of(0, 6), "cart/v1/": of(1, 7), "shop/v2/": of(2, 8), "cart/v0/": of(3, 9), "shop/v1/": of(4, 10), "cart/v2/": of(5, 11)})
}

// Names that are the same in a path are still two objects.
func TestPartsOfOneFolderHaveTheirOwnNames(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.DestinationConf = "bucket://b/{SCRIPT}/"
		for i, script := range []string{"a/b", "a_b", ""} {
			w.memory.append(account, of(script, "v", i), time.Now())
		}
		r := w.start()
		pass(time.Second)
		r.stop()
		if names := w.bucket.names(); len(names) != 3 {
			t.Errorf("the objects are %v", names)
		}
	})
}

func TestManyPartsCloseAWindow(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.job.DestinationConf = "bucket://b/{SCRIPT}/"
		for i := range 2*partsMax + 1 {
			w.memory.append(account, of(fmt.Sprint("s", i), "v", i), time.Now())
		}
		r := w.start()
		pass(time.Second)
		if n := len(w.bucket.names()); n != 2*partsMax {
			t.Errorf("there are %d objects, want %d", n, 2*partsMax)
		}
		r.stop()
		if n := len(w.bucket.names()); n != 2*partsMax+1 {
			t.Errorf("there are %d objects", n)
		}
	})
}

func TestCapsOfADestinationBoundBatches(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.traits = Traits{MaxRecords: 10}
		w.memory.add(fill(25)...)
		r := w.start()
		pass(0)
		w.expect(t, lines(0, 20), 2)
		r.stop()
	})
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.traits = Traits{MaxBytes: 200}
		w.memory.add(fill(25)...)
		r := w.start()
		pass(0)
		r.stop()
		w.expect(t, lines(0, 25), 3)
		for _, o := range w.bucket.objects {
			if n := len(unzip(t, o.Body)); n > 200 {
				t.Errorf("an object has %d bytes", n)
			}
		}
	})
}

// A sink that wants records one by one gets their texts, without what a batch has
// around and between them, and what it may want to label them with.
func TestItems(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.bucket.traits = Traits{Records: true}
		w.job.OutputOptions.BatchPrefix, w.job.OutputOptions.BatchSuffix = ptr("<<"), ptr(">>")
		w.job.OutputOptions.RecordDelimiter = ptr(" | ")
		w.job.OutputOptions.RecordPrefix, w.job.OutputOptions.RecordSuffix = ptr("${"), ptr("}")
		w.job.OutputOptions.CVE202144228 = ptr(true)
		for i := range 3 {
			w.memory.append(account, of("shop", "v1", i), time.Now())
		}
		stamped := time.Now()
		w.memory.append(account, []byte(`{"ScriptName":"a\nb","ScriptVersion":7,"EventTimestampMs":"x"}`), stamped)
		r := w.start()
		pass(time.Second)
		r.stop()
		o := w.bucket.objects[w.bucket.names()[0]]
		if o.Partition != 3 || len(o.Items) != 4 || o.Body != nil || o.Records != 4 {
			t.Fatalf("the object is %+v", o)
		}
		for i, item := range o.Items[:3] {
			want := Item{Time: time.UnixMilli(1_700_000_000_000 + int64(i)).UTC(), Script: "shop", Version: "v1", Outcome: "ok", EventType: "fetch", Offset: int64(i)}
			text := string(item.Text)
			item.Text = nil
			if text != fmt.Sprintf(`x{"WallTimeMs":%d}`, i) || fmt.Sprint(item) != fmt.Sprint(want) {
				t.Errorf("item %d is %s, %+v", i, text, item)
			}
		}
		if last := o.Items[3]; last.Script != "a\nb" || last.Version != "" || !last.Time.Equal(stamped) {
			t.Errorf("the last item is %+v", last)
		}
	})
}

// The time of an item is the one by which ClickHouse and replays know the event. It was the
// event's own however wrong, and the year 1 where there was none: Loki refused the push, and
// OTLP got a time centuries away.
func TestItemsOfWrongClocks(t *testing.T) {
	stamped := time.Date(2026, 10, 9, 12, 0, 0, 0, time.UTC)
	f := func(event string, want time.Time) {
		t.Helper()
		var r logjob.Record
		if err := r.Split([]byte(event)); err != nil {
			t.Fatal(err)
		}
		if _, item := newFacts("bucket://b", Traits{Records: true}).of(&r, stamped); !item.Time.Equal(want) {
			t.Errorf("%s is of %s, want %s", event, item.Time, want)
		}
	}
	at := func(t time.Time) string { return fmt.Sprintf(`{"EventTimestampMs":%d}`, t.UnixMilli()) }
	for _, believed := range []time.Time{stamped, stamped.Add(time.Hour), stamped.Add(-7 * 24 * time.Hour)} {
		f(at(believed), believed)
	}
	for _, event := range []string{`{}`, `{"EventTimestampMs":null}`, `{"EventTimestampMs":1.5}`, `{"EventTimestampMs":99999999999999999999}`,
		at(time.UnixMilli(0)), at(stamped.Add(2 * time.Hour)), at(stamped.Add(-8 * 24 * time.Hour)), at(time.UnixMilli(1<<63 - 1))} {
		f(event, stamped)
	}
}

func TestUploadsOverlapAndAreCommittedInOrder(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = 3
		w.job.MaxUploadRecords = ptr(int64(1000))
		hang := make(chan struct{})
		w.bucket.slow = func(o Object) chan struct{} {
			if strings.HasPrefix(o.BatchID, "42-3-0-") { // the first
				return hang
			}
			return nil
		}
		r := w.start()
		w.memory.add(fill(4000)...)
		pass(time.Second)
		if n := len(w.bucket.names()); n != 3 || w.memory.offset() != 0 {
			t.Errorf("%d objects beside the first, committed %d", n, w.memory.offset())
		}
		if m := parseMark(0, w.memory.metadata); len(m.Plans) != 4 || m.Plans[0].Done || !m.Plans[1].Done || !m.Plans[3].Done {
			t.Errorf("the mark is %s", w.memory.metadata)
		}
		close(hang)
		pass(time.Second)
		if w.memory.offset() != 4000 {
			t.Errorf("committed %d", w.memory.offset())
		}
		r.stop()
		if n := len(w.bucket.puts); n != 4 || len(w.bucket.names()) != 4 {
			t.Errorf("%d uploads left %d objects", n, len(w.bucket.names()))
		}
	})
}

// One upload that hangs stops neither all others nor nothing: plans are bounded.
func TestPlansFitIntoACommit(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = ParallelMax
		w.job.MaxUploadRecords = ptr(int64(1000))
		w.bucket.hang = make(chan struct{})
		r := w.start()
		w.memory.add(fill((plansMax + 5) * 1000)...)
		pass(time.Second)
		m := parseMark(0, w.memory.metadata)
		if len(m.Plans) != plansMax {
			t.Errorf("%d plans, want %d", len(m.Plans), plansMax)
		}
		for i := range m.Plans {
			m.Plans[i] = plan{1<<63 - 1, 1<<63 - 1, 9999999999, 9999999999, true, "01234567"}
		}
		m.Newest, m.EnabledAt, m.Revision = 1<<63-1, 1<<63-1, 1<<63-1
		if n := len(m.String()); n > 4096 {
			t.Errorf("a commit can need %d bytes of metadata", n)
		}
		r.kill()
	})
}

// A process that dies with several uploads under way, some of them done: whoever
// takes over repeats the others under the same names, and not those.
func TestSeveralUploadsAreRepeatedAfterACrash(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = 4
		w.job.MaxUploadRecords = ptr(int64(1000))
		w.bucket.slow = func(o Object) chan struct{} {
			if strings.HasPrefix(o.BatchID, "42-3-1000-") { // the second of four goes through
				return nil
			}
			return make(chan struct{})
		}
		r := w.start()
		w.memory.add(fill(4000)...)
		pass(time.Second)
		r.kill()
		w.bucket.slow = nil
		w.memory.add(fill(2500)...)
		r = w.start()
		pass(time.Second)
		r.stop()
		if w.memory.offset() != 6500 || len(w.bucket.puts) != 7 || len(w.bucket.names()) != 7 {
			t.Errorf("committed %d after %d uploads of %d objects", w.memory.offset(), len(w.bucket.puts), len(w.bucket.names()))
		}
		got := numbers(t, w.bucket)
		slices.Sort(got)
		if !slices.Equal(got, sequence(0, 6500)) {
			t.Errorf("%d events were delivered", len(got))
		}
	})
}

// Found by thought: a mark of the time before there could be several plans.
func TestAPlanOfAnOlderVersionIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(20)...)
		w.memory.metadata = fmt.Sprintf(`{"enabled_at":%d,"plan":{"revision":1,"end":5,"from":946684800,"until":946684801}}`, w.job.EnabledAt.UnixMicro())
		w.memory.ok = true
		r := w.start()
		pass(time.Second)
		r.stop()
		if names := w.bucket.puts; len(names) != 2 || unzip(t, w.bucket.objects[names[0]].Body) != lines(0, 5) {
			t.Errorf("the objects are %v", names)
		}
	})
}

func TestAFailingDestinationIsNotTriedByMore(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = 4
		w.job.MaxUploadRecords = ptr(int64(1000))
		w.bucket.set(func(Object) error { return &UploadError{Status: 503} })
		r := w.start()
		w.memory.add(fill(1000)...)
		pass(time.Second)
		w.memory.add(fill(5000)...)
		pass(time.Minute)
		if m := parseMark(0, w.memory.metadata); len(m.Plans) != 1 {
			t.Errorf("%d uploads try a destination that fails", len(m.Plans))
		}
		w.bucket.set(nil)
		pass(2 * time.Minute)
		r.stop()
		got := numbers(t, w.bucket)
		slices.Sort(got) // several uploads at once end in any order
		if n := len(w.bucket.names()); n != 6 || !slices.Equal(got, sequence(0, 6000)) {
			t.Errorf("%d objects hold %d events", n, len(got))
		}
	})
}

func TestOneUploadAtATimeWhereOrderMatters(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = 4
		w.bucket.traits = Traits{InOrder: true}
		w.job.MaxUploadRecords = ptr(int64(1000))
		w.bucket.hang = make(chan struct{})
		r := w.start()
		w.memory.add(fill(5000)...)
		pass(time.Second)
		if m := parseMark(0, w.memory.metadata); len(m.Plans) != 1 {
			t.Errorf("%d uploads are under way", len(m.Plans))
		}
		close(w.bucket.hang)
		pass(time.Second)
		r.stop()
		w.expect(t, lines(0, 5000), 5)
	})
}

func TestAStopWaitsForAllUploadsInHand(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.parallel = 3
		w.job.MaxUploadRecords = ptr(int64(1000))
		hang := make(chan struct{})
		w.bucket.slow = func(o Object) chan struct{} { return hang }
		w.bucket.set(func(o Object) error {
			if strings.HasPrefix(o.BatchID, "42-3-0-") { // waits for its next try when the stop comes
				return &UploadError{Status: 503, RetryAfter: time.Hour}
			}
			return nil
		})
		r := w.start()
		w.memory.add(fill(3000)...)
		pass(time.Second)
		time.AfterFunc(3*time.Second, func() { close(hang) })
		before := time.Now()
		r.stop()
		if waited := time.Since(before); waited != 3*time.Second || r.err != nil {
			t.Errorf("the stop took %s and ended with %v", waited, r.err)
		}
		w.bucket.slow = nil
		w.bucket.set(nil)
		if m := parseMark(0, w.memory.metadata); len(m.Plans) != 3 || !m.Plans[1].Done || !m.Plans[2].Done {
			t.Errorf("the mark is %s", w.memory.metadata)
		}
		r = w.start()
		pass(time.Second)
		r.stop()
		got := numbers(t, w.bucket)
		slices.Sort(got)
		if n := len(w.bucket.puts); n != 3 || !slices.Equal(got, sequence(0, 3000)) {
			t.Errorf("%d uploads brought %d events", n, len(got))
		}
	})
}

// However large batches may be and however slow the destinations are, the process
// holds what it may hold; a job whose destination works goes on beside them.
func TestTheMemoryOfBatchesIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.budget.limit = 8 << 20
		w.job.MaxUploadBytes, w.job.MaxUploadRecords = ptr(int64(0)), ptr(int64(0))
		w.job.OutputOptions.FieldNames = []string{"Outcome"}
		w.bucket.traits = Traits{Records: true} // held as they are: the worst case
		var hanging []*world
		var runs []*run
		for i := range 5 {
			h := newWorld(t)
			h.memory, h.budget, h.job, h.parallel = newMemory(), w.budget, w.job, 4
			h.job.ID = int64(i + 1)
			h.bucket.traits = w.bucket.traits
			h.bucket.hang = make(chan struct{})
			hanging = append(hanging, h)
			runs = append(runs, h.start())
			h.memory.add(slices.Repeat([]string{strings.Repeat("x", 10_000)}, 600)...)
		}
		pass(10 * time.Second)
		// A buffer that grows doubles, after it was found to be allowed.
		if used := w.budget.used.Load(); used > w.budget.limit*3/2 || used < w.budget.limit/2 {
			t.Errorf("%d bytes are held of %d", used, w.budget.limit)
		}
		r := w.start()
		w.memory.add(slices.Repeat([]string{strings.Repeat("x", 10_000)}, 600)...)
		pass(31 * time.Second)
		got := 0
		for _, o := range w.bucket.objects {
			got += o.Records
		}
		if got != 600 {
			t.Errorf("beside jobs that hang, %d of 600 events were delivered", got)
		}
		r.stop()
		for i, h := range hanging {
			close(h.bucket.hang)
			pass(31 * time.Second)
			runs[i].stop()
			got := 0
			for _, o := range h.bucket.objects {
				got += o.Records
			}
			if got != 600 {
				t.Errorf("job %d delivered %d of 600 events", h.job.ID, got)
			}
		}
		if used := w.budget.used.Load(); used != 0 || w.budget.members.Load() != 0 {
			t.Errorf("%d bytes are held by nobody", used)
		}
	})
}

// A batch makes room for as much as the one before it came to, once it is more than small.
func TestABatchMakesRoomForWhatTheOneBeforeNeeded(t *testing.T) {
	settings, err := newSettings(job(1), newWorld(t).sinks(), Config{DefaultInterval: time.Minute, Parallel: 1})
	if err != nil {
		t.Fatal(err)
	}
	dice := rand.New(rand.NewPCG(1, 2))
	add := func(w *window, records int) {
		t.Helper()
		for i := range records {
			text := event(fmt.Sprintf("%016x", dice.Uint64()), i)
			if err := w.Add(time.Now(), part{}, text, int64(i), time.Now(), &Item{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	seal := func(w *window) *sealed {
		t.Helper()
		plan := w.Plan()
		objects, err := w.Seal(3, &plan)
		if err != nil {
			t.Fatal(err)
		}
		return objects[0]
	}
	first := newWindow(settings)
	add(first, 10_000)
	before := seal(first)

	second := first.next()
	add(second, 10)
	if held := second.held; held > 200_000 {
		t.Errorf("a small batch holds %d bytes", held)
	}
	add(second, 990)
	zip := &second.batches[0].zip
	room := zip.body.Cap()
	if room < len(before.Body) || second.held < int64(room) {
		t.Errorf("there is room for %d bytes, of which %d are counted; the batch before came to %d", room, second.held, len(before.Body))
	}
	add(second, 9000)
	after := seal(second)
	if cap(after.Body) != room {
		t.Errorf("the body of %d bytes had room for %d, and has for %d", len(after.Body), room, cap(after.Body))
	}
	if got := strings.Count(unzip(t, after.Body), `"Outcome"`); got != 10_000 {
		t.Errorf("the body holds %d records", got)
	}
}

// A template makes 44 MB of an event with 100 kB of logs. Each partition of each job held
// such a text for good, and nobody counted it.
func TestRecordsThatATemplateMakesTooLongAreLeftOut(t *testing.T) {
	f := func(times int, want string) {
		t.Run(fmt.Sprint(times), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.job.OutputOptions.FieldNames = nil
				w.job.OutputOptions.RecordTemplate = ptr("{{.WallTimeMs}}" + strings.Repeat("{{.Outcome}}", times))
				r := w.start()
				w.memory.add("", strings.Repeat("x", 100_000), "")
				pass(31 * time.Second)
				if used := w.budget.used.Load(); used != 0 {
					t.Errorf("%d bytes are held of nothing", used)
				}
				w.memory.add("")
				pass(0)
				if used := w.budget.used.Load(); used > textKept {
					t.Errorf("%d bytes are held of a short record", used)
				}
				r.stop()
				if text := strings.NewReplacer("x", "", `"`, "", "{", "", "}", "").Replace(w.bucket.text(t)); text != want {
					t.Errorf("delivered\n%.200s, want\n%s", text, want)
				}
				if told := strings.Contains(w.log.String(), "left out 1 records of partition 3, before offset 3"); told != (times > 83) {
					t.Errorf("the log says\n%.2000s", w.log.String())
				}
			})
		})
	}
	f(83, "0\n1\n2\n3\n")
	f(84, "0\n2\n3\n")
	f(340, "0\n2\n3\n")
}
