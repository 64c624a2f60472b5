package api

import (
	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

type notificationView struct {
	ID         string                   `json:"id"`
	Type       deploy.NotifyOn          `json:"type"`
	DecisionID string                   `json:"decision_id"`
	Sentence   string                   `json:"sentence"`
	Target     targetView               `json:"target"`
	State      deploy.NotificationState `json:"state"`
	Attempts   int                      `json:"attempts"`
	CreatedOn  timestamp                `json:"created_on"`
	TriedOn    *timestamp               `json:"tried_on"`
	NextTryOn  *timestamp               `json:"next_try_on"`
	EndedOn    *timestamp               `json:"ended_on"`
	LastError  *string                  `json:"last_error"`
}

// targetView names a target without what only its owner may know.
type targetView struct {
	Type deploy.NotifyType `json:"type"`
	Name string            `json:"name"`
}

func viewNotification(n deploy.Notification) notificationView {
	v := notificationView{
		ID: n.ID, Type: n.On, DecisionID: n.Decision.ID, Sentence: n.Decision.Sentence, Target: targetView{n.Target.Type, n.Target.Name()},
		State: n.State, Attempts: n.Attempts, CreatedOn: timestamp(n.CreatedOn), TriedOn: optional(n.TriedOn), EndedOn: optional(n.EndedOn),
	}
	if n.State == deploy.NotificationWaiting {
		v.NextTryOn = optional(n.NextTry)
	}
	if n.LastError != "" {
		v.LastError = &n.LastError
	}
	return v
}

func (s *Server) listNotifications(r *request) (any, error) {
	list, err := s.deps.Notifications.Notifications(r.ctx, r.account, r.script())
	return views(list, viewNotification), err
}

// testNotify answers when every target has answered or the time of the test is over.
func (s *Server) testNotify(r *request) (any, error) {
	if s.deps.Notifier == nil {
		return nil, errs.New(errs.Unavailable, 0, "this process sends no notifications")
	}
	targets, err := s.deps.Notifications.NotifyTargets(r.ctx, r.account, r.script())
	if err != nil {
		return nil, err
	}
	results, err := s.deps.Notifier.Test(r.ctx, r.account, r.script(), targets)
	return views(results, func(one deploy.NotifyResult) deploy.NotifyResult { return one }), err
}
