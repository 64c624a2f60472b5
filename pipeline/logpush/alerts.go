package logpush

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
	"tidegate/internal/telemetry"
)

// Types of alerts. The first is Cloudflare's, the others are ours.
const (
	AlertDisabled  = "failing_logpush_job_disabled_alert"
	AlertFailing   = "tidegate_logpush_job_failing_alert"
	AlertRecovered = "tidegate_logpush_job_recovered_alert"
	AlertLetters   = "tidegate_logpush_dead_letters_alert"
	AlertLost      = "tidegate_logpush_events_lost_alert"
)

// alertNames are what people read first.
var alertNames = map[string]string{
	AlertDisabled:  "Failing Logpush Job Disabled",
	AlertFailing:   "Logpush Job Failing",
	AlertRecovered: "Logpush Job Recovered",
	AlertLetters:   "Logpush Dead Letters",
	AlertLost:      "Logpush Events Lost",
}

const (
	alertsQueued = 100 // alerts of one account that wait; more are counted and left out
	alertTries   = 3
	alertPause   = 5 * time.Second
	alertTimeout = 15 * time.Second
	alertRelease = time.Second // at a stop
)

// AlertStore knows who is told, and who was. Its methods are safe for concurrent use.
type AlertStore interface {
	// AlertHook is not_found for an account that wants no alerts.
	AlertHook(ctx context.Context, accountID string) (logjob.AlertHook, error)
	// ClaimAlert reports whether this alert may be sent now: of one job and type one
	// in every so often, whoever asks first.
	ClaimAlert(ctx context.Context, jobID int64, kind string, every time.Duration) (bool, error)
	// ReleaseAlert takes a claim back whose alert could not be sent.
	ReleaseAlert(ctx context.Context, jobID int64, kind string) error
	// RecoveryDue reports whether an alert of one type was sent and none of the other since, and
	// whether a partition of the job fails, in whatever process.
	RecoveryDue(ctx context.Context, jobID int64, failing, recovered string) (due, fails bool, err error)
}

// alerter sends alerts beside delivery, which never waits for it, and those of an account beside those of
// others, whose webhooks may be slow. A nil alerter sends none.
type alerter struct {
	store  AlertStore
	client *http.Client
	every  time.Duration
	log    *slog.Logger
	count  metric.Int64Counter

	mu      sync.Mutex
	waiting map[string][]alert   // by account; while Run runs, those of one that is there are being sent
	begin   func(account string) // sends what waits; nil unless Run runs
	over    bool                 // Run has ended: nobody sends any more
}

type alert struct {
	job     logjob.Job
	kind    string
	message string
	at      time.Time
}

func newAlerter(store AlertStore, client *http.Client, every time.Duration, log *slog.Logger) (*alerter, error) {
	count, err := telemetry.Meter("tidegate/pipeline/logpush").Int64Counter("tidegate_logpush_alerts_total",
		metric.WithDescription("Alerts by type and result: sent, failed, dropped (too many waited, or they still did when the process stopped)."))
	return &alerter{store: store, client: client, every: every, log: log, count: count, waiting: map[string][]alert{}}, err
}

// send returns at once. Message holds no credentials.
func (a *alerter) send(j logjob.Job, kind, message string, at time.Time) {
	if a == nil {
		return
	}
	one := alert{j, kind, message, at}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		a.dropped(one)
		return
	}
	list, sending := a.waiting[j.AccountID]
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].job.ID == j.ID {
			if list[i].kind == kind { // nothing happened in between
				list[i] = one
				return
			}
			break
		}
	}
	if len(list) >= alertsQueued {
		a.counted(context.Background(), kind, "dropped")
		return
	}
	a.waiting[j.AccountID] = append(list, one)
	if !sending && a.begin != nil {
		a.begin(j.AccountID)
	}
}

func (a *alerter) counted(ctx context.Context, kind, result string) {
	a.count.Add(ctx, 1, metric.WithAttributes(attribute.String("type", kind), attribute.String("result", result)))
}

// dropped counts an alert that nobody sends because the process stops.
func (a *alerter) dropped(one alert) {
	a.counted(context.Background(), one.kind, "dropped")
	a.log.Warn("an alert was not sent: the process stops", "job", one.job.ID, "type", one.kind, "text", one.message)
}

