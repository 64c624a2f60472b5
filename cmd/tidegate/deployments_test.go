package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/deploy"
)

func TestTroubles(t *testing.T) {
	tagged := deploy.Version{ID: "1a2b3c4d-0000-4000-8000-000000000000", Annotations: deploy.Annotations{Tag: "v1"}}
	const other = "5e6f7a8b-0000-4000-8000-000000000000"
	got := troubles([]deploy.VersionReport{
		{VersionID: tagged.ID, RouterID: "a:8080", Phase: deploy.BackendReady, Error: "1 of 2 endpoints are out: http://10.0.0.5 (connect)"},
		{VersionID: tagged.ID, RouterID: "b:8080", Phase: deploy.BackendReady},
		{VersionID: other, RouterID: "b:8080", Phase: deploy.BackendFailed, Error: "SyntaxError: no"},
		{VersionID: other, RouterID: "c:8080", Phase: deploy.BackendFailed},
	}, []deploy.Version{tagged})
	want := [][]string{
		{"On a:8080", "v1 (1a2b3c4d), ready: 1 of 2 endpoints are out: http://10.0.0.5 (connect)"},
		{"On b:8080", "5e6f7a8b, failed: SyntaxError: no"},
		{"On c:8080", "5e6f7a8b, failed"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("troubles (-want +got)\n%s", diff)
	}
}
