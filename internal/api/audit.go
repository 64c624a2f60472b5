package api

import (
	"context"
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"tidegate/internal/errs"
	"tidegate/schema/control"
)

// AuditLog is what was changed, by whom.
type AuditLog interface {
	// AuditLog has no entry for an account that it does not know. total counts all that
	// the filter means.
	AuditLog(ctx context.Context, accountID string, f control.AuditFilter, limit, offset int) (list []control.AuditEntry, total int, err error)
}

// Cloudflare's bounds of a page of the audit log.
const (
	auditPerPage    = 100
	auditPerPageMax = 1000
)

// auditTextMax bounds the words of a filter, in bytes.
const auditTextMax = 300

// Values of actor.type.
const (
	actorUser   = "user"   // a token, or a person
	actorSystem = "system" // the platform itself, such as a rollback
)

// auditView has the shape of Cloudflare's. It repeats the values before and after as text
// and as JSON objects, as that does.
type auditView struct {
	ID           string          `json:"id"`
	When         timestamp       `json:"when"`
	Action       auditAction     `json:"action"`
	Actor        auditActor      `json:"actor"`
	Interface    string          `json:"interface"`
	Owner        idView          `json:"owner"`
	Resource     auditResource   `json:"resource"`
	OldValue     string          `json:"oldValue,omitempty"`
	NewValue     string          `json:"newValue,omitempty"`
	OldValueJSON json.RawMessage `json:"oldValueJson,omitempty"`
	NewValueJSON json.RawMessage `json:"newValueJson,omitempty"`
}

type auditAction struct {
	Type string `json:"type"`
	// Result is true in all entries: what was refused has changed nothing and has none.
	Result bool `json:"result"`
}

type auditActor struct {
	Type  string `json:"type"`
	ID    string `json:"id,omitempty"`
	Email string `json:"email,omitempty"`
}

type auditResource struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func viewAudit(e control.AuditEntry) auditView {
	kind, _, _ := strings.Cut(e.Action, ".")
	v := auditView{
		ID: e.ID, When: timestamp(e.HappenedOn), Action: auditAction{e.Action, true}, Owner: idView{e.AccountID},
		Actor: auditActor{actorUser, e.Actor.TokenID, e.Actor.Email}, Interface: e.Actor.Source, Resource: auditResource{kind, e.Target},
		OldValue: e.Before, NewValue: e.After, OldValueJSON: auditObject(e.Before), NewValueJSON: auditObject(e.After),
	}
	if e.Actor.TokenID == "" && e.Actor.Email == "" {
		v.Actor.Type = actorSystem
	}
	return v
}

// auditObject wraps what is no object: Cloudflare's clients decode these members into maps,
// and one that is not drops the whole page.
func auditObject(text string) json.RawMessage {
	if text == "" || text[0] == '{' {
		return json.RawMessage(text)
	}
	return json.RawMessage(`{"value":` + text + `}`)
}

// listAudit shows what was changed in an account, newest first, and to operators what
// belongs to no account, which is theirs to know.
func (s *Server) listAudit(r *request) (any, error) {
	f, err := r.auditFilter()
	if err != nil {
		return nil, err
	}
	f.NoAccount = r.rights.Operator()
	page, err := r.intQuery("page", 1, 1, 1_000_000)
	if err != nil {
		return nil, err
	}
	perPage, err := r.intQuery("per_page", auditPerPage, 1, auditPerPageMax)
	if err != nil {
		return nil, err
	}
	list, total, err := s.deps.AuditLog.AuditLog(r.ctx, r.account, f, int(perPage), int((page-1)*perPage))
	r.info = &resultInfo{Page: int(page), PerPage: int(perPage), Count: len(list), TotalCount: total}
	return views(list, viewAudit), err
}

// auditFilter reads Cloudflare's parameters, and actor.id, actor.type and resource.id of
// ours. What Cloudflare has and nobody records here is refused, because an answer without
// it would show more than was asked for.
func (r *request) auditFilter() (f control.AuditFilter, err error) {
	for _, name := range []string{"actor.ip", "zone.name"} {
		if r.gin.Query(name) != "" {
			return f, errs.New(errs.Invalid, 0, "%s is not recorded: filter by actor.email, actor.id, action.type, resource.id or time", name)
		}
	}
	for name, into := range map[string]*string{"id": &f.ID, "actor.id": &f.ActorID, "actor.email": &f.ActorEmail, "action.type": &f.Action, "resource.id": &f.Target} {
		*into = r.gin.Query(name)
		if len(*into) > auditTextMax || !utf8.ValidString(*into) || strings.ContainsFunc(*into, unicode.IsControl) {
			return f, errs.New(errs.Invalid, 0, "%s is %q: it must be text of at most %d bytes without control characters", name, shown(*into), auditTextMax)
		}
	}
	switch kind := r.gin.Query("actor.type"); kind {
	case "":
	case actorUser, actorSystem:
		system := kind == actorSystem
		f.System = &system
	default:
		return f, errs.New(errs.Invalid, 0, "actor.type is %q: it must be %s or %s", shown(kind), actorUser, actorSystem)
	}
	switch direction := r.gin.DefaultQuery("direction", "desc"); direction {
	case "desc", "asc":
		f.OldestFirst = direction == "asc"
	default:
		return f, errs.New(errs.Invalid, 0, "direction is %q: it must be desc or asc", shown(direction))
	}
	for _, name := range []string{"export", "hide_user_logs"} { // there is one form, and there are no entries of users alone
		if wanted, err := r.boolQuery(name); err != nil || wanted && name == "export" {
			return f, errs.New(errs.Invalid, 0, "%s is %q: it is not supported, ask for pages of JSON", name, shown(r.gin.Query(name)))
		}
	}
	if f.Since, err = r.dayQuery("since"); err != nil {
		return f, err
	}
	if f.Before, err = r.dayQuery("before"); err != nil {
		return f, err
	}
	if !f.Since.IsZero() && !f.Before.IsZero() && !f.Since.Before(f.Before) {
		return f, errs.New(errs.Invalid, 0, "since %s is not before before %s", f.Since.Format(time.RFC3339), f.Before.Format(time.RFC3339))
	}
	return f, nil
}

// dayQuery reads a time, or a day, which is its beginning in UTC; absent is zero.
func (r *request) dayQuery(name string) (time.Time, error) {
	text := r.gin.Query(name)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, errs.New(errs.Invalid, 0, "%s is %q: it must be a time such as 2026-01-31T12:00:00Z, or a day such as 2026-01-31", name, shown(text))
}
