package api

import (
	"context"
	"errors"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	// resendTimeout bounds what a person waits for: one letter, or all of them.
	resendTimeout = 30 * time.Second
	// closeTimeout bounds the note that a letter was taken.
	closeTimeout = 5 * time.Second
	// resendMax of one request; a caller asks again while letters are left.
	resendMax = 100
)

// letterView is a letter with its times in the API's form.
type letterView struct {
	logjob.DeadLetter
	From      timestamp  `json:"from"`
	Until     timestamp  `json:"until"`
	CreatedOn timestamp  `json:"created_on"`
	ResentOn  *timestamp `json:"resent_on"`
}

func viewLetter(l logjob.DeadLetter) letterView {
	return letterView{l, timestamp(l.From), timestamp(l.Until), timestamp(l.CreatedOn), (*timestamp)(l.ResentOn)}
}

func (s *Server) listLetters(r *request) (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	page, perPage, err := r.page()
	if err != nil {
		return nil, err
	}
	state := r.gin.Query("state")
	switch state {
	case "", logjob.LetterNew, logjob.LetterResent, logjob.LetterDeleted:
	default:
		return nil, errs.New(errs.Invalid, 0, "state is %q: it must be %s, %s or %s", shown(state), logjob.LetterNew, logjob.LetterResent, logjob.LetterDeleted)
	}
	list, total, err := s.deps.Letters.DeadLetters(r.ctx, r.account, id, state, perPage, (page-1)*perPage)
	r.info = &resultInfo{Page: page, PerPage: perPage, Count: len(list), TotalCount: total}
	return views(list, viewLetter), err
}

// letter returns the letter of the path, with its content.
func (s *Server) letter(r *request) (logjob.DeadLetter, error) {
	id, err := r.jobID()
	if err != nil {
		return logjob.DeadLetter{}, err
	}
	return s.deps.Letters.DeadLetter(r.ctx, r.account, id, r.param("letter"))
}

func (s *Server) getLetter(r *request) (any, error) {
	l, err := s.letter(r)
	return viewLetter(l), err
}

// getLetterContent answers what was sent, uncompressed. It is for downloading: what
// is in it came from anywhere.
func (s *Server) getLetterContent(r *request) (any, error) {
	l, err := s.letter(r)
	if err != nil {
		return nil, err
	}
	if l.State != logjob.LetterNew {
		return nil, gone(l)
	}
	text, err := l.Content()
	return rawAnswer{contentType: "application/octet-stream", body: text}, err
}

func gone(l logjob.DeadLetter) error {
	return errs.New(errs.Conflict, 0, "dead letter %q is %s: its content is no longer kept", l.ID, l.State)
}

func (s *Server) deleteLetter(r *request) (any, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	l, err := s.deps.Letters.CloseDeadLetter(r.ctx, r.account, id, r.param("letter"), logjob.LetterDeleted)
	return viewLetter(l), err
}

// resent is what became of one letter.
type resent struct {
	ID    string  `json:"id"`
	State string  `json:"state"`
	Error *string `json:"error"` // why the destination did not take it
}

// resendLetter answers 200 also when the destination refuses: that is the answer.
func (s *Server) resendLetter(r *request) (any, error) {
	ctx, cancel := context.WithTimeout(r.ctx, resendTimeout)
	defer cancel()
	return s.resend(ctx, r, r.param("letter"))
}

// resend sends a letter to where the job of the path delivers by now.
func (s *Server) resend(ctx context.Context, r *request, id string) (resent, error) {
	j, err := s.job(r)
	if err != nil {
		return resent{}, err
	}
	// Two at once would both find it waiting, and the destination would have it twice.
	if _, busy := s.resending.LoadOrStore(id, struct{}{}); busy {
		return resent{}, errs.New(errs.Conflict, 0, "dead letter %q is being sent by another request", shown(id))
	}
	defer s.resending.Delete(id)
	l, err := s.deps.Letters.DeadLetter(r.ctx, r.account, j.ID, id)
	if err != nil {
		return resent{}, err
	}
	if l.State != logjob.LetterNew {
		return resent{}, gone(l)
	}
	status, err := s.deps.Destinations.SendLetter(ctx, j, l)
	if err != nil {
		if r.ctx.Err() != nil { // the caller is gone; the letter stays
			return resent{}, r.ctx.Err()
		}
		reason := err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			reason = "the destination did not answer in time"
		}
		if err := s.deps.Letters.RefuseDeadLetter(r.ctx, id, status, reason); err != nil {
			return resent{}, err
		}
		return resent{ID: id, State: l.State, Error: &reason}, nil
	}
	// The destination has it, also if the caller is gone: it must not get it again.
	closing, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), closeTimeout)
	defer cancel()
	l, err = s.deps.Letters.CloseDeadLetter(closing, r.account, j.ID, id, logjob.LetterResent)
	return resent{ID: id, State: l.State}, err
}

// resendLetters sends letters that wait, the least tried ones first, until one request
// has done enough.
func (s *Server) resendLetters(r *request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	list, total, err := s.deps.Letters.WaitingLetters(r.ctx, r.account, j.ID, resendMax)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, resendTimeout)
	defer cancel()
	answer := struct {
		Letters []resent `json:"letters"`
		Left    int      `json:"left"` // that wait and were not tried
	}{[]resent{}, total}
	for _, l := range list {
		if ctx.Err() != nil {
			break
		}
		one, err := s.resend(ctx, r, l.ID)
		if kind := errs.KindOf(err); kind == errs.Conflict || kind == errs.NotFound { // somebody else was faster
			answer.Left--
			continue
		}
		if err != nil {
			return nil, err
		}
		answer.Letters = append(answer.Letters, one)
		answer.Left--
	}
	return answer, nil
}
