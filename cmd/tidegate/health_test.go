package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/api/client"
	"tidegate/internal/logjob"
)

// A job's health shows what is known, and no number in place of what is not.
func TestWriteHealth(t *testing.T) {
	f := func(h client.JobHealth, want string) {
		t.Helper()
		var out strings.Builder
		new(session).writeHealth(&out, &h)
		// Columns are as wide as this machine's zone makes the times.
		got := regexp.MustCompile(" +").ReplaceAllString(out.String(), " ")
		if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.Local)
	stamp := moment(at)
	f(client.JobHealth{State: "ok", Since: at}, `
State ok
Lag unknown
Summed since `+stamp+`
`)
	f(client.JobHealth{
		State: "disabled_failing", Since: at, DisabledOn: &at, LagEvents: new(int64(7)), LagSeconds: new(90.2), DeadLetters: 2,
		Dropped: map[string]int64{"retention": 3, "malformed": 1},
		Uploads: []client.StatusUploads{
			{Final: false, Uploads: logjob.Uploads{Uploads: 1, Records: 5, DurationMS: 9, DurationMaxMS: 9}},
			{Status: 200, Final: true, Uploads: logjob.Uploads{Uploads: 2, Records: 10, Bytes: 300, BytesCompressed: 40, DurationMS: 30, DurationMaxMS: 20}},
		},
		Failures: []client.JobFailure{{LastOn: at, Times: 4, Message: "no\x1b answer"}, {Partition: new(3), LastOn: at, Times: 1, Message: "lost"}},
	}, `
State disabled, failing
Lag 7 events, 1m30s
Disabled on `+stamp+`
Dropped, malformed 1
Dropped, retention 3
Dead letters 2
Summed since `+stamp+`

STATUS FINAL UPLOADS RECORDS BYTES COMPRESSED MS ON AVERAGE MS AT MOST
no answer no 1 5 0 unknown 9 9
200 yes 2 10 300 40 15 20

LAST TIMES PARTITION ERROR
`+stamp+` 4 all no answer
`+stamp+` 1 3 lost
`)
}
