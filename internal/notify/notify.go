// Package notify tells people and machines of rollback decisions.
//
// The store puts a message for each target of a policy into an outbox, in the
// transaction that stores the decision. Service.Run claims what is due, sends it, and
// stores what came of it: traffic has moved by then, and waits for nothing here. A
// message may be sent twice, when a process ends between sending and storing, and then
// carries the same id. What each target is sent is a plain function of the message:
// webhook, slack, alertmanager and mail.
package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/internal/telemetry"
)

const (
	pollInterval = time.Second
	// tryTimeout bounds one try, from the look-up of a name to the end of the answer.
	tryTimeout = 15 * time.Second
	// leaseTime is how long nobody tries a message again after its process was killed:
	// longer than a try and the storing of its result can take.
	leaseTime = time.Minute
	// parallelMax tries at once in one process. The store gives one at a time for each
	// target, and a few for each account.
	parallelMax = 32
	// testParallelMax and testInterval bound what somebody who may edit policies can have
	// us send to addresses of others: so many tries at once, and one test of an account
	// in that time, which is longer than a test takes.
	testParallelMax = 8
	testInterval    = 30 * time.Second
	callTimeout     = 5 * time.Second  // for each call to the store
	stopGrace       = 2 * time.Second  // for tries under way at a stop
	logInterval     = 10 * time.Second // between two lines about an outbox that cannot be read
)

// Outbox keeps messages until they are sent. Its methods are safe for concurrent use.
type Outbox interface {
	// ClaimNotifications returns up to most messages that are due, which no other
	// process gets for the time of the lease. One that could not be read has been
	// given up: its state is failed.
	ClaimNotifications(ctx context.Context, most int, lease time.Duration) ([]deploy.Notification, error)
	// SettleNotification stores State, NextTry and LastError of a claimed message.
	SettleNotification(ctx context.Context, n deploy.Notification) error
}

// Config is what a Service is made of. All but Mail and Links is required.
type Config struct {
	Outbox Outbox
	// Client connects to targets, which users name: it checks addresses and follows no
	// redirects. Explain says in words for a target's owner why it got no answer, and
	// whether another try is in vain.
	Client      *http.Client
	CheckScheme func(scheme string) error // plain http may not be wanted
	Explain     func(error) (text string, permanent bool)
	Mail        Mail
	Links       Links
	Log         *slog.Logger
	Now         func() time.Time
}

// Service sends what is in the outbox.
type Service struct {
	Config
	count metric.Int64Counter
	woken chan struct{} // one waits at most

	mu     sync.Mutex
	tested map[string]time.Time // when the last test of an account began, by its id; not older than testInterval
}

// New returns a service that does nothing before Run or Test.
func New(config Config) (*Service, error) {
	count, err := telemetry.Meter("tidegate/internal/notify").Int64Counter("tidegate_rollback_notifications_total",
		metric.WithDescription("Tries to tell somebody of a rollback decision, by type of the target and result: sent, retried (it failed, and is tried again), failed (given up)."))
	if err != nil {
		return nil, fmt.Errorf("notify: declare the metric: %w", err)
	}
	return &Service{Config: config, count: count, woken: make(chan struct{}, 1), tested: map[string]time.Time{}}, nil
}

// Wake has Run look into the outbox now. It never blocks.
func (s *Service) Wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends, then waits for the tries under way, for a short time, and
// returns nil. What it did not get to is sent by the next process.
func (s *Service) Run(ctx context.Context) error {
	tries, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	free := make(chan struct{}, parallelMax) // holds a token for each try under way
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var logged time.Time
	for ctx.Err() == nil {
		claimed, err := s.claim(ctx, parallelMax-len(free))
		if err != nil && ctx.Err() == nil && s.Now().Sub(logged) >= logInterval {
			logged = s.Now()
			s.Log.ErrorContext(ctx, "notifications not read, trying again", "error", err)
		}
		for _, n := range claimed {
			if n.State == deploy.NotificationFailed {
				s.report(ctx, n, "failed", nil)
				continue
			}
			free <- struct{}{}
			group.Go(func() {
				s.send(tries, n)
				<-free
				s.Wake() // there may be more for this target
			})
		}
		select {
		case <-ctx.Done():
		case <-s.woken:
		case <-ticker.C:
		}
	}
	stop := time.AfterFunc(stopGrace, cancel)
	group.Wait()
	stop.Stop()
	cancel()
	return nil
}

