package logpush

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

func TestWhatBlamesTheContent(t *testing.T) {
	content := func(blamed bool, err error, traits Traits) {
		t.Helper()
		if e := refusalOf(err, traits); (e != nil) != blamed {
			t.Errorf("%v with %+v blames the content: %v, want %v", err, traits, e != nil, blamed)
		}
	}
	for status, blamed := range map[int]bool{
		400: true, 413: true, 422: true,
		401: false, 403: false, 404: false, 405: false, 408: false, 409: false, 410: false, 415: false, 429: false,
		301: false, 500: false, 502: false, 503: false, 504: false, StatusTimeout: false, StatusNameUnresolved: false, 0: false,
	} {
		content(blamed, &UploadError{Status: status, Permanent: status >= 300 && status < 500 && status != 408 && status != 429}, Traits{})
		content(status == 413, &UploadError{Status: status, Permanent: true}, Traits{Overwrites: true})
	}
	content(false, &UploadError{Status: 400}, Traits{}) // the sink knows better
	content(true, &UploadError{Status: 413}, Traits{})
	content(true, &UploadError{Status: 200, Permanent: true, Records: []int{1}}, Traits{Overwrites: true})
	content(false, &UploadError{Status: 429, Records: []int{1}}, Traits{})
	content(false, io.ErrUnexpectedEOF, Traits{})
	content(true, fmt.Errorf("put: %w", &UploadError{Status: 400, Permanent: true}), Traits{})
}

