package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api"
	"tidegate/internal/deploy"
	"tidegate/schema"
)

// held questions are not answered before they are released, or their caller leaves.
type held struct {
	asked   chan string // the account of each
	left    chan string // the account of each whose caller left
	release chan struct{}
}

func hold(p *platform) held {
	h := held{make(chan string, 10), make(chan string, 10), make(chan struct{})}
	p.metrics.invocations = func(ctx context.Context, q schema.InvocationQuery) ([]schema.InvocationGroup, error) {
		h.asked <- q.AccountID
		select {
		case <-h.release:
			return nil, nil
		case <-ctx.Done():
			h.left <- q.AccountID
			return nil, ctx.Err()
		}
	}
	return h
}

// ask sends a question about an account's invocations, which goes on behind the test.
func (p *platform) ask(ctx context.Context, t *testing.T, accountID string) <-chan int {
	t.Helper()
	body := fmt.Sprintf(`{"query": "{ viewer { accounts(filter: {accountTag: \"%s\"}) { workersInvocationsAdaptive(limit: 1, filter: {date: \"2026-01-01\"}) { sum { requests } } } } }"}`, accountID)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/client/v4/graphql", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = bearer(p.token)
	status := make(chan int, 1)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			status <- 0 // the caller left
			return
		}
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	return status
}

// await is the next value, which must come within a minute.
func await[T any](t *testing.T, what string, from <-chan T) (value T) {
	t.Helper()
	select {
	case value = <-from:
	case <-time.After(time.Minute):
		t.Fatalf("%s: nothing for a minute", what)
	}
	return value
}

// A dashboard that is open in many windows must not keep the rollback controller, or
// another account, from asking.
func TestQuestionsBeyondTheBoundAreRefused(t *testing.T) {
	p := newPlatform(t)
	p.upload(t, "shop", "v1")
	other, err := p.CreateAccount(t.Context(), "Other")
	if err != nil {
		t.Fatal(err)
	}
	p.server.NeverWaitForQuestions()
	h := hold(p)
	var answers []<-chan int
	begin := func(accountID string) {
		t.Helper()
		answers = append(answers, p.ask(t.Context(), t, accountID))
		if got := await(t, "a question is asked", h.asked); got != accountID {
			t.Errorf("the question is about %s", got)
		}
	}
	for range api.AccountQuestions {
		begin(account)
	}
	for _, path := range []string{
		"/workers/metrics", "/workers/scripts/shop/metrics", "/workers/scripts/shop/metrics/compare", "/workers/scripts/shop/events",
		"/workers/scripts/shop/exceptions", "/workers/events/0123456789abcdef",
	} {
		p.call(t, http.MethodGet, path, "").want(t, http.StatusServiceUnavailable, 10013, "too many questions", fmt.Sprintf("an account may have %d", api.AccountQuestions))
	}
	for _, groups := range []string{
		`workersInvocationsAdaptive(limit: 1, filter: {date: "2026-01-01"}) { sum { requests } }`,
		`logpushHealthAdaptiveGroups(limit: 1, filter: {}) { count }`, // a month of ten jobs is 100 MB
	} {
		query := fmt.Sprintf(`{ viewer { accounts(filter: {accountTag: %q}) { %s } } }`, account, groups)
		if got := p.graph(t, p.token, query, nil); !strings.HasPrefix(got, `503 {"data":null,"errors":[{"message":"too many queries in progress, please try again later: `) {
			t.Errorf("the question too many about %s is answered %s", groups, got)
		}
	}
	for range api.Questions - api.AccountQuestions {
		begin(other.ID)
	}
	if status := await(t, "the answer", p.ask(t.Context(), t, other.ID)); status != http.StatusServiceUnavailable {
		t.Errorf("beyond the bound of all another account is answered %d", status)
	}
	close(h.release)
	for _, answer := range answers {
		if status := await(t, "the answer", answer); status != http.StatusOK {
			t.Errorf("a question within the bound is answered %d", status)
		}
	}
	p.call(t, http.MethodGet, "/workers/metrics", "").ok(t)
}

func TestQuestionsWaitForTheirTurn(t *testing.T) {
	p := newPlatform(t)
	p.server.WaitForQuestions(time.Minute)
	h := hold(p)
	var answers []<-chan int
	for range api.AccountQuestions + 1 {
		answers = append(answers, p.ask(t.Context(), t, account))
	}
	for range api.AccountQuestions {
		await(t, "a question is asked", h.asked)
	}
	select {
	case <-h.asked:
		t.Fatal("more questions are asked at once than an account may have")
	case h.release <- struct{}{}: // one is answered
	}
	await(t, "the one that waited is asked", h.asked)
	close(h.release)
	for _, answer := range answers {
		if status := await(t, "the answer", answer); status != http.StatusOK {
			t.Errorf("a question is answered %d", status)
		}
	}
}

// Who leaves takes the question along, and gives the turn to others.
func TestAQuestionEndsWithItsCaller(t *testing.T) {
	p := newPlatform(t)
	p.server.NeverWaitForQuestions()
	h := hold(p)
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	for range api.AccountQuestions {
		p.ask(ctx, t, account)
		await(t, "a question is asked", h.asked)
	}
	leave()
	for range api.AccountQuestions {
		await(t, "the question is given up", h.left)
	}
	close(h.release)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		status := await(t, "the answer", p.ask(t.Context(), t, account))
		if status == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after all have left a question is answered %d", status)
		}
	}
}

// slowFeed finds the end of the topic when it is told to.
type slowFeed struct {
	*feed
	find chan struct{}
}

func (f slowFeed) Follow(ctx context.Context, accountID string, deliver func(deploy.TailMessage)) error {
	select {
	case <-f.find:
		return f.feed.Follow(ctx, accountID, deliver)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestAStreamBeatsBeforeItHasFoundTheEndOfTheTopic: Kafka is slow, or away. Whoever watches
// is told at once that the stream is open and then that it is alive, so that neither a proxy
// nor the viewer gives it up, and sees what comes when the feed goes on.
func TestAStreamBeatsBeforeItHasFoundTheEndOfTheTopic(t *testing.T) {
	find := make(chan struct{})
	p := newPlatformAt(t, api.Config{}, nil, func(d *api.Deps) { d.LiveEvents = slowFeed{d.LiveEvents.(*feed), find} })
	p.upload(t, "shop", "v1")
	p.server.BeatEvery(time.Millisecond)
	s := p.watch(t, "shop", "")
	for range 5 {
		s.want("heartbeat", `"sent":0,"dropped":0`)
	}
	p.live.sendTo(account, deploy.TailMessage{Value: []byte(storedEvent)}) // nobody is there yet
	s.want("heartbeat", `"sent":0,"dropped":0`)
	close(find)
	p.live.await(t, 1)
	p.live.sendTo(account, deploy.TailMessage{Value: []byte(strings.Replace(storedEvent, `"ok"`, `"exception"`, 1))})
	for {
		name, data, ok := s.next()
		if !ok {
			t.Fatal("the stream ended")
		}
		if name == "event" {
			if !strings.Contains(data, `"Outcome":"exception"`) {
				t.Errorf("what came before the end of the topic was found is shown: %s", data)
			}
			break
		}
	}
	for {
		if name, data, _ := s.next(); name == "heartbeat" {
			if !strings.Contains(data, `"sent":1,"dropped":0`) {
				t.Errorf("the heartbeat after the event is %s", data)
			}
			return
		}
	}
}
