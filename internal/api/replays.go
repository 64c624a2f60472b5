package api

import (
	"context"
	"strconv"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

// archiveTimeout bounds the question what is kept. A replay that begins before is no
// fault, so without an answer it is let through.
const archiveTimeout = 3 * time.Second

// replayView is a replay with its times in the API's form, and what follows from it.
type replayView struct {
	logjob.Replay
	From         timestamp  `json:"from"`
	To           *timestamp `json:"to"`
	CreatedOn    timestamp  `json:"created_on"`
	StartedOn    *timestamp `json:"started_on"`
	EndedOn      *timestamp `json:"ended_on"`
	KeptFrom     *timestamp `json:"kept_from"`
	Position     *timestamp `json:"position"`
	OffsetsDone  int64      `json:"offsets_done"`
	OffsetsTotal int64      `json:"offsets_total"`
	EstimatedEnd *timestamp `json:"estimated_end"`
}

func viewReplay(r logjob.Replay) replayView {
	v := replayView{Replay: r, From: timestamp(r.From), To: (*timestamp)(r.To), CreatedOn: timestamp(r.CreatedOn),
		StartedOn: (*timestamp)(r.StartedOn), EndedOn: (*timestamp)(r.EndedOn), KeptFrom: (*timestamp)(r.KeptFrom), Position: (*timestamp)(r.Position)}
	v.OffsetsDone, v.OffsetsTotal = r.Offsets()
	if at, ok := r.EstimatedEnd(time.Now()); ok {
		v.EstimatedEnd = optional(at)
	}
	if v.Losses == nil {
		v.Losses = []logjob.ReplayLoss{}
	}
	return v
}

func (s *Server) createReplay(r *request) (any, error) {
	var q logjob.ReplayRequest
	if err := r.decode(&q); err != nil {
		return nil, err
	}
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	if q.To == nil && !j.Enabled {
		return nil, errs.New(errs.Invalid, codeLogpush,
			"to is missing: it may be left out only where live delivery goes on from, and job %d is switched off", j.ID).At("/to")
	}
	if err := q.Validate(time.Now()); err != nil {
		return nil, err
	}
	if q.To != nil {
		if err := s.checkKept(r.ctx, j.AccountID, *q.To); err != nil {
			return nil, err
		}
	}
	replay, err := s.deps.Replays.CreateReplay(r.ctx, r.account, j.ID, q)
	return viewReplay(replay), err
}

// checkKept refuses a replay up to a time from before which neither ClickHouse nor Kafka
// has events. Where one of them cannot say so, the replay finds out.
func (s *Server) checkKept(ctx context.Context, accountID string, to time.Time) error {
	if s.deps.Archive == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, archiveTimeout)
	defer cancel()
	oldest, ok, err := s.deps.Archive.OldestEvent(ctx, accountID)
	if err != nil || !ok || to.After(oldest) {
		return nil
	}
	if held, err := s.deps.Previews.MayHold(ctx, to); err != nil || held {
		return nil
	}
	return logjob.ReplayGone(to, oldest)
}

// checkStart refuses the start of a new job that its replay could not have.
func checkStart(j *logjob.Job) error {
	if j.Start.IsZero() {
		return nil
	}
	q := logjob.ReplayRequest{From: j.Start}
	if err := q.Validate(time.Now()); err != nil {
		return errs.New(errs.Invalid, codeLogpush, "start cannot be honoured: %v", err).At("/start")
	}
	return nil
}

func (s *Server) listReplays(r *request) (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	list, err := s.deps.Replays.Replays(r.ctx, r.account, id)
	return views(list, viewReplay), err
}

func (r *request) replayID() (job, replay int64, err error) {
	if job, err = r.jobID(); err != nil {
		return 0, 0, err
	}
	replay, err = strconv.ParseInt(r.param("replay"), 10, 64)
	if err != nil {
		err = errs.New(errs.NotFound, 0, "job %d has no replay %q: an id is a whole number", job, shown(r.param("replay")))
	}
	return job, replay, err
}

func (s *Server) getReplay(r *request) (any, error) {
	job, id, err := r.replayID()
	if err != nil {
		return nil, err
	}
	replay, err := s.deps.Replays.Replay(r.ctx, r.account, job, id)
	return viewReplay(replay), err
}

func (s *Server) cancelReplay(r *request) (any, error) {
	job, id, err := r.replayID()
	if err != nil {
		return nil, err
	}
	replay, err := s.deps.Replays.CancelReplay(r.ctx, r.account, job, id)
	return viewReplay(replay), err
}
