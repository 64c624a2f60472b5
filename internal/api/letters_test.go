package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"

	"tidegate/internal/api"
	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// letters gives a job n dead letters of one record each.
func (p *platform) letters(t *testing.T, job int64, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		var body bytes.Buffer
		zip := gzip.NewWriter(&body)
		if _, err := fmt.Fprintf(zip, "{\"n\":%d}\n", i); err != nil {
			t.Fatal(err)
		}
		if err := zip.Close(); err != nil {
			t.Fatal(err)
		}
		l := logjob.DeadLetter{JobID: job, BatchID: fmt.Sprintf("%d-0-%d", job, i), BeginOffset: int64(i), EndOffset: int64(i + 1), Records: 1,
			From: time.Unix(1_700_000_000, 0), Until: time.Unix(1_700_000_060, 0), Status: 400, Reason: "400 no", Attempts: 1, Body: body.Bytes()}
		if err := p.store.AddDeadLetter(t.Context(), l, logjob.LetterLimits{}); err != nil {
			t.Fatal(err)
		}
	}
}

func (p *platform) mustJob(t *testing.T, conf string) logjob.Job {
	t.Helper()
	dataset := schema.Dataset
	j, err := p.CreateJob(t.Context(), account, logjob.Update{Dataset: &dataset, DestinationConf: &conf})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestDeadLetters(t *testing.T) { deadLetterStory(t, newPlatform(t)) }

func deadLetterStory(t *testing.T, p *platform) {
	ctx := t.Context()
	j := p.mustJob(t, "https://letters.example.com")
	p.letters(t, j.ID, 0, 5)
	list, total, err := p.DeadLetters(ctx, account, j.ID, "new", 2, 2)
	if err != nil || total != 5 || len(list) != 2 || list[0].BeginOffset != 2 || list[0].Reason != "400 no" {
		t.Fatalf("page 2 is %+v of %d, error %v", list, total, err)
	}
	id := list[0].ID
	if l, err := p.DeadLetter(ctx, account, j.ID, id); err != nil || l.State != "new" || l.Records != 1 {
		t.Errorf("the letter is %+v, error %v", l, err)
	}
	if text, err := p.DeadLetterContent(ctx, account, j.ID, id); err != nil || string(text) != "{\"n\":2}\n" {
		t.Errorf("the content is %q, error %v", text, err)
	}
	one, err := p.ResendDeadLetter(ctx, account, j.ID, id)
	if err != nil || one.State != "new" || one.Error == nil || *one.Error != "422 still no" {
		t.Errorf("resending answered %+v, error %v", one, err)
	}
	if l, err := p.DeadLetter(ctx, account, j.ID, id); err != nil || l.Attempts != 2 || l.Status != 422 || l.Reason != "422 still no" {
		t.Errorf("after a refusal the letter is %+v, error %v", l, err)
	}
	if one, err = p.ResendDeadLetter(ctx, account, j.ID, id); err != nil || one.State != "resent" || one.Error != nil {
		t.Errorf("resending again answered %+v, error %v", one, err)
	}
	_, err = p.ResendDeadLetter(ctx, account, j.ID, id)
	wantKind(t, err, errs.Conflict)
	_, err = p.DeadLetterContent(ctx, account, j.ID, id)
	wantKind(t, err, errs.Conflict)

	all, err := p.ResendDeadLetters(ctx, account, j.ID) // each of the others is tried for the second time
	if err != nil || len(all.Letters) != 4 || all.Left != 0 || all.Letters[0].Error == nil {
		t.Errorf("resending all answered %+v, error %v", all, err)
	}
	if err := p.DeleteDeadLetter(ctx, account, j.ID, list[1].ID); err != nil {
		t.Fatal(err)
	}
	if all, err = p.ResendDeadLetters(ctx, account, j.ID); err != nil || len(all.Letters) != 3 || all.Letters[2].State != "resent" {
		t.Errorf("resending all again answered %+v, error %v", all, err)
	}
	if _, total, err := p.DeadLetters(ctx, account, j.ID, "new", 1, 20); err != nil || total != 0 {
		t.Errorf("%d letters wait, error %v", total, err)
	}
	if _, total, err := p.DeadLetters(ctx, account, j.ID, "deleted", 1, 20); err != nil || total != 1 {
		t.Errorf("%d letters are deleted, error %v", total, err)
	}
}

// The destination has a letter once, however many people send it at the same time.
func TestALetterIsSentByOneRequestAtATime(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://held.example.com")
	p.letters(t, j.ID, 0, 1)
	list, _, err := p.DeadLetters(t.Context(), account, j.ID, "new", 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	id := list[0].ID
	if one, err := p.ResendDeadLetter(t.Context(), account, j.ID, id); err != nil || one.Error == nil { // see destinations
		t.Fatalf("the first try answered %+v, error %v", one, err)
	}
	first := make(chan error, 1)
	go func() {
		one, err := p.ResendDeadLetter(t.Context(), account, j.ID, id)
		if err == nil && one.State != "resent" {
			err = fmt.Errorf("the letter is %s", one.State)
		}
		first <- err
	}()
	release := <-p.held
	_, err = p.ResendDeadLetter(t.Context(), account, j.ID, id)
	wantKind(t, err, errs.Conflict)
	if all, err := p.ResendDeadLetters(t.Context(), account, j.ID); err != nil || len(all.Letters) != 0 {
		t.Errorf("resending all meanwhile answered %+v, error %v", all, err)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// Two control planes on one database sent the same letter at the same time: each knew only of its own requests.
func TestALetterIsSentByOneControlPlaneAtATime(t *testing.T) {
	p := newPlatform(t)
	other := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) {
		d.Jobs, d.Letters, d.Destinations = p.store, p.store, destinations{test: func(string) error { return nil }}
	})
	j := p.mustJob(t, "https://held.example.com")
	p.letters(t, j.ID, 0, 1)
	list, _, err := p.DeadLetters(t.Context(), account, j.ID, "new", 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	id := list[0].ID
	if one, err := p.ResendDeadLetter(t.Context(), account, j.ID, id); err != nil || one.Error == nil { // see destinations
		t.Fatalf("the first try answered %+v, error %v", one, err)
	}
	first := make(chan error, 1)
	go func() {
		_, err := p.ResendDeadLetter(t.Context(), account, j.ID, id)
		first <- err
	}()
	release := <-p.held
	impatient, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err = other.ResendDeadLetter(impatient, account, j.ID, id)
	close(release)
	wantKind(t, err, errs.Conflict)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// lossy does not tell of the first lease that it gives.
type lossy struct {
	api.Letters
	told bool
}

func (l *lossy) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (bool, error) {
	held, err := l.Letters.AcquireLease(ctx, name, holder, ttl)
	if !l.told {
		l.told = true
		return false, errors.New("the connection broke")
	}
	return held, err
}

// A caller who left, or a connection to the database that broke, just then: the letter was held by nobody, and could not
// be sent for a minute and a half.
func TestALetterIsNotHeldByARequestThatFailed(t *testing.T) {
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) {
		d.Destinations, d.Letters = &hurried{destinations: destinations{test: func(string) error { return nil }}}, &lossy{Letters: d.Letters}
	})
	j := p.mustJob(t, "https://letters.example.com")
	p.letters(t, j.ID, 0, 1)
	list, _, err := p.DeadLetters(t.Context(), account, j.ID, "new", 1, 20)
	if err != nil {
		t.Fatal(err)
	}
	if one, err := p.ResendDeadLetter(t.Context(), account, j.ID, list[0].ID); err == nil {
		t.Fatalf("the first try answered %+v", one)
	}
	if one, err := p.ResendDeadLetter(t.Context(), account, j.ID, list[0].ID); err != nil || one.State != "resent" {
		t.Errorf("the second try answered %+v, error %v", one, err)
	}
}

// hurried notes how long each letter may take, counted from begun.
type hurried struct {
	destinations
	begun time.Time
	may   []time.Duration
}

func (h *hurried) SendLetter(ctx context.Context, _ logjob.Job, _ logjob.DeadLetter) (int, error) {
	deadline, _ := ctx.Deadline()
	h.may = append(h.may, deadline.Sub(h.begun))
	return 0, nil
}

// A letter was broken off after 30 s, together with all that had been sent before it by the same request, and its
// destination blamed; an insert into ClickHouse may say nothing for a minute.
func TestEachLetterHasItsTime(t *testing.T) {
	slow := &hurried{destinations: destinations{test: func(string) error { return nil }}}
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) { d.Destinations = slow })
	j := p.mustJob(t, "clickhouse://db.example.com/logs/events")
	p.letters(t, j.ID, 0, 2)
	slow.begun = time.Now()
	if all, err := p.ResendDeadLetters(t.Context(), account, j.ID); err != nil || len(all.Letters) != 2 {
		t.Fatalf("resending answered %+v, error %v", all, err)
	}
	for _, may := range slow.may {
		if may <= time.Minute {
			t.Errorf("a letter may take %s", may)
		}
	}
}