func TestOnePoisonRecordInAThousand(t *testing.T) {
	records := numbered(1000)
	r := newReceiver(t, func(text string) int {
		if strings.Contains(text, `{"n":637}`) {
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	b := newBatched(t, r)
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got := r.lines(); !slices.Equal(got, without(records, 637)) {
		t.Errorf("the receiver has %d records, want the 999 others", len(got))
	}
	if got := b.letters.text(t); got != records[637] || len(b.letters.letters) != 1 {
		t.Fatalf("%d letters hold %q", len(b.letters.letters), got)
	}
	l := b.letters.letters[0]
	if l.BeginOffset != 100+2*637 || l.EndOffset != l.BeginOffset+1 || l.Partition != 3 || l.Records != 1 || l.Status != 400 ||
		l.Reason != "400 no" || l.Attempts != 1 || l.BatchID != "42-3-100.1374-1375" || !l.From.Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("the letter is %+v", l)
	}
	if r.requests > 2*10+1 {
		t.Errorf("%d requests to find one of 1,000", r.requests)
	}
	if list := b.health.state(); len(list) != 2 || list[0].CompleteUntil.IsZero() ||
		!strings.Contains(list[1].Message, "1 of 1000 records of batch 42-3-100 were refused (400 no) and are dead letters") {
		t.Errorf("the health is %+v", list)
	}
}

func TestPartsHaveTheAffixesOfABatch(t *testing.T) {
	r := newReceiver(t, func(text string) int {
		if !strings.HasPrefix(text, "[") || !strings.HasSuffix(text, "]") {
			t.Errorf("%q has no affixes", text)
		}
		if strings.Contains(text, "b") {
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	b := newBatched(t, r)
	f := *b.settings.format
	f.BatchPrefix, f.BatchSuffix, f.Delimiter = []byte("["), []byte("]"), []byte(", ")
	b.settings.format = &f
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal("a1", "b2", "a3", "a4", "a5")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, text := range r.taken {
		got = append(got, text)
	}
	slices.Sort(got)
	if want := []string{"[a1]", "[a3, a4, a5]"}; !slices.Equal(got, want) {
		t.Errorf("the receiver has %q, want %q", got, want)
	}
	if got := b.letters.text(t); got != "[b2]" {
		t.Errorf("the letter is %q", got)
	}
	// Of a batch that is refused as a whole they are not sent either.
	u := b.uploader(t.Context())
	u.trusted.Store(true)
	if records, bytes, err := u.settle(t.Context(), b.seal("b6", "b7")); records != 0 || bytes != 0 || err != nil {
		t.Errorf("of a refused batch %d records with %d bytes were taken, error %v", records, bytes, err)
	}
}

// The parts that a receiver of small requests needs were counted as those of the search for bad records: behind the
// 200th division, records that it would have taken became dead letters together with the bad one.
func TestABadRecordIsFoundAlsoWhereRequestsAreSmall(t *testing.T) {
	records := numbered(1000)
	r := newReceiver(t, func(text string) int {
		switch {
		case len(text) > 50:
			return http.StatusRequestEntityTooLarge
		case strings.Contains(text, `{"n":990}`):
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	b := newBatched(t, r)
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got := r.lines(); !slices.Equal(got, without(records, 990)) {
		t.Errorf("the receiver has %d records, want the 999 others", len(got))
	}
	if got := b.letters.text(t); got != records[990] {
		t.Errorf("the letters hold %q", got)
	}
}

func TestABatchAboveTheSizeOfTheReceiverLeavesInParts(t *testing.T) {
	records := numbered(3000)
	records[17] = "{\"n\":\"" + strings.Repeat("x", 5000) + "\"}\n" // alone above the size
	r := newReceiver(t, func(text string) int {
		if len(text) > 4096 {
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusOK
	})
	b := newBatched(t, r)
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got := r.lines(); !slices.Equal(got, without(records, 17)) {
		t.Errorf("the receiver has %d records, want 2,999", len(got))
	}
	if got := b.letters.text(t); got != records[17] {
		t.Errorf("the letters hold %d bytes", len(got))
	}
}

func TestRecordsThatTheDestinationNames(t *testing.T) {
	records := numbered(10)
	sink := &bulk{refuse: []int{2, 3, 7}}
	b := newBatched(t, sink)
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got, want := b.letters.text(t), records[2]+records[3]+records[7]; got != want || len(b.letters.letters) != 2 {
		t.Errorf("%d letters hold %q", len(b.letters.letters), got)
	}
	items := b.letters.letters[0].Object.Items
	if len(items) != 2 || items[1].Script != "shop" || items[1].Begin != len(records[2]) {
		t.Errorf("the letter's items are %+v", items)
	}
	// What was kept can be sent again, record by record.
	sink.refuse = nil
	sinks := b.sinks()
	sinks["bucket"] = sinksOf(sink)
	for i := range b.letters.letters {
		if _, err := sinks.SendLetter(t.Context(), b.job.DestinationConf, "workers_trace_events", &b.letters.letters[i]); err != nil {
			t.Fatal(err)
		}
		if sink.partition != 3 {
			t.Errorf("the letter is of partition %d, want 3", sink.partition)
		}
		sink.partition = 0
	}
	if got, want := strings.Join(sink.taken, ""), strings.Join(without(records, 2, 3, 7), "")+records[2]+records[3]+records[7]; got != want {
		t.Errorf("the destination has\n%s, want\n%s", got, want)
	}
	// A letter that was made of files has no records to be sent one by one.
	files := logjob.DeadLetter{Body: b.letters.letters[0].Body}
	if _, err := sinks.SendLetter(t.Context(), b.job.DestinationConf, "", &files); err == nil || !strings.Contains(err.Error(), "one by one") {
		t.Errorf("the error is %v", err)
	}
}

// Records that are longer than the destination takes are never sent, not even by
// somebody who sends their letters again; all others are, in order.
func TestRecordsAboveTheDestinationsBound(t *testing.T) {
	records := numbered(6)
	long := strings.Repeat("x", 100) + "\n"
	sink := &bulk{most: 100}
	b := newBatched(t, sink)
	for _, at := range []int{0, 3, 5} {
		records[at] = long
	}
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(sink.taken, ""), records[1]+records[2]+records[4]; got != want {
		t.Errorf("the destination has %q, want %q", got, want)
	}
	if got := b.letters.text(t); got != strings.Repeat(long, 3) || len(b.letters.letters) != 3 {
		t.Fatalf("%d letters hold %q", len(b.letters.letters), got)
	}
	for i := range b.letters.letters {
		if l := &b.letters.letters[i]; l.Records != 1 || l.Status != http.StatusRequestEntityTooLarge || l.Attempts != 0 || !strings.Contains(l.Reason, "101 bytes") {
			t.Errorf("a letter is %+v", l)
		}
	}
	sinks := b.sinks()
	sinks["bucket"] = sinksOf(sink)
	if status, err := sinks.SendLetter(t.Context(), b.job.DestinationConf, "", &b.letters.letters[0]); err == nil || status != http.StatusRequestEntityTooLarge {
		t.Errorf("sending a letter again: status %d, error %v", status, err)
	}

	// Where nothing is left to be sent, nothing is to be waited for.
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(long)); err != nil || len(b.letters.letters) != 4 {
		t.Fatalf("error %v, letters %d", err, len(b.letters.letters))
	}
	if len(sink.taken) != 3 {
		t.Errorf("the destination has %d records", len(sink.taken))
	}
}

// A destination that refused every record and then takes some of them gets the rest
// of the batch, and none of what it took a second time.
func TestADestinationThatTakesSomeAfterItRefusedAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records := numbered(4)
		sink := &bulk{refuse: []int{0, 1, 2, 3}, then: []int{2}}
		b := newBatched(t, sink)
		if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(sink.taken, ""), records[0]+records[1]+records[3]; got != want {
			t.Errorf("the destination has %q, want %q", got, want)
		}
		if got := b.letters.text(t); got != records[2] {
			t.Errorf("the letters hold %q", got)
		}
	})
}

// A destination that names records which are not there has said nothing of those
// that are: none of them is taken for delivered.
func TestADestinationThatNamesOtherRecords(t *testing.T) {
	records := numbered(4)
	sink := &bulk{refuse: []int{90}, nothing: true}
	b := newBatched(t, sink)
	u := b.uploader(t.Context())
	u.trusted.Store(true)
	if err := u.deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if got := b.letters.text(t); got != strings.Join(records, "") {
		t.Errorf("the letters hold %q", got)
	}
}

// bulk takes records one by one, all but some.
type bulk struct {
	most    int
	refuse  []int
	then    []int // is refuse after the first object, if it is there
	nothing bool  // it takes none of an object that it refuses a record of
	taken   []string

	partition int // of the last object
}

func (b *bulk) Traits() Traits { return Traits{Records: true, MaxRecordBytes: b.most} }

func (b *bulk) Put(_ context.Context, o Object) error {
	b.partition = o.Partition
	refuse := b.refuse
	if b.then != nil {
		b.refuse = b.then
	}
	for i, item := range o.Items {
		if !b.nothing && !slices.Contains(refuse, i) {
			b.taken = append(b.taken, string(item.Text))
		}
	}
	if len(refuse) > 0 {
		return &UploadError{Status: 200, Text: "mapping", Permanent: true, Records: refuse}
	}
	return nil
}

// In the middle of the search the process is killed. The next one builds the same
// batch and searches again: parts overwrite themselves, and no letter is there twice.
func TestAKillInTheMiddleOfTheSearch(t *testing.T) {
	records := numbered(200)
	for at := 1; at <= 30; at++ {
		ctx, kill := context.WithCancel(t.Context())
		requests := 0
		r := newReceiver(t, func(text string) int {
			if requests++; requests == at {
				kill()
			}
			if strings.Contains(text, `{"n":63}`) || strings.Contains(text, `{"n":150}`) {
				return http.StatusBadRequest
			}
			return http.StatusOK
		})
		b := newBatched(t, r)
		first := b.uploader(ctx).deliver(ctx, b.seal(records...))
		kill()
		if first != nil && !errors.Is(first, context.Canceled) && !errors.Is(first, errStopping) {
			t.Fatal(first)
		}
		if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
			t.Fatal(err)
		}
		if got := r.lines(); !slices.Equal(got, without(records, 63, 150)) {
			t.Fatalf("killed at request %d: the receiver has %d records, want 198 once each", at, len(got))
		}
		if got := b.letters.text(t); got != records[63]+records[150] {
			t.Fatalf("killed at request %d: the letters hold %q", at, got)
		}
	}
}

func TestAFullStoreHoldsTheDeliveryAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatched(t, nil)
		b.bucket.fail = func(o Object) error {
			if strings.Contains(unzip(t, o.Body), `{"n":1}`) {
				return &UploadError{Status: 400, Text: "no", Permanent: true}
			}
			return nil
		}
		b.letters.fill(errs.New(errs.TooLarge, 0, "the dead letters of job 42 are full"))
		done := make(chan error, 1)
		u := b.uploader(t.Context())
		go func() { done <- u.deliver(t.Context(), b.seal(numbered(4)...)) }()
		pass(time.Hour)
		if list := b.health.state(); len(list) != 1 || list[0].Message != "the dead letters of job 42 are full" {
			t.Errorf("the health is %+v", list)
		}
		select {
		case err := <-done:
			t.Fatalf("delivered, with error %v", err)
		default:
		}
		b.letters.fill(nil)
		pass(2 * time.Minute)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := b.letters.text(t); got != numbered(4)[1] {
			t.Errorf("the letters hold %q", got)
		}
	})
}

// A receiver that answers 400 to everything is misconfigured, as far as anybody can
// tell: nothing is given up at once, and the first batch that it takes after a repair
// is whole.
func TestADestinationThatRefusesEverythingIsGivenTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBatched(t, nil)
		refuse := func(Object) error { return &UploadError{Status: 400, Text: "no such index", Permanent: true} }
		b.bucket.set(refuse)
		u := b.uploader(t.Context())
		begin := func() chan error {
			done := make(chan error, 1)
			go func() { done <- u.deliver(t.Context(), b.seal(numbered(8)...)) }()
			return done
		}
		done := begin()
		pass(5 * time.Minute)
		if len(b.letters.letters) != 0 {
			t.Fatalf("%d letters after 5 minutes", len(b.letters.letters))
		}
		b.bucket.set(nil)
		pass(2 * time.Minute)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if names := b.bucket.names(); !slices.Equal(names, []string{"whole.log.gz"}) || len(b.letters.letters) != 0 {
			t.Fatalf("objects %v, letters %d", names, len(b.letters.letters))
		}

		b.bucket.set(refuse) // it took something, so this is the records' fault
		if err := <-begin(); err != nil || len(b.letters.letters) == 0 {
			t.Fatalf("error %v, letters %d", err, len(b.letters.letters))
		}
		have := len(b.letters.letters)
		done = begin() // of the next one that is no longer sure
		pass(9 * time.Minute)
		select {
		case err := <-done:
			t.Fatalf("given up after 9 minutes, error %v", err)
		default:
		}
		pass(3 * time.Minute)
		if err := <-done; err != nil || len(b.letters.letters) != have { // the same letters
			t.Errorf("error %v, letters %d, want %d", err, len(b.letters.letters), have)
		}
	})
}

