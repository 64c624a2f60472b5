package logpush

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/pipeline/stream"
)

// healthbox is a control plane for one job's health.
type healthbox struct {
	reports  []logjob.HealthReport
	failing  time.Time
	refuse   error
	disabled string
}

func (b *healthbox) ReportHealth(_ context.Context, reports []logjob.HealthReport) (map[int64]time.Time, error) {
	if b.refuse != nil {
		return nil, b.refuse
	}
	b.reports = append(b.reports, reports...)
	for _, r := range reports {
		if !r.SucceededAt.IsZero() {
			b.failing = time.Time{}
		}
		if b.failing.IsZero() {
			b.failing = r.FailingSince
		}
	}
	return map[int64]time.Time{42: b.failing}, nil
}

func (b *healthbox) DisableFailingJob(_ context.Context, _, _ int64, _ time.Time, message string) (bool, error) {
	if b.disabled != "" {
		return false, nil
	}
	b.disabled = message
	return true, nil
}

func (*healthbox) SweepHealth(context.Context) error { return nil }

func (b *healthbox) last() logjob.HealthReport { return b.reports[len(b.reports)-1] }

// pulsed is a pulse whose clock is the test's.
type pulsed struct {
	*pulse
	t      *testing.T
	box    healthbox
	at     time.Time
	member *member
	memory *memory
}

func newPulsed(t *testing.T, disable time.Duration) *pulsed {
	t.Helper()
	p := &pulsed{t: t, at: time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC), memory: newMemory()}
	p.pulse = newPulse(&p.box, disable, quiet)
	p.now = func() time.Time { return p.at }
	gauges, err := newLags()
	if err != nil {
		t.Fatal(err)
	}
	j := job(42)
	p.member = &member{job: j, ledger: newLedger(j), lag: gauges.of(42), partitions: map[int]stream.Partition{}}
	p.join(p.member)
	t.Cleanup(p.member.has(&reader{memory: p.memory}))
	return p
}

