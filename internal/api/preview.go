package api

import (
	"encoding/json"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

// Bounds of the samples that come with a request.
const (
	sampleEventsMax = 1000
	sampleBytesMax  = 4 << 20
	previewLimit    = 100 // of the events that are read, unless the request says
	previewLimitMax = 1000
)

// anyDestination stands in for that of a job that is not stored and names none: one
// that takes files of any size.
const anyDestination = "https://destination.example"

// previewBody is a job's body with what to try it on.
type previewBody struct {
	jobBody
	Events []json.RawMessage `json:"events"`
	Limit  *int              `json:"limit"`
}

// previewJob tries a stored job, changed as the request says.
func (s *Server) previewJob(r *request) (any, error) {
	body, err := r.previewBody()
	if err != nil {
		return nil, err
	}
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	if body.ID != nil && *body.ID != j.ID {
		return nil, errs.New(errs.Invalid, 0, "id is %d, and this is job %d", *body.ID, j.ID).At("/id")
	}
	return s.preview(r, j, body)
}

// previewNewJob tries a job that is not stored.
func (s *Server) previewNewJob(r *request) (any, error) {
	body, err := r.previewBody()
	if err != nil {
		return nil, err
	}
	if body.ID != nil {
		return nil, errs.New(errs.Invalid, 0, "id is %d: this tries a job that is not stored", *body.ID).At("/id")
	}
	if body.DestinationConf == nil {
		body.DestinationConf = new(anyDestination)
	}
	return s.preview(r, logjob.New(r.account), body)
}

func (s *Server) preview(r *request, j logjob.Job, body *previewBody) (any, error) {
	if err := body.Apply(&j); err != nil {
		return nil, err
	}
	var events [][]byte // nil: the newest
	if body.Events != nil {
		events = make([][]byte, len(body.Events))
		for i, e := range body.Events {
			events[i] = e
		}
	}
	limit := previewLimit
	if body.Limit != nil {
		limit = *body.Limit
	}
	return s.deps.Previews.Preview(r.ctx, j, events, limit)
}

// previewBody reads the body, which may be larger than others, or be left out.
func (r *request) previewBody() (*previewBody, error) {
	text, err := r.bodyUpTo(sampleBytesMax + bodyBytesMax)
	if err != nil {
		return nil, err
	}
	var body previewBody
	if len(text) == 0 {
		return &body, nil
	}
	if err := decodeStrict(text, &body); err != nil {
		return nil, err
	}
	if n := len(body.Events); n > sampleEventsMax {
		return nil, errs.New(errs.TooLarge, 0, "events has %d of them, more than the %d allowed", n, sampleEventsMax).At("/events")
	}
	size := 0
	for _, e := range body.Events {
		size += len(e)
	}
	if size > sampleBytesMax {
		return nil, errs.New(errs.TooLarge, 0, "events has %d bytes, more than the %d allowed", size, sampleBytesMax).At("/events")
	}
	if body.Start != nil {
		return nil, errs.New(errs.Invalid, 0, "start is when a delivery begins, and here nothing is delivered: leave it out").At("/start")
	}
	if l := body.Limit; l != nil && (*l < 1 || *l > previewLimitMax) {
		return nil, errs.New(errs.Invalid, 0, "limit is %d: it must be from 1 to %d", *l, previewLimitMax).At("/limit")
	}
	return &body, nil
}