// While a destination refused everything, somebody mends it; what is bad for another
// reason alone is kept, and the rest arrives.
func TestABadRecordBehindABadSetting(t *testing.T) {
	records := numbered(8)
	t.Run("found by halves", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := newBatched(t, nil)
			mended := time.Now().Add(5 * time.Minute)
			b.bucket.set(func(o Object) error {
				if time.Now().Before(mended) || strings.Contains(unzip(t, o.Body), `{"n":3}`) {
					return &UploadError{Status: 400, Text: "no", Permanent: true}
				}
				return nil
			})
			if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
				t.Fatal(err)
			}
			if got := b.letters.text(t); got != records[3] {
				t.Errorf("the letters hold %q, want only %q", got, records[3])
			}
		})
	})
	t.Run("named by the destination", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			sink := &bulk{refuse: []int{0, 1, 2, 3, 4, 5, 6, 7}}
			b := newBatched(t, sink)
			b.settings.sink = mended{sink, time.Now().Add(5 * time.Minute)}
			if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
				t.Fatal(err)
			}
			if got, want := strings.Join(sink.taken, ""), strings.Join(without(records, 3), ""); got != want {
				t.Errorf("the destination has\n%s, want each once:\n%s", got, want)
			}
			if got := b.letters.text(t); got != records[3] {
				t.Errorf("the letters hold %q, want only %q", got, records[3])
			}
		})
	})
}

