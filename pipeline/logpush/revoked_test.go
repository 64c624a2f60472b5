package logpush

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// Credentials that are revoked when a part of a window is there: nothing becomes a dead letter, the job's
// owner learns it at once, and when they hold again, also for another process, each object is there under its one name.
func TestCredentialsThatAreRevokedHalfWay(t *testing.T) {
	for _, status := range []int{401, 403} {
		bubble(t, func(t *testing.T, w *world) {
			w.job.DestinationConf = "bucket://b/{SCRIPT}/"
			letters, alerts := &letterbox{}, []string(nil)
			w.letters, w.alert = letters, func(kind, _ string) { alerts = append(alerts, kind) }
			revoked := false
			w.bucket.fail = func(Object) error {
				if revoked {
					return &UploadError{Status: status, Permanent: true, Text: "the key is not valid"}
				}
				revoked = true // from the second object on
				return nil
			}
			for i, script := range []string{"shop", "cart", "mail"} {
				w.memory.append(account, of(script, "v", i), time.Now())
			}
			r := w.start()
			pass(31 * time.Second)
			last := w.reports.all()
			if !slices.Equal(alerts, []string{AlertFailing}) || len(last) == 0 || !strings.Contains(last[len(last)-1].Message, "the key is not valid") {
				t.Errorf("%d: a second later the alerts are %v, the reports %+v", status, alerts, last)
			}
			pass(11 * time.Hour)
			r.kill()
			w.memory.append(account, of("shop", "v", 3), time.Now()) // of the next window
			r = w.start()
			pass(11 * time.Hour)
			if names := w.bucket.names(); len(names) != 1 || w.memory.offset() != 0 {
				t.Errorf("%d: the objects are %v, committed %d", status, names, w.memory.offset())
			}
			w.bucket.set(nil)
			pass(2 * time.Minute)
			r.stop()
			if names := w.bucket.names(); len(names) != 4 || w.memory.offset() != 4 || len(letters.letters) > 0 {
				t.Errorf("%d: the objects are %v, committed %d, dead letters %d", status, names, w.memory.offset(), len(letters.letters))
			}
			got := strings.SplitAfter(w.bucket.text(t), "\n")
			slices.Sort(got)
			if text := strings.Join(got, ""); text != lines(0, 4) {
				t.Errorf("%d: delivered\n%s", status, text)
			}
			// Once for each process, the first of which was killed.
			if want := []string{AlertFailing, AlertFailing, AlertRecovered}; !slices.Equal(alerts, want) {
				t.Errorf("%d: the alerts are %v, want %v", status, alerts, want)
			}
		})
	}
}