func (p *pulsed) pass(d time.Duration) {
	p.t.Helper()
	p.at = p.at.Add(d)
	if err := p.step(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

func TestLagIsOfTheOldestRecordThatIsNotDelivered(t *testing.T) {
	p := newPulsed(t, 0)
	lag := func(events int64, seconds float64) {
		t.Helper()
		one := p.box.last().Partitions[0]
		age := -1.0
		if !one.OldestOn.IsZero() {
			age = p.at.Sub(one.OldestOn).Seconds()
		}
		if one.Lag() != events || age != seconds || p.member.lag.events != events {
			t.Errorf("the lag is %d events and %v s, want %d and %v", one.Lag(), age, events, seconds)
		}
	}
	p.memory.add(fill(3)...)
	p.member.ledger.at(3, 0)
	p.pass(0)
	lag(3, -1) // nobody saw them come
	p.member.ledger.at(3, 3)
	p.pass(time.Minute)
	lag(0, -1)
	p.memory.add(fill(2)...)
	p.pass(10 * time.Second)
	lag(2, 10)
	p.memory.add(fill(5)...)
	p.pass(10 * time.Second)
	lag(7, 20)
	p.member.ledger.at(3, 5)
	p.pass(10 * time.Second)
	lag(5, 20)
	p.member.ledger.at(3, 10)
	p.pass(10 * time.Second)
	lag(0, -1)
}

func TestAReportThatFailsIsMadeLater(t *testing.T) {
	p := newPulsed(t, 0)
	s := &sealed{Object: Object{Records: 5, Body: []byte("abc")}, size: 10}
	p.member.ledger.tried(p.at, s, 503, false, time.Second)
	p.member.ledger.tried(p.at, s, statusTaken, true, 2*time.Second)
	p.member.ledger.dropped(p.at, "filter", 3)
	p.member.ledger.failed(3, p.at, "away")
	p.member.ledger.over(3)
	p.box.refuse = errors.New("database away")
	if err := p.step(t.Context()); err == nil {
		t.Fatal("no error")
	}
	p.box.refuse = nil
	p.member.ledger.tried(p.at, s, statusTaken, true, 3*time.Second)
	p.pass(0)
	r := p.box.last()
	slices.SortFunc(r.Minutes, func(a, b logjob.MinuteHealth) int { return a.Status - b.Status })
	want := logjob.Uploads{Uploads: 2, Records: 10, Bytes: 20, BytesCompressed: 6, DurationMS: 5000, DurationMaxMS: 3000}
	if len(r.Minutes) != 2 || r.Minutes[0].Uploads != want || r.Minutes[1].Status != 503 || r.Minutes[1].Final || r.Minutes[0].Destination != "bucket://42/" || r.Minutes[0].DestinationType != "bucket" {
		t.Errorf("the minutes are %+v", r.Minutes)
	}
	if len(r.Drops) != 1 || r.Drops[0].Events != 3 || len(r.Failures) != 1 || r.Failures[0].Message != "away" || r.SucceededAt.IsZero() {
		t.Errorf("the report is %+v", r)
	}
	p.pass(time.Minute)
	if r := p.box.last(); len(r.Minutes)+len(r.Drops)+len(r.Failures) != 0 {
		t.Errorf("it is told twice: %+v", r)
	}
}

func TestAJobIsDisabledAfterADayOfFailures(t *testing.T) {
	s := &sealed{}
	fail := func(p *pulsed) {
		p.member.ledger.tried(p.at, s, 503, false, 0)
		p.member.ledger.failed(3, p.at, "error 503: away")
	}
	p := newPulsed(t, 24*time.Hour)
	end := p.member.ledger.begin(3, s)
	began := p.at
	for range 24 {
		fail(p)
		p.pass(59 * time.Minute)
	}
	if p.box.disabled != "" {
		t.Fatalf("disabled after %s", p.at.Sub(began))
	}
	p.pass(25 * time.Minute)
	for _, part := range []string{"no upload has succeeded since 2026-11-27T12:00:00Z", "error 503: away", "POST /logpush/jobs/42/replays", "2026-11-28T12:01:00Z"} {
		if !strings.Contains(p.box.disabled, part) {
			t.Errorf("after a day the message is %q, without %q", p.box.disabled, part)
		}
	}
	end()

	p = newPulsed(t, 24*time.Hour) // one success in a day is enough
	defer p.member.ledger.begin(3, s)()
	for hour := range 60 {
		fail(p)
		if hour%20 == 19 {
			p.member.ledger.tried(p.at, s, statusTaken, true, 0)
			fail(p)
		}
		p.pass(time.Hour)
	}
	if p.box.disabled != "" {
		t.Errorf("disabled though it delivers: %s", p.box.disabled)
	}

	p = newPulsed(t, 24*time.Hour) // nothing to upload
	end = p.member.ledger.begin(3, s)
	fail(p)
	p.pass(time.Second)
	end()
	p.pass(48 * time.Hour)
	p.pass(time.Hour)
	if p.box.disabled != "" {
		t.Errorf("disabled without anything to upload: %s", p.box.disabled)
	}

	p = newPulsed(t, 24*time.Hour) // it did not run for two days
	p.box.failing = p.at.Add(-48 * time.Hour)
	defer p.member.ledger.begin(3, s)()
	fail(p)
	p.pass(time.Second)
	if p.box.disabled != "" {
		t.Errorf("disabled at the first failure after a stop: %s", p.box.disabled)
	}
	p.pass(11 * time.Minute)
	if p.box.disabled == "" {
		t.Error("not disabled after it has failed here, too")
	}
}

// alertbox knows one webhook and who was told.
type alertbox struct {
	mu   sync.Mutex
	hook logjob.AlertHook
	sent map[string]bool
}

func (b *alertbox) AlertHook(_ context.Context, accountID string) (logjob.AlertHook, error) {
	if accountID != account {
		return logjob.AlertHook{}, errs.New(errs.NotFound, 0, "none")
	}
	return b.hook, nil
}

func (b *alertbox) ClaimAlert(_ context.Context, _ int64, kind string, _ time.Duration) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.sent[kind] {
		return false, nil
	}
	b.sent[kind] = true
	return true, nil
}

func (*alertbox) RecoveryDue(context.Context, int64, string, string) (due, fails bool, err error) {
	return false, false, nil
}

func (b *alertbox) ReleaseAlert(_ context.Context, _ int64, kind string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.sent, kind)
	return nil
}

