package api

import (
	"cmp"
	"net/url"
	"slices"
	"time"

	"tidegate/internal/errs"
	"tidegate/internal/logjob"
)

const (
	// healthSince is how far back sums go unless a request says so.
	healthSince = 24 * time.Hour
	// reportsLate is when a partition's report says nothing any more of where it is.
	reportsLate = time.Minute
)

type partitionView struct {
	Partition  int       `json:"partition"`
	ReportedOn timestamp `json:"reported_on"`
	Committed  int64     `json:"committed_offset"`
	Next       int64     `json:"next_offset"`
	LagEvents  *int64    `json:"lag_events"`
	LagSeconds *float64  `json:"lag_seconds"`
	Message    *string   `json:"error_message"`
}

type uploadsView struct {
	Status int  `json:"status"`
	Final  bool `json:"final"`
	logjob.Uploads
}

type failureView struct {
	Partition *int      `json:"partition"`
	FirstOn   timestamp `json:"first_on"`
	LastOn    timestamp `json:"last_on"`
	Times     int64     `json:"times"`
	Message   string    `json:"message"`
}

// stateView is how a job does now. It goes to those who may not see credentials.
type stateView struct {
	JobID        int64      `json:"job_id"`
	Name         string     `json:"name"`
	Dataset      string     `json:"dataset"`
	Destination  string     `json:"destination"` // masked
	State        string     `json:"state"`
	FailingSince *timestamp `json:"failing_since"`
	DisabledOn   *timestamp `json:"disabled_on"`
	LastComplete *timestamp `json:"last_complete"`
	LastError    *timestamp `json:"last_error"`
	Message      *string    `json:"error_message"`
	LagEvents    *int64     `json:"lag_events"`
	LagSeconds   *float64   `json:"lag_seconds"`
	DeadLetters  int64      `json:"dead_letters"`
	// CompleteUntil is null where nobody can tell.
	CompleteUntil *timestamp   `json:"complete_until"`
	LastFailure   *failureView `json:"last_failure"`
}

type healthView struct {
	stateView
	ResumedFrom *timestamp `json:"resumed_from"`

	Partitions []partitionView  `json:"partitions"`
	Since      timestamp        `json:"since"`
	Uploads    []uploadsView    `json:"uploads"`
	Retries    int64            `json:"retries"`
	Dropped    map[string]int64 `json:"dropped"`
	Failures   []failureView    `json:"failures"`
}

func viewPartitions(h logjob.Health, now time.Time) []partitionView {
	return views(h.Partitions, func(p logjob.PartitionHealth) partitionView { return viewPartition(p, now) })
}

func viewState(j logjob.Job, h logjob.Health, partitions []partitionView) stateView {
	v := stateView{
		JobID: j.ID, Name: j.Name, Dataset: j.Dataset, Destination: logjob.MaskDestination(j.DestinationConf),
		FailingSince: optional(h.FailingSince), DisabledOn: optional(h.DisabledOn),
		LastComplete: (*timestamp)(j.LastComplete), LastError: (*timestamp)(j.LastError), Message: j.ErrorMessage,
		DeadLetters: h.Letters, CompleteUntil: optional(h.CompleteUntil()),
	}
	if len(h.Failures) > 0 {
		last := viewFailure(h.Failures[0])
		v.LastFailure = &last
	}
	v.LagEvents, v.LagSeconds = wholeLag(partitions)
	v.State = stateOf(j, h, v.LagEvents)
	return v
}

// listHealth answers how each of an account's jobs does now.
func (s *Server) listHealth(r *request) (any, error) {
	jobs, err := s.deps.Jobs.AccountJobs(r.ctx, r.account)
	if err != nil {
		return nil, err
	}
	health, err := s.deps.Health.AccountHealth(r.ctx, r.account)
	now := s.now()
	return views(jobs, func(j logjob.Job) stateView {
		h := health[j.ID]
		return viewState(j, h, viewPartitions(h, now))
	}), err
}

// getHealth answers what is known; what is not is null.
func (s *Server) getHealth(r *request) (any, error) {
	j, err := s.job(r)
	if err != nil {
		return nil, err
	}
	now := s.now()
	since := now.Add(-healthSince)
	if text := r.gin.Query("since"); text != "" {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			return nil, errs.New(errs.Invalid, 0, "since is %q: it must be a time such as 2026-01-31T12:00:00Z", shown(text))
		}
	}
	h, err := s.deps.Health.JobHealth(r.ctx, r.account, j.ID, since)
	if err != nil {
		return nil, err
	}
	v := healthView{
		ResumedFrom: optional(h.ResumedFrom),
		Partitions:  viewPartitions(h, now), Since: timestamp(since),
		Dropped: h.Drops, Failures: views(h.Failures, viewFailure), Uploads: sumUploads(h.Minutes),
	}
	v.stateView = viewState(j, h, v.Partitions)
	for _, u := range v.Uploads {
		if !u.Final {
			v.Retries += u.Uploads.Uploads
		}
	}
	return v, nil
}