// A job is given another destination while its letters are sent: the rest goes there.
func TestLettersFollowTheirJob(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://held.example.com")
	p.letters(t, j.ID, 0, 2)
	if all, err := p.ResendDeadLetters(t.Context(), account, j.ID); err != nil || len(all.Letters) != 2 || all.Letters[0].Error == nil { // see destinations
		t.Fatalf("the first try answered %+v, error %v", all, err)
	}
	sent := make(chan error, 1)
	go func() {
		all, err := p.ResendDeadLetters(t.Context(), account, j.ID)
		if err == nil && (len(all.Letters) != 2 || all.Letters[1].State != "resent") {
			err = fmt.Errorf("it answered %+v", all)
		}
		sent <- err
	}()
	release := <-p.held
	if _, err := p.UpdateJob(t.Context(), account, j.ID, logjob.Update{DestinationConf: new("https://letters.example.com")}); err != nil {
		t.Fatal(err)
	}
	close(release)
	select {
	case release := <-p.held:
		t.Error("a letter went to the destination of before")
		close(release)
	case err := <-sent:
		if err != nil {
			t.Error(err)
		}
	}
}

// More letters than one request sends are refused each time: the last one has its turn, too.
func TestLettersTakeTurns(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://letters.example.com")
	p.letters(t, j.ID, 0, 101)
	var tried []string
	for range 2 {
		all, err := p.ResendDeadLetters(t.Context(), account, j.ID)
		if err != nil || len(all.Letters) != 100 {
			t.Fatalf("%d were tried, error %v", len(all.Letters), err)
		}
		for _, one := range all.Letters {
			tried = append(tried, one.ID)
		}
	}
	slices.Sort(tried)
	if n := len(slices.Compact(tried)); n != 101 {
		t.Errorf("%d letters had their turn, want 101", n)
	}
}