// mended is a destination that from some time on refuses one record only.
type mended struct {
	*bulk
	at time.Time
}

func (m mended) Put(ctx context.Context, o Object) error {
	if !time.Now().Before(m.at) {
		m.refuse = []int{3}
	}
	return m.bulk.Put(ctx, o)
}

func TestTheSearchIsBounded(t *testing.T) {
	records := numbered(5000)
	r := newReceiver(t, func(text string) int {
		if strings.Contains(text, `3}`) { // one in ten
			return http.StatusBadRequest
		}
		return http.StatusOK
	})
	b := newBatched(t, r)
	if err := b.uploader(t.Context()).deliver(t.Context(), b.seal(records...)); err != nil {
		t.Fatal(err)
	}
	if r.requests > 2*splitsMax+1 {
		t.Errorf("%d requests, want at most %d", r.requests, 2*splitsMax+1)
	}
	all := append(r.lines(), strings.SplitAfter(b.letters.text(t), "\n")...)
	all = slices.DeleteFunc(all, func(line string) bool { return line == "" })
	slices.Sort(all)
	if !slices.Equal(all, without(records)) {
		t.Errorf("taken and kept together are %d records, want 5,000 once each", len(all))
	}
}

func TestPick(t *testing.T) {
	f := func(places []int, want ...section) {
		t.Helper()
		if got := (section{10, 20}).pick(places); !slices.Equal(got, want) {
			t.Errorf("of %v there are %v, want %v", places, got, want)
		}
	}
	f(nil)
	f([]int{0, 1, 9}, section{10, 12}, section{19, 20})
	f([]int{-1, 3, 3, 2, 10}, section{12, 14})
}
