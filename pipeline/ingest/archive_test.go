package ingest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

// A replay from ClickHouse has to send what a job would have sent from Kafka: the
// value that comes back is the one that went in, byte for byte.
func TestWhatIsStoredComesBackAsItWas(t *testing.T) {
	db := openDB(t, serverAddr(t))
	text := "<a href=\"x\">&\u2028\u00fc\n\x01\\"
	full := schema.TraceEvent{
		CPUTimeMs: new(int64(0)), DispatchNamespace: text, Entrypoint: text, EventTimestampMs: noon.UnixMilli() + 7, EventType: "fetch",
		Event:      (&schema.FetchEvent{RayID: "r", Request: schema.FetchRequest{URL: "http://x/?" + text, Method: "PUT", Headers: map[string]string{"a": text}}, Response: &schema.FetchResponse{Status: 503}}).AppendJSON(nil),
		Exceptions: []schema.Exception{{Name: "Error", Message: text, TimestampMs: 5, Stack: text}, {}},
		Logs:       []schema.Log{{Level: "log", Message: messages(`"<b>&"`, `{"a":["<",1.50,1e3,null]}`, `"\u003c"`), TimestampMs: 1 << 52}, {}},
		Outcome:    schema.OutcomeException, ScriptName: "shop", ScriptTags: []string{text, ""},
		ScriptVersion: schema.ScriptVersion{ID: "v", Message: text, Tag: "<t>"}, WallTimeMs: new(int64(1 << 40)),
		Gateway:   schema.Gateway{Decision: schema.DecisionAffinity, RayID: "ray", AffinityRule: 3, UpstreamMs: new(0.1), CallerScript: "front", CallerVersionID: text, SampledOut: 1 << 32},
		ErrorKind: schema.ErrorKindTLS,
	}
	scheduled := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), EventType: "scheduled", Outcome: "somethingNew", ScriptName: "cron", Event: []byte(`{"b":1,"a":{"<":[]}}`)}
	bare := schema.TraceEvent{EventTimestampMs: noon.UnixMilli(), Outcome: schema.OutcomeOK, ScriptName: "s"}
	skewed := bare
	skewed.EventTimestampMs = 1 // its record's time counts
	var records []stream.Record
	for i, e := range []schema.TraceEvent{full, scheduled, bare, skewed} {
		r := good(int64(i))
		r.Value = e.AppendJSON(nil)
		records = append(records, r)
	}
	records[2].Headers = []stream.Header{{Name: schema.HeaderLogpush, Value: schema.LogpushDisabled}}

	var b block
	decodeBlock(&b, 3, records)
	if b.quarantine.Len() != 0 {
		t.Fatalf("quarantined: %s", b.quarantine.Detail)
	}
	if err := db.InsertEvents(t.Context(), "one", &b.events); err != nil {
		t.Fatal(err)
	}
	list, next, err := db.ArchivedEvents(t.Context(), tables.ArchiveQuery{
		AccountID: testAccount, Partition: 3, Begin: 0, End: 1 << 40, From: noon, To: noon.Add(time.Second),
	})
	if err != nil || next != 1<<40 || len(list) != len(records) {
		t.Fatalf("%d events, next %d, error %v", len(list), next, err)
	}
	for i, a := range list {
		if !bytes.Equal(a.Value, records[i].Value) {
			t.Errorf("event %d came back as\n%s\nwant\n%s", i, a.Value, records[i].Value)
		}
		at, _, _ := schema.EventTime([]int64{full.EventTimestampMs, noon.UnixMilli(), noon.UnixMilli(), 1}[i], records[i].Time)
		if a.Offset != int64(i) || !a.Time.Equal(at) {
			t.Errorf("event %d has offset %d and time %s, want %s", i, a.Offset, a.Time, at)
		}
	}
	marks := fmt.Sprint(list[0].Logpush, list[1].Logpush, list[2].Logpush, list[3].Logpush)
	if marks != "yesyesnoyes" {
		t.Errorf("the marks are %s", marks)
	}
}

func messages(texts ...string) (list []json.RawMessage) {
	for _, text := range texts {
		list = append(list, json.RawMessage(text))
	}
	return list
}
