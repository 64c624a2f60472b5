package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"tidegate/internal/api/client"
)

// auditLog is a part of TestEveryOperation: by now much was changed.
func auditLog(t *testing.T, p *platform) {
	ctx := t.Context()
	whole, total, err := p.AuditLog(ctx, account, client.AuditQuery{})
	if err != nil || total < 10 || len(whole) != min(total, 100) {
		t.Fatalf("%d entries of %d, error %v", len(whole), total, err)
	}
	for i, e := range whole {
		if i > 0 && e.When.After(whole[i-1].When) {
			t.Errorf("entry %d of %s comes after one of %s", i, e.When, whole[i-1].When)
		}
		if e.Resource.Type != strings.Split(e.Action.Type, ".")[0] || e.Actor.Type == "user" && e.Actor.ID == "" {
			t.Errorf("entry %+v", e)
		}
	}
	// As Cloudflare's SDKs decode a page: one value that is no object would fail all of it.
	var page struct {
		Result []struct {
			Action struct{ Type string }
			Before map[string]any `json:"oldValueJson"`
			After  map[string]any `json:"newValueJson"`
		}
	}
	a := p.call(t, http.MethodGet, "/audit_logs?per_page=100&action.type=account.subdomain", "")
	if err := json.Unmarshal([]byte(a.text), &page); err != nil || len(page.Result) == 0 {
		t.Fatalf("a page of subdomains is not in Cloudflare's shape: %v: %s", err, a.text)
	}
	for _, e := range page.Result {
		for _, value := range []map[string]any{e.Before, e.After} {
			if name, ok := value["value"].(string); !ok || name == "" {
				t.Errorf("%s has before %v and after %v, want objects with the names in value", e.Action.Type, e.Before, e.After)
			}
		}
	}
	since := time.Now()
	if a := p.call(t, http.MethodPost, "/tokens", `{"name": "audited", "scopes": ["logs:read"]}`); a.status != http.StatusOK {
		t.Fatal(a.text)
	}
	list, total, err := p.AuditLog(ctx, account, client.AuditQuery{Since: since.Add(-time.Millisecond), Action: "token.create", ActorType: "user"})
	if err != nil || total != 1 || len(list) != 1 {
		t.Fatalf("found %+v of %d, error %v", list, total, err)
	}
	var after struct{ Name string }
	if e := list[0]; json.Unmarshal(e.After, &after) != nil || after.Name != "audited" || e.Before != nil || e.Interface != "api" || e.Actor.ID == "" {
		t.Errorf("the change is %+v", e)
	}
	one, total, err := p.AuditLog(ctx, account, client.AuditQuery{ID: list[0].ID})
	if err != nil || total != 1 || one[0].Resource.ID != list[0].Resource.ID {
		t.Errorf("by its id: %+v, error %v", one, err)
	}
	if list, total, err := p.AuditLog(ctx, account, client.AuditQuery{Before: whole[len(whole)-1].When.Add(-time.Hour)}); err != nil || total != 0 || len(list) != 0 {
		t.Errorf("before all: %+v, error %v", list, err)
	}
}

func TestAuditFiltersAreRefusedByName(t *testing.T) {
	p := newPlatform(t)
	f := func(query string, words ...string) {
		t.Helper()
		p.call(t, http.MethodGet, "/audit_logs?"+query, "").want(t, http.StatusBadRequest, 10001, words...)
	}
	f("actor.ip=192.0.2.1", "actor.ip is not recorded")
	f("zone.name=example.com", "zone.name is not recorded")
	f("actor.type=admin", `actor.type is "admin"`, "user or system")
	f("direction=up", `direction is "up"`)
	f("export=true", "export")
	f("hide_user_logs=perhaps", "hide_user_logs")
	f("since=yesterday", `since is "yesterday"`)
	f("before=2026-13-01", `before is "2026-13-01"`)
	f("since=2026-02-01&before=2026-01-31", "is not before")
	f("per_page=1001", "per_page", "1000")
	f("page=0", "page")
	f("resource.id=a%00b", "resource.id")
	f("action.type="+strings.Repeat("x", 301), "action.type", "300 bytes")
}