// stateOf takes the lag in events, nil where that is unknown. A job of which nothing
// waits does not fail: its last batch may have become dead letters, all of it. While
// dead letters wait it is not well, though each success clears its last error.
func stateOf(j logjob.Job, h logjob.Health, lag *int64) string {
	failed := !h.FailingSince.IsZero()
	switch {
	case !h.DisabledOn.IsZero():
		return "disabled_failing"
	case !j.Enabled:
		return "disabled"
	case failed && (lag == nil || *lag > 0):
		return "failing"
	case failed, j.ErrorMessage != nil, h.Letters > 0: // one of several partitions, or a loss
		return "degraded"
	}
	return "ok"
}

func viewPartition(p logjob.PartitionHealth, now time.Time) partitionView {
	v := partitionView{Partition: p.Partition, ReportedOn: timestamp(p.ReportedOn), Committed: p.Committed, Next: p.Next}
	if p.Message != "" {
		v.Message = &p.Message
	}
	if now.Sub(p.ReportedOn) > reportsLate {
		return v
	}
	lag := p.Lag()
	v.LagEvents = &lag
	if lag == 0 {
		v.LagSeconds = new(float64)
	} else if !p.OldestOn.IsZero() {
		// Of the report: what it says waits may have been delivered since.
		seconds := max(p.ReportedOn.Sub(p.OldestOn).Seconds(), 0)
		v.LagSeconds = &seconds
	}
	return v
}

// wholeLag is the sum, and the longest, of the partitions; unknown where one is.
func wholeLag(list []partitionView) (events *int64, seconds *float64) {
	if len(list) == 0 {
		return nil, nil
	}
	events, seconds = new(int64), new(float64)
	for _, p := range list {
		if p.LagEvents == nil {
			events = nil
		} else if events != nil {
			*events += *p.LagEvents
		}
		if p.LagSeconds == nil {
			seconds = nil
		} else if seconds != nil {
			*seconds = max(*seconds, *p.LagSeconds)
		}
	}
	return events, seconds
}

func sumUploads(minutes []logjob.MinuteHealth) []uploadsView {
	list := []uploadsView{}
	for _, m := range minutes {
		i := slices.IndexFunc(list, func(u uploadsView) bool { return u.Status == m.Status && u.Final == m.Final })
		if i < 0 {
			i = len(list)
			list = append(list, uploadsView{Status: m.Status, Final: m.Final})
		}
		list[i].Add(m.Uploads)
	}
	slices.SortStableFunc(list, func(a, b uploadsView) int { return cmp.Compare(a.Status, b.Status) })
	return list
}

func viewFailure(f logjob.Failure) failureView {
	v := failureView{FirstOn: timestamp(f.FirstOn), LastOn: timestamp(f.LastOn), Times: f.Times, Message: f.Message}
	if f.Partition >= 0 {
		v.Partition = &f.Partition
	}
	return v
}

// alertsBody is what an account's alerts are set to. The secret is not shown again.
type alertsBody struct {
	URL    *string `json:"url"`
	Secret *string `json:"secret"`
}

type alertsView struct {
	URL       string `json:"url"`
	HasSecret bool   `json:"has_secret"`
	PolicyID  string `json:"policy_id"`
}

func viewAlerts(h logjob.AlertHook) alertsView { return alertsView{h.URL, h.Secret != "", h.PolicyID} }

// getAlerts answers null where nobody is told, which is no error.
func (s *Server) getAlerts(r *request) (any, error) {
	h, err := s.deps.Health.AlertHook(r.ctx, r.account)
	if errs.KindOf(err) == errs.NotFound {
		return nil, nil
	}
	return viewAlerts(h), err
}

func (s *Server) putAlerts(r *request) (any, error) {
	var body alertsBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	var h logjob.AlertHook
	if body.URL != nil {
		h.URL = *body.URL
	}
	if body.Secret != nil {
		h.Secret = *body.Secret
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	if u, err := url.Parse(h.URL); err == nil && s.checkURL != nil { // names are looked up, and checked again, when something is sent
		if err := s.checkURL(u); err != nil {
			return nil, errs.New(errs.Invalid, 0, "url: %v", err).At("/url")
		}
	}
	h, err := s.deps.Health.SaveAlertHook(r.ctx, r.account, h)
	return viewAlerts(h), err
}

func (s *Server) deleteAlerts(r *request) (any, error) {
	return nil, s.deps.Health.DeleteAlertHook(r.ctx, r.account)
}
