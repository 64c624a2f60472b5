package intake

import (
	"encoding/json"
	"fmt"
	"maps"
	"testing"

	"tidegate/pipeline/logpush"
	"tidegate/pipeline/logpush/sink/sinktest"
)

func TestLokiRequest(t *testing.T) {
	r := receive(t)
	conf := "loki://" + r.Listener.Addr().String() + "/loki/api/v1/push?insecure=true&tenant=red&label_env=prod"
	o := sinktest.Items("a", "first\nsecond\nthird\n")
	o.Items[0].Time, o.Items[2].Time = o.Items[2].Time, o.Items[0].Time
	if err := open(t, conf, loopback).Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	q, body := r.only(t)
	if q.URL.RawQuery != "" || q.Header.Get("X-Scope-Orgid") != "red" || q.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s with the headers %v", q.URL, q.Header)
	}
	at := o.Date.UnixNano()
	entry := func(ns int64, line, version string) string {
		return fmt.Sprintf(`["%d","%s",{"event_type":"fetch","version":"0190f5f6-0000-7000-8000-00000000000%s"}]`, at+ns, line, version)
	}
	want := `{"streams":[` +
		`{"stream":{"dataset":"workers_trace_events","env":"prod","outcome":"ok","service_name":"shop"},"values":[` +
		entry(102, "third", "1") + `,` + entry(2e6+100, "first", "1") + `]},` +
		`{"stream":{"dataset":"workers_trace_events","env":"prod","outcome":"exception","service_name":"shop"},"values":[` +
		entry(1e6+101, "second", "2") + `]}]}` + "\n"
	if got := string(unzip(t, body)); got != want {
		t.Errorf("the body is\n%s, want\n%s", got, want)
	}
}

// Loki would take the second of two for the first one, sent again.
func TestLokiTellsEventsOfOneMillisecondApart(t *testing.T) {
	r := receive(t)
	s := open(t, "loki://"+r.Listener.Addr().String()+"?insecure=true", loopback)
	o := sinktest.Items("a", "ok\nok\nok\n")
	for i := range o.Items {
		o.Items[i].Time, o.Items[i].Outcome, o.Items[i].Offset = o.Items[0].Time, "ok", 7_000_001+int64(i)
	}
	for i, part := range [][]logpush.Item{o.Items, o.Items[1:]} { // as after an answer that told nothing
		o.Items, o.BatchID = part, fmt.Sprint(i)
		if err := s.Put(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	o.BatchID, o.Partition = "another partition's", 1 // whose offsets are the same, as they may well be
	o.Items = o.Items[:1]
	if err := s.Put(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	entries := map[string]int{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, body := range r.bodies {
		var push lokiPush
		decode(t, unzip(t, body), &push)
		for _, entry := range push.Streams[0].Values {
			entries[string(entry[0])]++
		}
	}
	at := o.Items[0].Time.UnixMilli()
	want := map[string]int{}
	for i, times := range []int{1, 2, 2} {
		want[fmt.Sprintf(`"%d%06d"`, at, i+1)] = times
	}
	want[fmt.Sprintf(`"%d%06d"`, at, 2+618_033)] = 1
	if !maps.Equal(entries, want) {
		t.Errorf("entries by time: %v, want %v", entries, want)
	}
}

func TestLokiWithoutStructuredMetadata(t *testing.T) {
	r := receive(t)
	s := open(t, "loki://"+r.Listener.Addr().String()+"?insecure=true&structured-metadata=false", loopback)
	if err := s.Put(t.Context(), sinktest.Items("a", "a\n")); err != nil {
		t.Fatal(err)
	}
	_, body := r.only(t)
	var push lokiPush
	decode(t, unzip(t, body), &push)
	if n := len(push.Streams[0].Values[0]); n != 2 {
		t.Errorf("an entry has %d parts, want 2", n)
	}
}

type lokiPush struct {
	Streams []struct {
		Stream map[string]string
		Values [][]json.RawMessage
	}
}

func textsOfLoki(t *testing.T, body []byte) []byte {
	t.Helper()
	var push lokiPush
	decode(t, body, &push)
	texts := map[string][]byte{}
	for _, stream := range push.Streams {
		for _, entry := range stream.Values {
			line := ""
			decode(t, entry[1], &line)
			texts[string(entry[0])] = []byte(line)
		}
	}
	return inOrder(texts)
}
