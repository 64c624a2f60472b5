package api

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	// resendTimeout bounds what becomes of one letter: an insert into ClickHouse alone may say
	// nothing for a minute.
	resendTimeout = 75 * time.Second
	// resendTurn is how long one request begins with further letters.
	resendTurn = 30 * time.Second
	// closeTimeout bounds the note that a letter was taken.
	closeTimeout = 5 * time.Second
	// letterLease is for how long a letter is one request's, should its process end.
	letterLease = resendTimeout + 3*closeTimeout
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
	return s.resend(r, r.param("letter"))
}

// resend sends a letter to where the job of the path delivers by now.
func (s *Server) resend(r *request, id string) (resent, error) {
	j, err := s.job(r)
	if err != nil {
		return resent{}, err
	}
	// Two at once, of this process or another, would both find it waiting, and the destination
	// would have it twice.
	name, holder := "dead-letter/"+id, rand.Text()
	held, err := s.deps.Letters.AcquireLease(r.ctx, name, holder, letterLease)
	if err != nil { // which may be about the answer only
		s.releaseLetter(r.ctx, name, holder)
		return resent{}, err
	}
	if !held {
		return resent{}, errs.New(errs.Conflict, 0, "dead letter %q is being sent by another request", shown(id))
	}
	defer s.releaseLetter(r.ctx, name, holder)
	l, err := s.deps.Letters.DeadLetter(r.ctx, r.account, j.ID, id)
	if err != nil {
		return resent{}, err
	}
	if l.State != logjob.LetterNew {
		return resent{}, gone(l)
	}
	ctx, cancel := context.WithTimeout(r.ctx, resendTimeout)
	defer cancel()
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

// releaseLetter lets others send a letter again, also if the caller is gone.
func (s *Server) releaseLetter(ctx context.Context, name, holder string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := s.deps.Letters.ReleaseLease(ctx, name, holder); err != nil {
		s.log.WarnContext(ctx, "a dead letter cannot be sent again for a while", "lease", name, "error", err)
	}
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
	turn := time.Now()
	answer := struct {
		Letters []resent `json:"letters"`
		Left    int      `json:"left"` // that wait and were not tried
	}{[]resent{}, total}
	for _, l := range list {
		if time.Since(turn) >= resendTurn {
			break
		}
		one, err := s.resend(r, l.ID)
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
