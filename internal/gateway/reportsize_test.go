package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"tidegate/internal/deploy"
)

// The story: when a network failed, hundreds of versions had dozens of endpoints out. What
// was to be said of them was larger than the API takes in one call, so that none of it
// arrived. And an error that was cut inside a character grew in JSON, beyond what the API
// takes of one.
func TestReportsFitIntoACall(t *testing.T) {
	const bodyMax = 1 << 20 // of the API
	sc := &script{SnapshotScript: &deploy.SnapshotScript{AccountID: strings.Repeat("a", 32), Name: "shop"}}
	table := &table{versions: map[string]servedVersion{}}
	for i := range 1000 {
		id := fmt.Sprintf("%036d", i)
		v := &version{SnapshotVersion: &deploy.SnapshotVersion{ID: id, Worker: new(deploy.SnapshotWorker)}}
		v.state = deploy.BackendState{Phase: deploy.BackendFailed, Error: "x" + strings.Repeat("é<", deploy.ReportErrorBytesMax)}
		table.versions[id] = servedVersion{sc, v}
	}
	told, seen := map[string]deploy.BackendState{}, map[string]reported{}
	for len(told) < len(table.versions) {
		due := table.dueReports(told, seen, "router:8080", time.Now())
		if len(due) == 0 {
			t.Fatalf("%d versions are never told of", len(table.versions)-len(told))
		}
		text, err := json.Marshal(due)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > bodyMax {
			t.Fatalf("%d reports have %d bytes, the API takes %d", len(due), len(text), bodyMax)
		}
		for _, r := range due {
			if !utf8.ValidString(r.Error) || len(r.Error) > deploy.ReportErrorBytesMax {
				t.Fatalf("an error of %d bytes ends with %q", len(r.Error), r.Error[len(r.Error)-3:])
			}
			told[r.VersionID] = deploy.BackendState{Phase: r.Phase, Error: r.Error}
		}
	}
}
