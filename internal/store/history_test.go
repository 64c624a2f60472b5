package store

import (
	"fmt"
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
	f := func(name, history, by, query string, args ...any) {
		t.Helper()
		found := false
		err := each(t.Context(), s.reader, func(row scanner) error {
			var id, parent, unused int
			var step string
			err := row.Scan(&id, &parent, &unused, &step)
			if strings.HasPrefix(step, "SCAN ") && step != "SCAN s" && !strings.HasPrefix(step, "SCAN s ") { // the scripts
				t.Errorf("%s reads a whole table: %s", name, step)
			}
			// By less, or by an index that is made for one answer, it reads all of a script, or of the table.
			found = found || strings.HasPrefix(step, "SEARCH "+history+" INDEX ") && strings.HasSuffix(step, by)
			return err
		}, `EXPLAIN QUERY PLAN `+query, args...)
		if err != nil || !found {
			t.Errorf("%s are not looked up by %s, error %v", name, by, err)
		}
	}
	const newest = "(account_id=? AND script=? AND number>?)"
	f("the deployments of what is watched", "c USING COVERING", newest, watchedScripts, 1)
	f("the newest deployments of scripts", "d USING", newest, fmt.Sprintf(newestDeployments, "$2, $3"), 1, "", "")
	f("the decisions about what serves", "x USING", "(account_id=? AND script=? AND from_deployment=?)", watchedDecisions)
	f("the versions of a snapshot", "v USING", newest, snapshotVersions, everyAccount, 1)
}
