package store

import (
	"path/filepath"
	"strings"
	"testing"
)

// What is asked at each step of the controller and for each snapshot once read every decision,
// deployment and version that there ever was, so a platform became slower with its age.
func TestWhatIsAskedAllTheTimeReadsNoHistory(t *testing.T) {
	s, err := Open(t.Context(), filepath.Join(t.TempDir(), "control.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := func(name, query string, args ...any) {
		t.Helper()
		err := each(t.Context(), s.reader, func(row scanner) error {
			var id, parent, unused int
			var detail string
			err := row.Scan(&id, &parent, &unused, &detail)
			if strings.HasPrefix(detail, "SCAN ") && detail != "SCAN s" && !strings.HasPrefix(detail, "SCAN s ") { // the scripts
				t.Errorf("%s reads a whole table: %s", name, detail)
			}
			return err
		}, `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f("the deployments of what is watched", watchedDeployments, 1)
	f("the decisions about what serves", watchedDecisions)
	f("the versions of a snapshot", snapshotVersions, everyAccount, 1)
}
