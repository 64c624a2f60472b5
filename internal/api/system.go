package api

import (
	"context"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// System asks the parts of the platform how they are.
type System interface {
	// SystemFacts answers within seconds, whatever is down: what could not be learned has
	// an error in its answer.
	SystemFacts(ctx context.Context) control.SystemFacts
}

const (
	systemHealthPath           = "/system/health"
	systemHealthAuthentication = 5 * time.Second // as long as a part may take to answer
)

const (
	routerTextMax   = 4 << 10
	routerReasonMax = 50
)

// putRouter takes a router's word on itself.
func (s *Server) putRouter(r *request) (any, error) {
	var state control.RouterState
	if err := r.decode(&state); err != nil {
		return nil, err
	}
	switch {
	case state.ID != r.param("router"):
		return nil, errs.New(errs.Invalid, 0, "id is %q: it must be the %q of the path", shown(state.ID), shown(r.param("router"))).At("/id")
	case len(state.ID) > nameCharsMax, len(state.Version) > nameCharsMax:
		return nil, errs.New(errs.Invalid, 0, "id and version may have %d bytes", nameCharsMax).At("/id")
	case state.StartedOn.IsZero():
		return nil, errs.New(errs.Invalid, 0, "started_on is missing: it must be when the router's process began").At("/started_on")
	case len(state.SnapshotError) > routerTextMax:
		return nil, errs.New(errs.Invalid, 0, "snapshot_error has %d bytes: send at most %d", len(state.SnapshotError), routerTextMax).At("/snapshot_error")
	case len(state.Dropped) > routerReasonMax:
		return nil, errs.New(errs.Invalid, 0, "dropped has %d reasons: send at most %d", len(state.Dropped), routerReasonMax).At("/dropped")
	}
	return nil, s.deps.Routers.SaveRouter(r.ctx, state)
}

// partState says how a part is. The worst comes last.
type partState string

const (
	partOK       partState = "ok"
	partUnknown  partState = "unknown"  // nobody can tell
	partDegraded partState = "degraded" // it works, and something is wrong
	partDown     partState = "down"
)

// badness orders states: a part that is known to be degraded matters more than one of
// which nothing is known.
var badness = map[partState]int{partOK: 0, partUnknown: 1, partDegraded: 2, partDown: 3}

// partView is one part of the platform. Of the members at its end it has that of its
// kind, where something is known.
type partView struct {
	Kind     string    `json:"kind"`
	Name     string    `json:"name"`
	State    partState `json:"state"`
	Sentence string    `json:"sentence"`         // what is so
	Advice   string    `json:"advice,omitempty"` // what to do; empty where nothing is to be done

	AnsweredMS *float64      `json:"answered_ms,omitempty"` // the time that the part took to answer
	Router     *routerView   `json:"router,omitempty"`
	Ingest     *ingestView   `json:"ingest,omitempty"`
	Delivery   *deliveryView `json:"delivery,omitempty"`
	Lease      *leaseView    `json:"lease,omitempty"`
	Outbox     *outboxView   `json:"outbox,omitempty"`
}

type routerView struct {
	Version       string           `json:"version"`
	StartedOn     timestamp        `json:"started_on"`
	SeenSince     timestamp        `json:"seen_since"`
	ReportedOn    timestamp        `json:"reported_on"`
	Revision      int64            `json:"revision"`
	ConfirmedOn   *timestamp       `json:"confirmed_on,omitempty"`
	SnapshotError string           `json:"snapshot_error,omitempty"`
	EventsEmitted int64            `json:"events_emitted"`
	EventsSent    int64            `json:"events_sent"`
	QueueEvents   int64            `json:"queue_events"`
	SpoolBytes    int64            `json:"spool_bytes"`
	SpoolBytesMax int64            `json:"spool_bytes_max"`
	Dropped       map[string]int64 `json:"dropped"`
	DroppedOn     *timestamp       `json:"dropped_on,omitempty"`
}

type ingestView struct {
	LagEvents     *int64          `json:"lag_events,omitempty"`
	Partitions    []ingestReading `json:"partitions,omitempty"`
	NewestEventOn *timestamp      `json:"newest_event_on,omitempty"`
}

type ingestReading struct {
	Partition int    `json:"partition"`
	Committed *int64 `json:"committed_offset,omitempty"`
	Next      int64  `json:"next_offset"`
	LagEvents int64  `json:"lag_events"`
}

type deliveryView struct {
	Jobs    int               `json:"jobs"`
	Enabled int               `json:"enabled"`
	Failing []failingDelivery `json:"failing"`
	// Of enabled jobs whose processes have reported in time.
	LagEvents  *int64   `json:"lag_events,omitempty"`
	LagSeconds *float64 `json:"lag_seconds,omitempty"`
}

type failingDelivery struct {
	JobID        int64      `json:"job_id"`
	AccountID    string     `json:"account_id"`
	Name         string     `json:"name"`
	FailingSince *timestamp `json:"failing_since,omitempty"`
	DisabledOn   *timestamp `json:"disabled_on,omitempty"`
}

type leaseView struct {
	Holder    string    `json:"holder"`
	ExpiresOn timestamp `json:"expires_on"`
}

type outboxView struct {
	Waiting     int64      `json:"waiting"`
	OldestOn    *timestamp `json:"oldest_on,omitempty"`
	FailedToday int64      `json:"failed_today"`
}

type systemView struct {
	State    partState  `json:"state"` // the worst of the parts
	At       timestamp  `json:"at"`
	Version  string     `json:"version"` // of the process that answers, as are the next three
	Commit   string     `json:"commit,omitempty"`
	Date     *timestamp `json:"commit_date,omitempty"`
	Go       string     `json:"go_version,omitempty"`
	Revision *int64     `json:"revision,omitempty"`
	Parts    []partView `json:"parts"`
}

// getSystemHealth shows how every part is, as far as the control plane can know.
func (s *Server) getSystemHealth(r *request) (any, error) {
	if s.deps.System == nil {
		return nil, errs.New(errs.Unavailable, 0, "this process does not know how the parts of the platform are")
	}
	facts := s.deps.System.SystemFacts(r.ctx)
	for _, answer := range []control.Answer{facts.Database, facts.Kafka, facts.Engine, facts.Newest} {
		if answer.Err != nil {
			s.log.WarnContext(r.ctx, "a part does not answer", "error", answer.Err)
		}
	}
	if facts.Ages != nil {
		s.log.WarnContext(r.ctx, "Kafka does not tell how old what waits is", "error", facts.Ages)
	}
	now := s.now()
	v := systemView{State: partOK, At: timestamp(now), Version: facts.Build.Version, Commit: facts.Build.Commit, Go: facts.Build.Go, Parts: assess(&facts, now)}
	if !facts.Build.Date.IsZero() {
		date := timestamp(facts.Build.Date)
		v.Date = &date
	}
	if facts.Database.Err == nil {
		v.Revision = &facts.Revision
	}
	for _, p := range v.Parts {
		if badness[p.State] > badness[v.State] {
			v.State = p.State
		}
	}
	return v, nil
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d.Microseconds()) / 1000
	return &ms
}
