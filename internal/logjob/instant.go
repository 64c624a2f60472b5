package logjob

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
	"tidegate/schema/control"
)

// Bounds of a session of instant logs (reference/logpush.md, 1.6).
const (
	InstantLifetime = 60 * time.Minute
	InstantIdle     = 5 * time.Minute // without anybody who listens
	// instantSampleMax keeps one event in a million, Tidegate's own bound.
	instantSampleMax = 1_000_000
)

// InstantLogs is a session that shows events as they come, over a WebSocket. It is immutable.
type InstantLogs struct {
	ID        string         // secret, which opens it; in a list another one for each who asks
	Holder    control.Holder // of the address that opened it; in a list, who made it
	AccountID string
	Zone      string // a domain name, the hosts of which are shown; empty for everything
	CreatedOn time.Time
	ExpiresOn time.Time

	InstantSettings
}

// InstantSettings are what a session shows.
type InstantSettings struct {
	Fields string `json:"fields"` // names, separated by commas; never empty
	Filter string `json:"filter"` // as of a job; may be empty
	Sample int64  `json:"sample"` // one event in so many, 1 for all
}

// InstantRequest is the body that asks for a session. Members that are nil mean the
// default selection, no filter and all events.
type InstantRequest struct {
	Fields *string `json:"fields"`
	Filter *string `json:"filter"`
	Sample *int64  `json:"sample"`
	Kind   *string `json:"kind"`
}

// Settings returns what is asked for, or an *errs.Error with Cloudflare's code and
// the member at fault.
func (r *InstantRequest) Settings() (InstantSettings, error) {
	s := InstantSettings{Fields: deref(r.Fields), Filter: deref(r.Filter), Sample: 1}
	if kind := deref(r.Kind); kind != "" && kind != "instant-logs" {
		return s, badValue("/kind", `kind %q must be "instant-logs"`, shown(kind))
	}
	if s.Fields == "" {
		s.Fields = strings.Join(schema.DefaultFields(), ",")
	}
	if n := len(s.Fields); n > maxOptionBytes {
		return s, badValue("/fields", "fields has %d bytes, more than the %d allowed", n, maxOptionBytes)
	}
	if e, ok := errors.AsType[*errs.Error](validateFieldNames("", strings.Split(s.Fields, ","))); ok {
		return s, instantRefusal(e).At("/fields")
	}
	if _, err := ParseFilter(s.Filter); err != nil {
		e, ok := errors.AsType[*errs.Error](err)
		if !ok {
			return s, err
		}
		return s, instantRefusal(e)
	}
	if r.Sample != nil {
		s.Sample = *r.Sample
	}
	if s.Sample < 1 || s.Sample > instantSampleMax {
		return s, badValue("/sample", "sample %d must be from 1, for every event, to %d, for one in so many", s.Sample, instantSampleMax)
	}
	return s, nil
}

// instantRefusal words what would be refused of a job as Cloudflare does for instant logs.
func instantRefusal(e *errs.Error) *errs.Error {
	if e.Kind != errs.Forbidden {
		return e
	}
	refusal := *e
	refusal.Message = "creating a new instant logs job is not allowed: " + strings.TrimPrefix(e.Message, "filter is not allowed: ")
	return &refusal
}

// InstantView turns events into the lines of a session. It is for one goroutine at a time.
type InstantView struct {
	zone   string
	sample float64
	filter *Filter
	format *Format
	record Record
}

// View returns what chooses and formats the events of a session.
func (l *InstantLogs) View() (*InstantView, error) {
	v := &InstantView{zone: l.Zone, sample: float64(l.Sample)}
	// Each line says of how many events it is one, as Cloudflare's do.
	suffix := fmt.Sprintf(`,"sampleInterval":%d}`+"\n", l.Sample)
	job := Job{OutputOptions: &OutputOptions{FieldNames: strings.Split(l.Fields, ","), RecordSuffix: &suffix}}
	var err error
	if v.filter, err = ParseFilter(l.Filter); err != nil {
		return nil, err
	}
	v.format, err = job.Format()
	return v, err
}

// Line returns an event as a line of NDJSON, or nil when the session does not show
// it. dice gives numbers from 0 to below 1. The error is for what is no event.
func (v *InstantView) Line(value []byte, dice func() float64) ([]byte, error) {
	if err := v.record.Split(value); err != nil {
		return nil, err
	}
	if v.zone != "" && !inZone(hostOf(value), v.zone) || !v.filter.Match(&v.record) || v.sample > 1 && dice()*v.sample >= 1 {
		return nil, nil
	}
	return v.format.AppendRecord(nil, &v.record), nil
}

// hostOf returns the host that a request came for; other events have none.
func hostOf(value []byte) string {
	var e struct {
		Event struct {
			Request struct{ URL string }
		}
	}
	if json.Unmarshal(value, &e) != nil {
		return "" // an event of another shape: no request
	}
	u, err := url.Parse(e.Event.Request.URL)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Hostname())
}

func inZone(host, zone string) bool { return host == zone || strings.HasSuffix(host, "."+zone) }
