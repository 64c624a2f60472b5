package logpush

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// told requires that a loss with these words is part of the job's health.
func (w *world) told(t *testing.T, words string) {
	t.Helper()
	for _, d := range w.reports.all() {
		if strings.Contains(d.Message, words) {
			return
		}
	}
	t.Errorf("nobody was told of %q: %+v", words, w.reports.all())
}

// planned leaves a world with n delivered events and a plan for 20 more.
func (w *world) planned(t *testing.T, n int) {
	t.Helper()
	r := w.start()
	w.memory.add(fill(n)...)
	pass(31 * time.Second)
	w.bucket.set(func(Object) error { return errors.New("away") })
	w.memory.add(fill(20)...)
	pass(31 * time.Second)
	r.kill()
	w.bucket.set(nil)
	if got := w.memory.offset(); got != int64(n) {
		t.Fatalf("committed %d, want %d", got, n)
	}
	if m := parseMark(0, w.memory.metadata); len(m.Plans) != 1 || m.Plans[0].End != int64(n+20) {
		t.Fatalf("the mark is %s, want a plan up to %d", w.memory.metadata, n+20)
	}
}

// The story: a topic was made anew while an upload waited to be repeated. Delivery
// began at its first record, and took everything up to the plan's last offset,
// a number of the old topic, for the one batch: it filled the memory.
func TestAPlanForATopicThatWasMadeAnewIsVoid(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		thousand := int64(1000)
		w.job.MaxUploadRecords = &thousand
		w.planned(t, 3000)
		delivered := len(w.bucket.names())
		w.memory.cut(0)
		w.memory.add(fill(2500)...)
		r := w.start()
		pass(31 * time.Second)
		w.memory.add(fill(2500)...)
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 3000)+lines(0, 5000), delivered+6)
		for _, o := range w.bucket.objects {
			if o.Records > 1000 {
				t.Errorf("%s has %d records, more than a batch may have", o.Name, o.Records)
			}
		}
		w.told(t, "partition 3 was made anew: going on at offset 0")
	})
}

func TestATopicThatIsMadeAnewWhileABatchIsBuiltAgain(t *testing.T) {
	f := func(name string, at int64, rebuilt int) {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.planned(t, 10)
				w.memory.fetching = func(position int64) {
					if position == at {
						w.memory.fetching = nil
						w.memory.cut(0)
						w.memory.add(fill(3)...)
					}
				}
				r := w.start()
				pass(31 * time.Second)
				r.stop()
				text := lines(0, 10+rebuilt) + lines(0, 3)
				w.expect(t, text, 2+min(rebuilt, 1))
				if got := w.memory.offset(); got != 3 {
					t.Errorf("committed %d, want 3", got)
				}
			})
		})
	}
	f("before the first record", 10, 0)
	f("after seven of twenty", 17, 7)
}

// A topic that was made anew can be longer than the old one was, and then nobody
// notices; the records in the plan's range are others all the same.
func TestABatchThatIsBuiltAgainStaysWithinItsBounds(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		five := int64(5_000_000)
		w.job.MaxUploadBytes = &five
		w.job.OutputOptions.FieldNames = []string{"Outcome"}
		w.planned(t, 10)
		w.memory.cut(0)
		w.memory.add(slices.Repeat([]string{strings.Repeat("x", 1_200_000)}, 40)...)
		r := w.start()
		pass(0)
		r.stop()
		records := 0
		for _, name := range w.bucket.names() {
			o := w.bucket.objects[name]
			records += o.Records
			if n := len(unzip(t, o.Body)); n > 5_000_000 {
				t.Errorf("%s has %d bytes, more than a batch may have", name, n)
			}
		}
		if records != 10+30 {
			t.Errorf("%d records were delivered, want 40", records)
		}
	})
}

func TestAPartitionThatLostItsEndIsNotDeliveredTwice(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(20)...)
		pass(31 * time.Second)
		r.stop()
		w.memory.cut(12)
		r = w.start()
		pass(time.Second)
		if got := w.memory.offset(); got != 12 {
			t.Errorf("committed %d, want the new end", got)
		}
		w.memory.add(fill(3)...)
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 20)+lines(12, 15), 2)
		w.told(t, "a broker lost the end of partition 3, offsets below 20")
	})
}

