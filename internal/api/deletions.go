package api

import (
	"regexp"
	"time"

	"tidegate/internal/errs"
	"tidegate/schema"
)

// deletionBody is what is to be deleted.
type deletionBody struct {
	Script     string     `json:"script"`
	AllScripts bool       `json:"all_scripts"`
	Before     *time.Time `json:"before"`
}

// deletionView is a deletion in the API's form.
type deletionView struct {
	ID          string                 `json:"id"`
	Script      *string                `json:"script"`
	AllScripts  bool                   `json:"all_scripts"`
	Before      timestamp              `json:"before"`
	State       string                 `json:"state"`
	RequestedBy string                 `json:"requested_by"`
	CreatedOn   timestamp              `json:"created_on"`
	StartedOn   *timestamp             `json:"started_on"`
	EndedOn     *timestamp             `json:"ended_on"`
	CheckedOn   *timestamp             `json:"checked_on"`
	Places      []schema.DeletionPlace `json:"places"`
	Error       string                 `json:"error"`
}

func viewDeletion(d schema.Deletion) deletionView {
	v := deletionView{ID: d.ID, AllScripts: d.Script == "", Before: timestamp(d.Before), State: d.State, RequestedBy: d.RequestedBy, CreatedOn: timestamp(d.CreatedOn),
		StartedOn: optional(d.StartedOn), EndedOn: optional(d.EndedOn), CheckedOn: optional(d.CheckedOn), Places: d.Places, Error: d.Error}
	if d.Script != "" {
		v.Script = &d.Script
	}
	return v
}

// createDeletion asks for a deletion. What to delete is said in full, because it cannot
// be brought back: no member that was forgotten means all scripts.
func (s *Server) createDeletion(r *request) (any, error) {
	var body deletionBody
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	what, err := body.tombstone(r.account, s.now())
	if err != nil {
		return nil, err
	}
	d, err := s.deps.Deletions.CreateDeletion(r.ctx, what)
	return viewDeletion(d), err
}

// tombstone checks the body. Times of events are whole milliseconds.
func (b *deletionBody) tombstone(accountID string, now time.Time) (t schema.Tombstone, err error) {
	switch {
	case b.Script == "" && !b.AllScripts:
		return t, errs.New(errs.Invalid, 0, "say what to delete: script names one script, and all_scripts is true for the whole account")
	case b.Script != "" && b.AllScripts:
		return t, errs.New(errs.Invalid, 0, "script is %q and all_scripts is true: one of them must go", shown(b.Script)).At("/all_scripts")
	case b.Script != "":
		if err := checkScriptName(b.Script); err != nil {
			return t, err
		}
	}
	before := now
	if b.Before != nil {
		before = *b.Before
	}
	switch {
	case before.After(now):
		return t, errs.New(errs.Invalid, 0, "before %s is in the future: only what is recorded can be deleted", before.UTC().Format(time.RFC3339Nano)).At("/before")
	case !schema.PlausibleTime(before):
		return t, errs.New(errs.Invalid, 0, "before %s is earlier than anything that is recorded", before.UTC().Format(time.RFC3339Nano)).At("/before")
	}
	return schema.Tombstone{AccountID: accountID, Script: b.Script, Before: before.Add(time.Millisecond - 1).Truncate(time.Millisecond).UTC()}, nil
}

func (s *Server) listDeletions(r *request) (any, error) {
	page, perPage, err := r.page()
	if err != nil {
		return nil, err
	}
	list, total, err := s.deps.Deletions.Deletions(r.ctx, r.account, perPage, (page-1)*perPage)
	r.info = &resultInfo{Page: page, PerPage: perPage, Count: len(list), TotalCount: total}
	return views(list, viewDeletion), err
}

func (s *Server) getDeletion(r *request) (any, error) {
	d, err := s.deps.Deletions.Deletion(r.ctx, r.account, r.param("id"))
	return viewDeletion(d), err
}

// accountItself is the path of an account, which Cloudflare's API can delete.
var accountItself = regexp.MustCompile(`^` + basePath + `/accounts/[^/]+$`)

const accountStays = "Tidegate does not delete accounts: their tokens, scripts and jobs can be deleted one by one, and what they recorded by POST %s/deletions"
