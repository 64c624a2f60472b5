package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/internal/logjob"
	"tidegate/schema"
)

// previews remembers what was asked, and answers with one object.
type previews struct {
	mu     sync.Mutex
	job    logjob.Job
	events [][]byte
	limit  int
	oldest time.Time // event in Kafka; zero: it does not answer
}

func (p *previews) Preview(_ context.Context, j logjob.Job, events [][]byte, limit int) (logjob.Preview, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.job, p.events, p.limit = j, events, limit
	return logjob.Preview{
		Source: logjob.PreviewKafka, LookedAt: 7, Sent: 2, Dropped: logjob.PreviewDropped{Filter: 1, Sample: 2, LogpushDisabled: 1, Malformed: 1}, Cut: 1,
		Objects: []logjob.PreviewObject{
			{Name: "a.log.gz", Records: 1, ContentType: "text/csv", Output: "a\n"},
			{Name: "b.log.gz", Records: 1, ContentType: "text/csv", OutputBase64: []byte{0xff}, OneByOne: true},
		},
	}, nil
}

func (p *previews) MayHold(_ context.Context, before time.Time) (bool, error) {
	if p.oldest.IsZero() {
		return false, errors.New("Kafka does not answer")
	}
	return p.oldest.Before(before), nil
}

func TestJobsAreTried(t *testing.T) { previewStory(t, newPlatform(t)) }

func previewStory(t *testing.T, p *platform) {
	ctx := t.Context()
	j := p.mustJob(t, "https://tried.example.com")
	got, err := p.TestJob(ctx, account, j.ID, client.PreviewRequest{})
	if err != nil || got.LookedAt != 7 || got.Dropped.Sample != 2 || len(got.Objects) != 2 || string(got.Objects[0].Bytes()) != "a\n" || string(got.Objects[1].Bytes()) != "\xff" {
		t.Errorf("answered %+v, error %v", got, err)
	}
	if q := p.previews; q.job.ID != j.ID || q.events != nil || q.limit != 100 || q.job.DestinationConf != "https://tried.example.com" {
		t.Errorf("asked for %+v", q.job)
	}
	filter := `{"where":{"key":"Outcome","operator":"eq","value":"ok"}}`
	request := client.PreviewRequest{Limit: new(5), Events: []json.RawMessage{[]byte(`{"Outcome":"ok"}`)}}
	request.Filter, request.OutputOptions = &filter, &logjob.OutputOptions{OutputType: "csv"}
	if _, err := p.TestJob(ctx, account, j.ID, request); err != nil {
		t.Fatal(err)
	}
	if q := p.previews; q.job.Filter != filter || q.job.Output().OutputType != "csv" || q.limit != 5 || len(q.events) != 1 || string(q.events[0]) != `{"Outcome":"ok"}` {
		t.Errorf("asked for %+v of %q", q.job, q.events)
	}
	if stored, err := p.Job(ctx, account, j.ID); err != nil || stored.Filter != "" || stored.OutputOptions != nil {
		t.Errorf("the stored job became %+v, error %v", stored, err)
	}
	dataset := schema.Dataset
	request.Dataset = &dataset
	if _, err := p.TestNewJob(ctx, account, request); err != nil || p.previews.job.ID != 0 || p.previews.job.Filter != filter {
		t.Errorf("asked for %+v, error %v", p.previews.job, err)
	}
	// What a client read may be sent back.
	text, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	p.call(t, http.MethodPost, fmt.Sprintf("/logpush/jobs/%d/test", j.ID), string(text)).ok(t, `"looked_at":7`)
	p.do(t, http.MethodPost, fmt.Sprintf("/client/v4/accounts/%s/logpush/jobs/%d/test", account, j.ID), http.Header{"Authorization": {"Bearer " + p.token}}, "").ok(t)
}

func TestWhatTryingAJobRefuses(t *testing.T) {
	p := newPlatform(t)
	j := p.mustJob(t, "https://tried.example.com")
	path := fmt.Sprintf("/logpush/jobs/%d/test", j.ID)
	f := func(path, body string, status int, words ...string) {
		t.Helper()
		p.call(t, http.MethodPost, path, body).want(t, status, 1002, words...)
	}
	f(path, `{"limit": 0}`, http.StatusBadRequest, "limit", "1000")
	f(path, `{"limit": 1001}`, http.StatusBadRequest, "limit")
	f(path, `{"events": [{}`+strings.Repeat(",{}", 1000)+`]}`, http.StatusRequestEntityTooLarge, "events", "1001")
	f(path, `{"events": [{"a": "`+strings.Repeat("x", 4<<20)+`"}]}`, http.StatusRequestEntityTooLarge, "events", "4194304")
	f(path, `{"events": [{"a": "`+strings.Repeat("x", 6<<20)+`"}]}`, http.StatusRequestEntityTooLarge, "larger")
	f(path, fmt.Sprintf(`{"id": %d}`, j.ID+1), http.StatusBadRequest, "id")
	f(path, `{"dataset": "http_requests"}`, http.StatusBadRequest, "dataset")
	f(path, `{"start": "2026-11-01T00:00:00Z"}`, http.StatusBadRequest, "start")
	f("/logpush/jobs/9999/test", `{}`, http.StatusNotFound, "9999")
	f("/logpush/test", `{}`, http.StatusBadRequest, "dataset")
	f("/logpush/test", `{"dataset": "workers_trace_events", "id": 1}`, http.StatusBadRequest, "id")
	f("/logpush/test", `{"dataset": "workers_trace_events", "output_options": {"sample_rate": 2}}`, http.StatusBadRequest, "sample_rate")
}