// The story: gateways sent what they had in their spools as soon as the broker was back,
// and before the job looked where the partition ends now. It went on there.
func TestWhatIsWrittenAfterALostEndIsDelivered(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(20)...)
		pass(31 * time.Second)
		r.stop()
		w.memory.cut(12)
		w.memory.add(fill(5)...)
		r = w.start()
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 20)+lines(12, 17), 2)
		if got := w.memory.offset(); got != 17 {
			t.Errorf("committed %d, want 17", got)
		}
		w.told(t, "going on at offset 12")
	})
}

func TestAPlanThatLostItsEndIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.planned(t, 0)
		w.memory.cut(12)
		r := w.start()
		pass(31 * time.Second)
		w.expect(t, lines(0, 12), 1)
		w.memory.add(fill(3)...)
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 15), 2)
		w.told(t, "lost up to 8 records of partition 3, offsets 12 to 19")
	})
}

// What was read before a broker lost it is nowhere else.
func TestTheBatchInHandIsDeliveredWhenABrokerLosesIt(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		r := w.start()
		w.memory.add(fill(20)...)
		pass(time.Second)
		w.memory.cut(5)
		pass(2 * time.Second)
		w.expect(t, lines(0, 20), 1)
		w.memory.add(fill(3)...)
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 20)+lines(5, 8), 2)
	})
}

// What retention took of a window that was to be built again was counted, and told, by each process that
// came so far and died before the window was delivered.
func TestALossIsCountedOnceByWhoeverDies(t *testing.T) {
	const gone = "offsets 10 to 19: the topic's retention removed them"
	metrics := readMetrics(t)
	bubble(t, func(t *testing.T, w *world) {
		w.planned(t, 10)
		w.memory.forget(20)
		w.bucket.set(func(Object) error { return errors.New("away") })
		for range 3 {
			r := w.start()
			pass(31 * time.Second)
			r.kill()
		}
		w.bucket.set(nil)
		r := w.start()
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(0, 10)+lines(20, 30), 2)
		if n := strings.Count(w.log.String(), gone); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		if m := parseMark(0, w.memory.metadata); len(m.Told) != 0 {
			t.Errorf("the mark is %s", w.memory.metadata)
		}
	})
	if got := dropped(t, metrics, 42)[droppedRetention]; got != 10 {
		t.Errorf("%d are counted, want 10", got)
	}
}

// Of a window that is being filled, too, and with it what else is gone when it is filled anew.
func TestALossWithinAWindowIsCountedOnce(t *testing.T) {
	metrics := readMetrics(t)
	bubble(t, func(t *testing.T, w *world) {
		w.memory.add(fill(20)...)
		w.memory.fetching = func(position int64) {
			if position == 7 {
				w.memory.forget(14)
			}
		}
		r := w.start()
		pass(time.Second)
		r.kill()
		w.expect(t, "", 0)
		if got := dropped(t, metrics, 42)[droppedRetention]; got != 7 {
			t.Errorf("%d are counted, want 7", got)
		}
		r = w.start()
		pass(31 * time.Second)
		r.stop()
		w.expect(t, lines(14, 20), 1)
	})
	if got := dropped(t, metrics, 42)[droppedRetention]; got != 14 {
		t.Errorf("%d are counted, want 14", got)
	}
}

func TestSpansThatAreToldAreNotToldAgain(t *testing.T) {
	d := &delivery{}
	f := func(begin, end, want int64, told ...span) {
		t.Helper()
		if got := d.tell(begin, end); got != want || !slices.Equal(d.told, told) {
			t.Errorf("%d to %d: %d were not told, and told are %v, want %d, %v", begin, end, got, d.told, want, told)
		}
	}
	f(10, 20, 10, span{10, 20})
	f(10, 20, 0, span{10, 20})
	f(30, 40, 10, span{10, 20}, span{30, 40})
	f(5, 12, 5, span{30, 40}, span{5, 20})
	f(20, 25, 5, span{30, 40}, span{5, 25})
	f(0, 50, 20, span{0, 50})
	for i := range int64(2 * toldMax) {
		d.tell(100+2*i, 101+2*i)
	}
	if len(d.told) != toldMax || d.told[toldMax-1] != (span{162, 163}) {
		t.Errorf("told are %v", d.told)
	}
}
