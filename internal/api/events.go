package api

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
	"tidegate/schema"
)

const (
	eventsLimitMax     = 500
	exceptionsLimitMax = 100
	// eventValuesMax bounds the values of one member of a filter.
	eventValuesMax = 20
	eventTextMax   = 500
)

type eventsView struct {
	Since  timestamp         `json:"since"`
	Until  timestamp         `json:"until"`
	Events []json.RawMessage `json:"events"`
	// Cursor asks for what comes after; it is absent where that is known to be nothing.
	Cursor string `json:"cursor,omitempty"`
}

func rawEvents(list []schema.StoredEvent) []json.RawMessage {
	return views(list, func(e schema.StoredEvent) json.RawMessage { return e.Value })
}

// listEvents shows the stored events of a script, newest first.
func (s *Server) listEvents(r *request) (any, error) {
	f, err := s.eventFilter(r)
	if err != nil {
		return nil, err
	}
	if f.Since, f.Until, err = s.timeRange(r); err != nil {
		return nil, err
	}
	limit, err := r.intQuery("limit", 50, 1, eventsLimitMax)
	if err != nil {
		return nil, err
	}
	after, err := schema.ParseEventPosition(r.gin.Query("cursor"))
	if err != nil {
		return nil, errs.New(errs.Invalid, 0, "%v", err)
	}
	list, err := s.deps.Events.Events(r.ctx, f, after, int(limit))
	if err != nil {
		return nil, err
	}
	view := eventsView{Since: timestamp(f.Since), Until: timestamp(f.Until), Events: rawEvents(list)}
	if len(list) == int(limit) || schema.FullEventPage(list) {
		view.Cursor = list[len(list)-1].String()
	}
	return view, nil
}

// eventFilter reads what a question about events of a script names, and makes sure
// that there is the script.
func (s *Server) eventFilter(r *request) (f schema.EventFilter, err error) {
	f = schema.EventFilter{AccountID: r.account, Script: r.script(), Text: r.gin.Query("text")}
	if len(f.Text) > eventTextMax {
		return f, errs.New(errs.Invalid, 0, "text is longer than %d bytes", eventTextMax)
	}
	var statuses []string
	for name, into := range map[string]*[]string{"version": &f.Versions, "outcome": &f.Outcomes, "decision": &f.Decisions, "method": &f.Methods, "status": &statuses} {
		if *into, err = r.listQuery(name); err != nil {
			return f, err
		}
	}
	for name, asked := range map[string]struct{ values, known []string }{"outcome": {f.Outcomes, deploy.Outcomes}, "decision": {f.Decisions, schema.Decisions}} {
		for _, value := range asked.values {
			if !slices.Contains(asked.known, value) {
				return f, errs.New(errs.Invalid, 0, "%s has %q: it may have %s", name, shown(value), strings.Join(asked.known, ", "))
			}
		}
	}
	for _, text := range statuses {
		one, err := schema.ParseStatusRange(text)
		if err != nil {
			return f, errs.New(errs.Invalid, 0, "%v", err)
		}
		f.Statuses = append(f.Statuses, one)
	}
	if r.gin.Query("failed") != "" {
		failed, err := r.boolQuery("failed")
		if err != nil {
			return f, err
		}
		f.Failed = &failed
	}
	_, err = s.deps.Scripts.Script(r.ctx, r.account, f.Script)
	return f, err
}

// listQuery reads values that are separated by commas.
func (r *request) listQuery(name string) ([]string, error) {
	text := r.gin.Query(name)
	if text == "" {
		return nil, nil
	}
	list := strings.Split(text, ",")
	if len(list) > eventValuesMax || slices.Contains(list, "") {
		return nil, errs.New(errs.Invalid, 0, "%s is %q: it must be 1 to %d values, separated by commas", name, shown(text), eventValuesMax)
	}
	return list, nil
}

// rayPattern is a ray id as events have it; in a response a data center may stand behind it.
var rayPattern = regexp.MustCompile(`^[0-9a-f]{16}(-[A-Z]{3})?$`)

// getRay shows the events of one request, by the id in its response's Cf-Ray.
func (s *Server) getRay(r *request) (any, error) {
	ray := r.param("ray")
	if !rayPattern.MatchString(ray) {
		return nil, errs.New(errs.Invalid, 0, "ray %q: it must be 16 hex digits, as in the header Cf-Ray of a response", shown(ray))
	}
	list, err := s.deps.Events.EventsOfRay(r.ctx, r.account, ray[:16])
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errs.New(errs.NotFound, 0, "there is no event of ray %s: it may not be stored yet, may be sampled out, or is no longer kept", ray)
	}
	return struct {
		Events []json.RawMessage `json:"events"`
	}{rawEvents(list)}, nil
}

type exceptionsView struct {
	Since           timestamp       `json:"since"`
	Until           timestamp       `json:"until"`
	TotalExceptions int             `json:"total_exceptions"`
	Exceptions      []exceptionView `json:"exceptions"`
}

type exceptionView struct {
	Fingerprint string           `json:"fingerprint"`
	Name        string           `json:"name"`
	Message     string           `json:"message"`
	Frame       string           `json:"frame,omitempty"`
	Requests    int64            `json:"requests"`
	Versions    map[string]int64 `json:"versions"`
	FirstSeen   timestamp        `json:"first_seen"`
	LastSeen    timestamp        `json:"last_seen"`
	Sample      json.RawMessage  `json:"sample,omitempty"`
}

// listExceptions counts the exceptions of a script by kind, most frequent first.
func (s *Server) listExceptions(r *request) (any, error) {
	q := schema.ExceptionQuery{AccountID: r.account, Script: r.script(), NewIn: r.gin.Query("new_in"), ComparedTo: r.gin.Query("compared_to")}
	var err error
	if q.Since, q.Until, err = s.timeRange(r); err != nil {
		return nil, err
	}
	limit, err := r.intQuery("limit", 20, 1, exceptionsLimitMax)
	if err != nil {
		return nil, err
	}
	q.Limit = int(limit)
	if q.Versions, err = r.listQuery("version"); err != nil {
		return nil, err
	}
	switch {
	case (q.NewIn == "") != (q.ComparedTo == ""):
		return nil, errs.New(errs.Invalid, 0, "new_in and compared_to go together: each is the id of a version")
	case q.NewIn != "" && q.NewIn == q.ComparedTo:
		return nil, errs.New(errs.Invalid, 0, "new_in and compared_to are both %q: name two versions", shown(q.NewIn))
	case q.NewIn != "" && len(q.Versions) > 0:
		return nil, errs.New(errs.Invalid, 0, "version cannot be given beside new_in, which looks at two versions")
	}
	if _, err := s.deps.Scripts.Script(r.ctx, r.account, q.Script); err != nil {
		return nil, err
	}
	list, total, err := s.deps.Events.Exceptions(r.ctx, q)
	if err != nil {
		return nil, err
	}
	return exceptionsView{timestamp(q.Since), timestamp(q.Until), total, views(list, func(g schema.ExceptionGroup) exceptionView {
		return exceptionView{g.Fingerprint, g.Name, g.Message, g.Frame, g.Requests, g.Versions, timestamp(g.FirstSeen), timestamp(g.LastSeen), g.Sample}
	})}, nil
}