func (s *Service) claim(ctx context.Context, most int) ([]deploy.Notification, error) {
	if most <= 0 {
		return nil, nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return s.Outbox.ClaimNotifications(call, most, leaseTime)
}

// send tries one message and stores what came of it.
func (s *Service) send(ctx context.Context, n deploy.Notification) {
	var err error = &failure{text: fmt.Sprintf("the last of %d tries did not come to an end", triesMax), permanent: true}
	if n.Attempts <= triesMax { // else whatever it does to its process, it has done often enough
		err = s.try(ctx, n)
	}
	after, result := settled(n, err, s.Now())
	if err != nil && ctx.Err() != nil { // stopping is no fault of the target
		after.State, after.NextTry, after.LastError = deploy.NotificationWaiting, s.Now(), "the process that tried it was stopped"
		result = "retried"
	}
	log := s.report(ctx, after, result, err)
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := s.Outbox.SettleNotification(call, after); err != nil {
		log.ErrorContext(ctx, "result of a notification not stored, it is sent once more", "error", err)
	}
}

// report counts what came of a message, and logs it unless it was sent. It returns the
// log with the message's names.
func (s *Service) report(ctx context.Context, n deploy.Notification, result string, err error) *slog.Logger {
	s.count.Add(ctx, 1, metric.WithAttributes(attribute.String("type", string(n.Target.Type)), attribute.String("result", result)))
	log := s.Log.With("notification_id", n.ID, "account_id", n.AccountID, "script", n.Script, "type", n.Target.Type, "attempts", n.Attempts)
	if result != "sent" {
		log.WarnContext(ctx, "notification not sent", "result", result, "error", n.LastError, "detail", detailOf(err))
	}
	return log
}

// try sends n once, whoever it is for. Its error is a *failure.
func (s *Service) try(ctx context.Context, n deploy.Notification) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	m := messageOf(n, s.Links)
	switch n.Target.Type {
	case deploy.NotifyWebhook:
		return s.post(ctx, func() (*http.Request, error) { return webhook(ctx, n, m, s.Now()) })
	case deploy.NotifySlack:
		return s.post(ctx, func() (*http.Request, error) { return slack(ctx, n, m) })
	case deploy.NotifyAlertmanager:
		return s.post(ctx, func() (*http.Request, error) { return alertmanager(ctx, n, m) })
	case deploy.NotifyEmail:
		return s.Mail.send(ctx, n, m)
	}
	return &failure{text: fmt.Sprintf("nothing is known of targets of the type %q", n.Target.Type), permanent: true}
}

// Test sends a test message to each target at once and returns what came of it, in
// the order of the targets, e-mails by address. Nothing is tried twice, and it takes no
// longer than one try may. It is unavailable if the account's last test in this process
// began less than testInterval ago.
func (s *Service) Test(ctx context.Context, accountID, script string, targets []deploy.NotifyTarget) ([]deploy.NotifyResult, error) {
	var each []deploy.NotifyTarget
	for _, target := range targets {
		each = append(each, target.Each()...)
	}
	if len(each) == 0 {
		return nil, nil
	}
	if err := s.beginTest(accountID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	results := make([]deploy.NotifyResult, len(each))
	free := make(chan struct{}, testParallelMax)
	var group sync.WaitGroup
	for i, target := range each {
		free <- struct{}{}
		group.Go(func() {
			defer func() { <-free }()
			results[i] = deploy.NotifyResult{Type: target.Type, Target: target.Name(), OK: true}
			if ctx.Err() != nil {
				results[i].OK, results[i].Error = false, "it was not tried: those before it took all of the time"
			} else if err := s.try(ctx, testOf(accountID, script, target, s.Now())); err != nil {
				results[i].OK, results[i].Error = false, reasonOf(err)
			}
		})
	}
	group.Wait()
	return results, nil
}

// beginTest refuses a test too soon after another one of the account.
func (s *Service) beginTest(accountID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.Now()
	maps.DeleteFunc(s.tested, func(_ string, began time.Time) bool { return now.Sub(began) >= testInterval })
	if began, ok := s.tested[accountID]; ok {
		return errs.New(errs.Unavailable, 0, "the account's targets were tested %d seconds ago: test them again after %d",
			int(now.Sub(began).Seconds()), int(testInterval.Seconds()))
	}
	s.tested[accountID] = now
	return nil
}

// failure is why a target was not told, in words for its owner: without the URL, the
// secret, or what our network looks like.
type failure struct {
	text      string
	permanent bool          // another try is in vain
	after     time.Duration // the target asks for so much time; 0: it does not
	detail    error         // for the operator, whose mail server it is; may be nil
}

func (f *failure) Error() string { return f.text }

func detailOf(err error) error {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.detail
	}
	return nil
}

func reasonOf(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return f.text
	}
	return "the message could not be made" // its error may hold the URL
}
