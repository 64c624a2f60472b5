package api_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"tidegate/internal/api/client"
	"tidegate/internal/errs"
	"tidegate/schema"
)

// deletions is a part of TestEveryOperation.
func deletions(t *testing.T, p *platform) {
	ctx := t.Context()
	before := time.Now().Add(-time.Hour).UTC()
	one, err := p.CreateDeletion(ctx, account, client.DeletionRequest{Script: "shop", Before: &before})
	if err != nil || one.Script != "shop" || one.AllScripts || one.State != schema.DeletionQueued || one.RequestedBy == "" || one.Places == nil ||
		one.Before.Sub(before) < 0 || one.Before.Sub(before) >= time.Millisecond || !one.Before.Truncate(time.Millisecond).Equal(one.Before) {
		t.Fatalf("made %+v, error %v", one, err)
	}
	asked := time.Now()
	all, err := p.CreateDeletion(ctx, account, client.DeletionRequest{AllScripts: true})
	if err != nil || all.Script != "" || !all.AllScripts || all.Before.Before(asked.Add(-time.Millisecond)) || all.Before.After(time.Now().Add(time.Millisecond)) {
		t.Errorf("made %+v at %s, error %v", all, asked, err)
	}
	open, err := p.store.OpenDeletions(ctx, time.Time{})
	if err != nil || len(open) != 2 {
		t.Fatal(open, err)
	}
	begun := open[0]
	begun.State, begun.StartedOn, begun.Places = schema.DeletionRunning, time.Now(), []schema.DeletionPlace{{Name: "trace_events", RowsDeleted: 1, RowsLeft: 2, RowsKept: 3, PartsLeft: 4}}
	begun.Error = "it waits"
	if begun, err = p.store.SaveDeletion(ctx, begun); err != nil {
		t.Fatal(err)
	}
	got, err := p.Deletion(ctx, account, one.ID)
	if err != nil || got.State != schema.DeletionRunning || got.StartedOn == nil || got.EndedOn != nil || len(got.Places) != 1 || got.Places[0] != begun.Places[0] || got.Error != "it waits" {
		t.Errorf("it is %+v, error %v", got, err)
	}
	list, total, err := p.Deletions(ctx, account, 1)
	if err != nil || total != 2 || len(list) != 2 || list[0].ID != all.ID || list[1].ID != one.ID {
		t.Errorf("the list is %+v of %d, error %v", list, total, err)
	}
	_, err = p.Deletion(ctx, account, "none")
	wantKind(t, err, errs.NotFound)

	f := func(body string, words ...string) {
		t.Helper()
		p.call(t, http.MethodPost, "/deletions", body).want(t, http.StatusBadRequest, 10001, words...)
	}
	f(`{}`, "say what to delete")
	f(`{"script": "shop", "all_scripts": true}`, "one of them must go")
	f(`{"script": "Shop"}`, `script name "Shop"`)
	f(`{"all_scripts": true, "before": "2999-01-01T00:00:00Z"}`, "before 2999-01-01T00:00:00Z is in the future")
	f(`{"all_scripts": true, "before": "1999-01-01T00:00:00Z"}`, "earlier than anything")
	f(`{"all_scripts": true, "ray_id": "x"}`, "ray_id")
	for range 18 {
		if _, err := p.CreateDeletion(ctx, account, client.DeletionRequest{Script: "shop"}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = p.CreateDeletion(ctx, account, client.DeletionRequest{Script: "shop"})
	wantKind(t, err, errs.Conflict)
}

// Cloudflare's API deletes accounts. Who tries is told what can be done.
func TestAccountsStay(t *testing.T) {
	p := newPlatform(t)
	path := "/client/v4/accounts/" + account
	p.do(t, http.MethodDelete, path, bearer(p.token), "").want(t, http.StatusNotFound, 7003, "Tidegate does not delete accounts", fmt.Sprintf("POST %s/deletions", path))
}
