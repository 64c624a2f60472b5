package logpush

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/logjob"
)

func TestAFailingDestinationDelaysNoOtherJob(t *testing.T) {
	p := newPlatform(t)
	_, failing := p.addJob(1)
	_, healthy := p.addJob(2)
	failing.set(func(Object) error { return &UploadError{Status: 500, Text: "no"} })
	p.manage(func(c *Config) { c.Parallel = 1 }) // otherwise only commits are in order

	p.produce(500)
	holds(t, healthy, 0, 500)
	p.produce(500)
	holds(t, healthy, 0, 1000)
	if n := len(failing.names()); n != 0 {
		t.Fatalf("the failing destination has %d objects", n)
	}
	eventually(t, func() error {
		for _, d := range p.reports.all() {
			if d.JobID == 1 && d.Message == "error 500: error pushing: error uploading to bucket: 500 no" {
				return nil
			}
		}
		return errors.New("the failure is not on the job")
	})
	failing.set(nil)
	holds(t, failing, 0, 1000)
	eventually(t, func() error {
		last := map[int64]logjob.Delivery{}
		for _, d := range p.reports.all() {
			last[d.JobID] = d
		}
		if last[1].Message != "" || last[1].CompleteUntil.IsZero() || last[2].Message != "" {
			return fmt.Errorf("the last health is %+v", last)
		}
		return nil
	})
	for _, b := range []*bucket{failing, healthy} {
		checkOrder(t, b)
	}
}

// checkOrder requires that the batches of a partition were delivered in order.
func checkOrder(t *testing.T, b *bucket) {
	t.Helper()
	latest := map[int]int{}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range b.puts {
		var job, partition, begin int
		if _, err := fmt.Sscanf(b.objects[name].BatchID, "%d-%d-%d", &job, &partition, &begin); err != nil {
			t.Fatal(err)
		}
		if last, ok := latest[partition]; ok && begin <= last {
			t.Errorf("partition %d: the batch at %d came after the one at %d", partition, begin, last)
		}
		latest[partition] = begin
	}
	if len(latest) != 2 {
		t.Errorf("events came from %d partitions, want 2", len(latest))
	}
}

// A destination that fails at random, before and after it kept an object, and
// managers that come and go: afterwards each event is there, and once.
func TestNothingIsMissingOrTwiceAfterChaos(t *testing.T) {
	p := newPlatform(t)
	j, b := p.addJob(1)
	j.MaxUploadRecords = ptr(int64(40))
	p.set(j)
	dice := rand.New(rand.NewPCG(1, 2)) // the bucket's lock guards it
	fail := func(Object) error {
		if dice.IntN(6) == 0 {
			return &UploadError{Status: 503}
		}
		return nil
	}
	b.fail, b.after = fail, fail

	first := p.manage()
	p.produce(300)
	second := p.manage()
	p.produce(300)
	first()
	p.produce(300)
	third := p.manage()
	second()
	p.produce(300)
	holds(t, b, 0, 1200)
	third()
	b.mu.Lock()
	repeats := len(b.puts) - len(b.objects)
	b.mu.Unlock()
	t.Logf("%d objects, %d of them repeated", len(b.names()), repeats)
	if repeats == 0 {
		t.Error("nothing was repeated: this tested nothing")
	}
}

func TestADisabledJobLeavesAGap(t *testing.T) {
	p := newPlatform(t)
	j, b := p.addJob(1)
	_, other := p.addJob(2)
	p.manage()
	p.produce(100)
	holds(t, b, 0, 100)

	j.Enabled = false
	p.set(j)
	eventually(t, func() error {
		if n := p.members("tidegate-logpush-1", 0); n > 0 {
			return fmt.Errorf("the job still has %d members", n)
		}
		return nil
	})
	p.produce(100)
	holds(t, other, 0, 200)
	gapEnd := time.Now()
	eventually(t, func() error { // the next event comes in a later millisecond
		if time.Since(gapEnd) < 2*time.Millisecond {
			return errors.New("too early")
		}
		return nil
	})
	j.Enabled, j.EnabledAt = true, time.Now()
	p.set(j)
	p.produce(100)
	eventually(t, func() error {
		got := numbers(t, b)
		slices.Sort(got)
		want := slices.Concat(sequence(0, 100), sequence(200, 300))
		if !slices.Equal(got, want) {
			return fmt.Errorf("the bucket has %d events, want the first and the last 100 of 300", len(got))
		}
		return nil
	})
}

func TestSettingsChangeWithoutALoss(t *testing.T) {
	p := newPlatform(t)
	j, b := p.addJob(1)
	p.manage()
	for range 4 {
		p.produce(100)
		j.Name += "x"
		p.set(j)
	}
	p.produce(100)
	holds(t, b, 0, 500)

	j.Filter = `{"where":{"key":"WallTimeMs","operator":"geq","value":550}}`
	p.set(j)
	p.produce(100)
	eventually(t, func() error {
		if !slices.Contains(numbers(t, b), 599) {
			return errors.New("the last event is missing")
		}
		return nil
	})
}

func TestJobsThatCannotBeReadGoOn(t *testing.T) {
	p := newPlatform(t)
	_, b := p.addJob(1)
	p.manage()
	p.produce(50)
	holds(t, b, 0, 50)
	p.mu.Lock()
	p.jobs, p.jobsErr = nil, errors.New("the database is away")
	p.mu.Unlock()
	p.produce(50)
	holds(t, b, 0, 100)
}

func TestAJobThatCannotOpenItsDestinationSaysSo(t *testing.T) {
	p := newPlatform(t)
	j := job(1)
	j.DestinationConf = "tape://1/?secret-access-key=hunter22"
	p.set(j)
	p.manage()
	eventually(t, func() error {
		for _, d := range p.reports.all() {
			if strings.Contains(d.Message, `scheme "tape"`) {
				return nil
			}
		}
		return fmt.Errorf("health is %+v", p.reports.all())
	})
}

// Nothing is tried of such a job, so that it failed for ever, and was never switched off.
func TestAJobThatCannotOpenItsDestinationIsDisabledAfterADay(t *testing.T) {
	box := &healthbox{}
	m, err := New(Config{Health: box, DisableAfter: 24 * time.Hour}, &fixedJobs{}, Sinks{}, nil, newMemory(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	r := m.start(t.Context(), job(42), false, make(chan struct{}, 1))
	defer func() { r.stop(); <-r.done }()
	at := time.Now()
	m.pulse.now = func() time.Time { return at }
	step := func(d time.Duration) {
		t.Helper()
		at = at.Add(d)
		if err := m.pulse.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, func() error {
		if step(0); box.failing.IsZero() {
			return errors.New("it does not count as failing")
		}
		return nil
	})
	step(23 * time.Hour)
	if box.disabled != "" {
		t.Fatalf("disabled after less than a day: %s", box.disabled)
	}
	step(2 * time.Hour)
	if !strings.Contains(box.disabled, `the last failure was: error opening the destination: destination_conf has the scheme "bucket"`) {
		t.Errorf("after a day the message is %q", box.disabled)
	}
}

// fixedJobs is a record of jobs in which nothing is kept.
type fixedJobs struct{}

func (*fixedJobs) Jobs(context.Context) ([]logjob.Job, error)            { return nil, nil }
func (*fixedJobs) ReportDelivery(context.Context, logjob.Delivery) error { return nil }
