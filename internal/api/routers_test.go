package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/internal/deploy"
	"tidegate/internal/errs"
)

// routers tells of a version that cannot start, and claims a run.
func routers(t *testing.T, p *platform) {
	ctx := t.Context()
	list, err := p.Deployments(ctx, account, "shop")
	if err != nil || len(list) == 0 {
		t.Fatalf("deployments %+v, error %v", list, err)
	}
	id := list[0].Versions[0].VersionID
	path := "/client/v4/accounts/" + account + "/workers/scripts/shop/deployments"
	if a := p.do(t, http.MethodGet, path, bearer(p.token), ""); strings.Contains(a.text, "version_status") {
		t.Errorf("a status before any report: %s", a.text)
	}
	report := deploy.VersionReport{
		AccountID: account, Script: "shop", VersionID: id, RouterID: "router-1",
		Phase: deploy.BackendFailed, Error: "SyntaxError: no", At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC),
	}
	if err := p.Report(ctx, []deploy.VersionReport{report}); err != nil {
		t.Fatal(err)
	}
	want := `"version_status":[{"version_id":"` + id + `","router_id":"router-1","phase":"failed","error":"SyntaxError: no","at":"2026-11-23T12:00:00`
	for _, path := range []string{path, path + "/" + list[0].ID} {
		if a := p.do(t, http.MethodGet, path, bearer(p.token), ""); !strings.Contains(a.text, want) {
			t.Errorf("GET %s says %s, want %s in it", path, a.text, want)
		}
	}
	told := report
	told.AccountID, told.Script = "", ""
	if d, err := p.Deployment(ctx, account, "shop", list[0].ID); err != nil || !slices.Equal(d.VersionStatus, []deploy.VersionReport{told}) {
		t.Errorf("the client reads %+v, error %v, want %+v", d, err, told)
	}
	for _, phase := range []deploy.BackendPhase{deploy.BackendStarting, ""} {
		bad := report
		bad.Phase = phase
		wantKind(t, p.Report(ctx, []deploy.VersionReport{bad}), errs.Invalid)
	}
	nameless := report
	nameless.RouterID = ""
	wantKind(t, p.Report(ctx, []deploy.VersionReport{nameless}), errs.Invalid)
	wantKind(t, p.Report(ctx, make([]deploy.VersionReport, 1001)), errs.Invalid)

	minute := time.Now().Truncate(time.Minute)
	for i, first := range []bool{true, false} {
		claimed, err := p.ClaimCron(ctx, account, "shop", "*/5 * * * *", minute)
		if err != nil || claimed != first {
			t.Errorf("claim %d: %t, %v", i, claimed, err)
		}
	}
	_, err = p.ClaimCron(ctx, account, "shop", "every day", report.At)
	wantKind(t, err, errs.Invalid)
}