func TestAlertsReachTheWebhook(t *testing.T) {
	type received struct {
		auth string
		notification
	}
	var mu sync.Mutex
	var got []received
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		one := received{auth: r.Header.Get("cf-webhook-auth")}
		if err == nil {
			err = json.Unmarshal(text, &one.notification)
		}
		if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s, error %v", r.Method, text, err)
		}
		mu.Lock()
		defer mu.Unlock()
		got = append(got, one)
	}))
	defer server.Close()
	box := &alertbox{hook: logjob.AlertHook{URL: server.URL, Secret: "s3cret", PolicyID: "p1"}, sent: map[string]bool{}}
	a, err := newAlerter(box, server.Client(), time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx, ctx) })
	defer running.Wait()
	defer cancel()

	b := newBatched(t, nil)
	b.health.alert = func(kind, message string) { a.send(b.job, kind, message, time.Unix(1_700_000_000, 0)) }
	b.health.Failed(0, time.Now(), "error 503: away")
	b.health.Failed(1, time.Now(), "error 503: away") // the job fails already
	b.health.Succeeded(0, time.Now())
	b.health.Succeeded(1, time.Now())
	b.health.Failed(0, time.Now(), "error 503: away again") // told of lately
	b.health.Refused(time.Now(), "1 record was refused")
	b.health.Lost(time.Now(), "lost 3 records")
	other := b.job
	other.AccountID = "other"
	a.send(other, AlertFailing, "nobody wants it", time.Now())
	a.send(b.job, AlertDisabled, "disabled", time.Unix(1_700_000_000, 0))

	kinds := []string{AlertFailing, AlertRecovered, AlertLetters, AlertLost, AlertDisabled}
	eventually(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if len(got) < len(kinds) {
			return errors.New("not all alerts are there")
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	for i, one := range got {
		if i >= len(kinds) || one.AlertType != kinds[i] || one.Name != alertNames[kinds[i]] {
			t.Errorf("alert %d is %+v, want the types %v", i, one, kinds)
			continue
		}
		if one.auth != "s3cret" || one.PolicyID != "p1" || one.AccountID != account || one.TS != 1_700_000_000 ||
			one.Data["job_id"] != "42" || !strings.HasPrefix(one.Text, "Logpush job 42 (bucket://42/") || strings.Contains(one.Text, "hunter22") {
			t.Errorf("alert %d is %+v", i, one)
		}
	}
}

// A job that was mended by other settings goes on under them as if it had never failed: nobody was told that it does.
func TestAJobThatIsMendedByItsSettingsIsToldToGoOn(t *testing.T) {
	told := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notification
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		told <- n.AlertType
	}))
	defer server.Close()
	p := newPlatform(t)
	j, broken := p.addJob(1)
	broken.set(func(Object) error { return &UploadError{Status: 403, Text: "no", Permanent: true} })
	p.buckets["2"] = newBucket()
	box := &alertbox{hook: logjob.AlertHook{URL: server.URL}, sent: map[string]bool{}}
	defer p.manage(func(c *Config) { c.Alerts, c.AlertClient, c.AlertEvery = box, server.Client(), time.Hour })()
	p.produce(10)
	next := func(want string) {
		t.Helper()
		select {
		case got := <-told:
			if got != want {
				t.Fatalf("told %s, want %s", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("nobody was told %s", want)
		}
	}
	next(AlertFailing)
	j.Name = "renamed" // and not mended
	p.set(j)
	p.produce(10)
	j.DestinationConf = strings.Replace(j.DestinationConf, "bucket://1", "bucket://2", 1)
	p.set(j)
	next(AlertRecovered)
}

func TestAnAlertThatFailsMayBeSentAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer server.Close()
	box := &alertbox{hook: logjob.AlertHook{URL: server.URL}, sent: map[string]bool{}}
	a, err := newAlerter(box, server.Client(), time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(0, cancel) // the pause between tries need not be waited for
	if sent, err := a.tell(ctx, alert{job(42), AlertFailing, "x", time.Now()}); err == nil || sent || box.sent[AlertFailing] {
		t.Errorf("sent %v, error %v, claimed %v", sent, err, box.sent)
	}
	// Nobody sends: those who have alerts do not wait.
	for i := range int64(2 * alertsQueued) {
		a.send(job(i), AlertLost, "x", time.Now())
		a.send(job(i), AlertLost, "again", time.Now())
	}
	if list := a.waiting[account]; len(list) != alertsQueued || list[0].message != "again" {
		t.Errorf("%d alerts wait: %+v", len(list), list)
	}
}

// One account's webhook that does not answer kept the alerts of all others waiting, and in the end they were dropped.
func TestAlertsDoNotWaitForOtherAccounts(t *testing.T) {
	asked, told, over := make(chan struct{}, 1), make(chan string, 1), make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		_, _ = io.Copy(io.Discard, r.Body)
		<-over
	}))
	defer silent.Close()
	defer close(over)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n notification
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		told <- n.AccountID
	}))
	defer server.Close()
	a, err := newAlerter(hooks{account: {URL: silent.URL}, "other": {URL: server.URL}}, &http.Client{}, time.Hour, quiet)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { a.Run(ctx, ctx) })
	defer running.Wait()
	defer cancel()
	a.send(job(42), AlertFailing, "x", time.Now())
	<-asked
	other := job(43)
	other.AccountID = "other"
	a.send(other, AlertFailing, "x", time.Now())
	select {
	case <-told:
	case <-asked: // the next try
		t.Error("the other account had to wait")
	}
}

// hooks are the webhooks of accounts, each of which may always be told.
type hooks map[string]logjob.AlertHook

func (h hooks) AlertHook(_ context.Context, accountID string) (logjob.AlertHook, error) {
	return h[accountID], nil
}

func (h hooks) ClaimAlert(context.Context, int64, string, time.Duration) (bool, error) {
	return true, nil
}

func (h hooks) ReleaseAlert(context.Context, int64, string) error { return nil }

func (h hooks) RecoveryDue(context.Context, int64, string, string) (due, fails bool, err error) {
	return false, false, nil
}