// The caller hangs up while the destination takes the letter: that it was taken is
// noted all the same, so that nobody sends it again.
func TestALetterIsTakenThoughTheCallerIsGone(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://slow.example.com")
	p.letters(t, j.ID, 0, 1)
	list, _, err := p.DeadLetters(t.Context(), account, j.ID, "new", 1, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d letters, error %v", len(list), err)
	}
	deadline := time.Now().Add(time.Minute)
	for patience := 50 * time.Millisecond; ; patience *= 2 { // the request must arrive before its caller gives up
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		_, _ = p.ResendDeadLetter(ctx, account, j.ID, list[0].ID) // nobody waits for the answer
		cancel()
		time.Sleep(50 * time.Millisecond)
		l, err := p.DeadLetter(t.Context(), account, j.ID, list[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		if l.State == logjob.LetterResent {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the letter is %s", l.State)
		}
	}
}

func TestWhatDeadLettersRefuse(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://letters.example.com")
	path := fmt.Sprintf("/logpush/jobs/%d/dead-letters", j.ID)
	p.call(t, http.MethodGet, path+"?state=old", "").want(t, http.StatusBadRequest, 1002, "state", "old")
	p.call(t, http.MethodGet, path+"?per_page=0", "").want(t, http.StatusBadRequest, 1002, "per_page")
	p.call(t, http.MethodGet, path+"/none", "").want(t, http.StatusNotFound, 1002, "none")
	p.call(t, http.MethodDelete, path+"/none", "").want(t, http.StatusNotFound, 1002, "none")
	p.call(t, http.MethodPost, path+"/none/resend", "").want(t, http.StatusNotFound, 1002, "none")
	p.call(t, http.MethodGet, "/logpush/jobs/9999/dead-letters", "").want(t, http.StatusNotFound, 1002, "9999")
	p.call(t, http.MethodPost, "/logpush/jobs/9999/dead-letters/resend", "").want(t, http.StatusNotFound, 1002, "9999")
	if a := p.call(t, http.MethodGet, path, ""); !strings.Contains(a.text, `"result":[]`) {
		t.Errorf("no letters are %s", a.text)
	}
}
