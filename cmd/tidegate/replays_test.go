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