// Run sends until ctx ends, and then what waits, until sending ends. The rest is counted and logged.
func (a *alerter) Run(ctx, sending context.Context) {
	var accounts sync.WaitGroup
	a.mu.Lock()
	a.begin = func(account string) { accounts.Go(func() { a.sendAll(sending, account) }) }
	for account := range a.waiting {
		a.begin(account)
	}
	a.mu.Unlock()
	<-ctx.Done()
	a.mu.Lock()
	a.begin, a.over = nil, true
	a.mu.Unlock()
	accounts.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, list := range a.waiting {
		for _, one := range list {
			a.dropped(one)
		}
	}
	clear(a.waiting)
}

// sendAll sends what waits of an account.
func (a *alerter) sendAll(ctx context.Context, account string) {
	for ctx.Err() == nil {
		one, ok := a.next(account)
		if !ok {
			return
		}
		sent, err := a.tell(ctx, one)
		switch {
		case err != nil && ctx.Err() != nil:
			a.dropped(one)
		case err != nil:
			a.counted(ctx, one.kind, "failed")
			a.log.WarnContext(ctx, "an alert could not be sent", "job", one.job.ID, "type", one.kind, "error", err)
		case sent:
			a.counted(ctx, one.kind, "sent")
		}
	}
}

// next takes the oldest alert of an account that waits.
func (a *alerter) next(account string) (alert, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.waiting[account]
	if len(list) == 0 {
		delete(a.waiting, account)
		return alert{}, false
	}
	a.waiting[account] = list[1:]
	return list[0], true
}

// tell sends one alert, if somebody wants it and was not told of such a one lately.
func (a *alerter) tell(ctx context.Context, one alert) (sent bool, err error) {
	hook, err := a.store.AlertHook(ctx, one.job.AccountID)
	if errs.KindOf(err) == errs.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if ok, err := a.store.ClaimAlert(ctx, one.job.ID, one.kind, a.every); err != nil || !ok {
		return false, err
	}
	for try := 1; ; try++ {
		err := a.post(ctx, hook, one)
		if err == nil {
			return true, nil
		}
		if try == alertTries || ctx.Err() != nil {
			most := alertTimeout
			if ctx.Err() != nil {
				most = alertRelease
			}
			release, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
			defer cancel()
			if failed := a.store.ReleaseAlert(release, one.job.ID, one.kind); failed != nil {
				err = fmt.Errorf("%w; and the next one of its type has to wait: %w", err, failed)
			}
			return false, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(alertPause):
		}
	}
}

// notification is Cloudflare's generic webhook.
type notification struct {
	Name      string            `json:"name"`
	Text      string            `json:"text"`
	Data      map[string]string `json:"data"`
	TS        int64             `json:"ts"` // Unix seconds
	AccountID string            `json:"account_id"`
	PolicyID  string            `json:"policy_id"`
	AlertType string            `json:"alert_type"`
}

func (a *alerter) post(ctx context.Context, hook logjob.AlertHook, one alert) error {
	ctx, cancel := context.WithTimeout(ctx, alertTimeout)
	defer cancel()
	id := strconv.FormatInt(one.job.ID, 10)
	destination := logjob.MaskDestination(one.job.DestinationConf)
	body, err := json.Marshal(notification{
		Name: alertNames[one.kind], Text: fmt.Sprintf("Logpush job %s (%s): %s", id, destination, one.message),
		Data: map[string]string{"job_id": id, "job_name": one.job.Name, "destination": destination, "message": one.message},
		TS:   one.at.Unix(), AccountID: one.job.AccountID, PolicyID: hook.PolicyID, AlertType: one.kind,
	})
	if err != nil {
		return fmt.Errorf("encode an alert: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, hook.URL, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("post an alert: the URL of the account's alerts cannot be used")
	}
	req.Header.Set("Content-Type", "application/json")
	if hook.Secret != "" {
		req.Header.Set("Cf-Webhook-Auth", hook.Secret)
	}
	res, err := a.client.Do(req)
	if err != nil { // its text has the URL, which may be a secret
		return fmt.Errorf("post an alert: the webhook of account %s cannot be reached", one.job.AccountID)
	}
	defer func() { _ = res.Body.Close() }()
	_, _ = io.CopyN(io.Discard, res.Body, 4096) // so that the connection can be used again
	if res.StatusCode >= 300 {
		return fmt.Errorf("post an alert: the webhook of account %s answered %d", one.job.AccountID, res.StatusCode)
	}
	return nil
}
