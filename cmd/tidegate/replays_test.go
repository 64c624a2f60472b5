package main

import (
	"strings"
	"testing"
	"time"

	"tidegate/internal/api/client"
)

func TestReplayBar(t *testing.T) {
	f := func(r client.Replay, parts ...string) {
		t.Helper()
		line := replayBar(&r)
		for _, part := range parts {
			if !strings.Contains(line, part) {
				t.Errorf("%q does not have %q", line, part)
			}
		}
	}
	r := client.Replay{}
	r.State = "queued"
	f(r, "[··············", "queued, 0 events sent")
	r.State, r.RecordsSent, r.OffsetsDone, r.OffsetsTotal, r.Error = "running", 7, 1, 3, "Kafka does not answer"
	r.EstimatedEnd = new(time.Now())
	f(r, "[##########····················]  33% running, 7 events sent", "until about", ": Kafka does not answer")
	r.OffsetsDone = 3
	f(r, "[##############################] 100%")
}

// A replay without --to ends where live delivery began. Its "done" once hid that what a receiver
// had lost since was not in it.
func TestReplaysTellTheirRange(t *testing.T) {
	const open = `{"id": 1, "job_id": 3, "from": "2026-11-01T00:00:00Z", "to": null, "state": "done", "records_sent": 2, "position": "2026-11-01T05:00:00Z"}`
	bounded := strings.Replace(open, `"to": null`, `"to": "2026-11-01T06:00:00Z"`, 1)
	const began, more = " to where live delivery began when the job was switched on", "--to now sends what is newer"
	utc(t)
	f := func(result string, want []string, args ...string) {
		t.Helper()
		out, err := output(t, answers(t, result), append([]string{"jobs", "replay", "3", "--from", "1h"}, args...)...)
		for _, part := range want {
			if err != nil || !strings.Contains(out, part) {
				t.Errorf("%q: no %q in %q, error %v", args, part, out, err)
			}
		}
	}
	f(open, []string{"from 2026-11-01T00:00:00Z" + began, more, "newest event sent is of 2026-11-01T05:00:00Z"}, "--follow")
	f(open, []string{"waits for its turn", began, more})
	f(bounded, []string{"from 2026-11-01T00:00:00Z to 2026-11-01T06:00:00Z\n"}, "--follow", "--to", "now")
	f(bounded, []string{"from 2026-11-01T00:00:00Z to 2026-11-01T06:00:00Z\n"}, "--to", "now")
	if out, err := output(t, answers(t, "["+open+"]"), "jobs", "replays", "3"); err != nil || !strings.Contains(out, "begin of live delivery") {
		t.Errorf("%q, error %v", out, err)
	}
}
