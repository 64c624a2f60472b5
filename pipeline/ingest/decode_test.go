package ingest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"tidegate/pipeline/stream"
	"tidegate/schema"
)

const testAccount = "00000000000000000000000000000001"

var noon = time.Now().UTC().Add(-24 * time.Hour).Truncate(24 * time.Hour).Add(12 * time.Hour)

// value is the record value of one good event; n makes it unlike others. One in three
// stands for more.
func value(n int) []byte {
	fetch := schema.FetchEvent{
		RayID:    fmt.Sprintf("%016x", n),
		Request:  schema.FetchRequest{URL: fmt.Sprintf("http://shop.dev.localhost/%d", n), Method: "GET", Headers: map[string]string{"user-agent": "test"}},
		Response: &schema.FetchResponse{Status: 200},
	}
	e := schema.TraceEvent{
		Event: fetch.AppendJSON(nil), EventTimestampMs: noon.UnixMilli() + int64(n), EventType: "fetch", Outcome: schema.OutcomeOK,
		ScriptName: "shop", ScriptVersion: schema.ScriptVersion{ID: "11111111-1111-4111-8111-111111111111", Tag: "v1"}, WallTimeMs: new(int64(7)),
		Gateway: schema.Gateway{Decision: schema.DecisionSplit, RayID: fetch.RayID, SampledOut: int64(n % 3 / 2 * 7)},
	}
	return e.AppendJSON(nil)
}

// good is the record of a good event at an offset.
func good(offset int64) stream.Record {
	return stream.Record{
		Offset: offset, Time: noon.Add(time.Duration(offset) * time.Millisecond),
		Account: testAccount, Schema: schema.EventSchemaVersion, Value: value(int(offset)),
	}
}

func TestDecodeBlockKeepsEveryMember(t *testing.T) {
	r := good(42)
	r.Value = []byte(`{"CPUTimeMs":3,"DispatchNamespace":"ns","Entrypoint":"Counter",
		"Event":{"RayID":"r","Request":{"URL":"http://x/y","Method":"PUT"},"Response":{"Status":503}},
		"EventTimestampMs":` + fmt.Sprint(noon.UnixMilli()) + `,"EventType":"fetch",
		"Exceptions":[{"Name":"Error","Message":"no","TimestampMs":1}],"Logs":[{"Level":"log","Message":["a",{"b":1}],"TimestampMs":2}],
		"Outcome":"exception","ScriptName":"shop","ScriptTags":["t"],"ScriptVersion":{"id":"v","message":"m","tag":"g"},"WallTimeMs":9,
		"Gateway":{"Decision":"affinity","RayID":"ray","UpstreamMs":1.5,"SampledOut":99},"ErrorKind":"connect","Newer":true}`)
	var b block
	decodeBlock(&b, 3, []stream.Record{r})
	if b.quarantine.Len() != 0 || b.events.Len() != 1 {
		t.Fatalf("%d events and %d in quarantine (%v), want 1 and 0", b.events.Len(), b.quarantine.Len(), b.quarantine.Detail)
	}
	e := &b.events
	got := []any{e.AccountID[0], e.ScriptName[0], e.Time[0], e.SkewMs[0], e.VersionID[0], e.VersionTag[0], e.VersionMessage[0], e.EventType[0],
		e.Outcome[0], e.Status[0], e.WallMs[0].Value, e.CPUMs[0].Value, e.UpstreamMs[0].Value, e.Decision[0], e.SampledOut[0], string(e.RayID[0]), e.ErrorKind[0], e.Method[0], string(e.URL[0]),
		e.Entrypoint[0], e.DispatchNamespace[0], string(e.ScriptTags[0]), string(e.Exceptions[0]), string(e.Logs[0]), e.KafkaPartition[0], e.KafkaOffset[0]}
	want := []any{testAccount, "shop", noon, int64(0), "v", "g", "m", "fetch",
		"exception", uint16(503), int64(9), int64(3), 1.5, "affinity", uint64(99), "ray", "connect", "PUT", "http://x/y",
		"Counter", "ns", `["t"]`, `[{"Name":"Error","Message":"no","TimestampMs":1}]`, `[{"Level":"log","Message":["a",{"b":1}],"TimestampMs":2}]`,
		int32(3), int64(42)}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if want := `{"RayID":"r","Request":{"URL":"http://x/y","Method":"PUT"},"Response":{"Status":503}}`; string(e.Event[0]) != want {
		t.Errorf("event is %s, want %s", e.Event[0], want)
	}
}

func TestDecodeBlockLeavesUnknownNumbersOut(t *testing.T) {
	f := func(event string) {
		t.Helper()
		r := good(1)
		r.Value = fmt.Appendf(nil, `{"EventTimestampMs":%d,"Outcome":"ok","ScriptName":"s","EventType":"fetch","Event":%s}`, noon.UnixMilli(), event)
		var b block
		decodeBlock(&b, 0, []stream.Record{r})
		if b.events.Len() != 1 {
			t.Fatalf("%s: quarantined: %v", event, b.quarantine.Detail)
		}
		if b.events.Status[0] != 0 || b.events.CPUMs[0].Known || b.events.UpstreamMs[0].Known {
			t.Errorf("%s: status %d, CPU %v, upstream %v, want none", event, b.events.Status[0], b.events.CPUMs[0], b.events.UpstreamMs[0])
		}
	}
	f(`{}`)
	f(`null`)
	f(`5`)
	f(`{"Request":{"URL":"x"}}`)
	f(`{"Response":null}`)
	f(`{"Response":"late"}`)
}

func TestQuarantineReasons(t *testing.T) {
	f := func(reason string, change func(*stream.Record)) {
		t.Helper()
		r := good(5)
		change(&r)
		var b block
		decodeBlock(&b, 2, []stream.Record{good(4), r, good(6)})
		q := &b.quarantine
		if b.events.Len() != 2 || q.Len() != 1 || q.Reason[0] != reason {
			t.Fatalf("%d events, quarantine %v, want 2 and one of reason %s", b.events.Len(), q.Reason, reason)
		}
		if q.KafkaOffset[0] != 5 || q.KafkaPartition[0] != 2 || q.ValueBytes[0] != uint64(len(r.Value)) || q.Detail[0] == "" ||
			!strings.HasPrefix(string(r.Value), q.Value[0]) || len(q.Value[0]) > quarantineValueBytes {
			t.Errorf("quarantine is %+v", *q)
		}
		if b.events.KafkaOffset[0] != 4 || b.events.KafkaOffset[1] != 6 {
			t.Errorf("events are of offsets %v, want 4 and 6", b.events.KafkaOffset)
		}
	}
	f(reasonUndecodable, func(r *stream.Record) { r.Value = nil })
	f(reasonUndecodable, func(r *stream.Record) { r.Value = []byte("\xff\x00") })
	f(reasonUndecodable, func(r *stream.Record) { r.Value = []byte(`{"Outcome":"ok","EventTimestampMs":1}`) })
	f(reasonUndecodable, func(r *stream.Record) { r.Value = []byte(strings.Repeat("x", 100_000)) })
	f(reasonAccount, func(r *stream.Record) { r.Account = "" })
	f(reasonSchema, func(r *stream.Record) { r.Schema = "2" })
	f(reasonStatus, func(r *stream.Record) {
		r.Value = []byte(strings.Replace(string(r.Value), `"Status":200`, `"Status":70000`, 1))
	})
	f(reasonStatus, func(r *stream.Record) {
		r.Value = []byte(strings.Replace(string(r.Value), `"Status":200`, `"Status":-1`, 1))
	})
	f(reasonTime, func(r *stream.Record) {
		r.Time = time.UnixMilli(-1)
		r.Value = []byte(strings.Replace(string(r.Value), `"EventTimestampMs":`, `"EventTimestampMs":9`, 1))
	})
}

func TestEventTime(t *testing.T) {
	f := func(event, record, want time.Time, wantSkew time.Duration) {
		t.Helper()
		at, skew, ok := schema.EventTime(event.UnixMilli(), record)
		if !ok || !at.Equal(want) || skew != wantSkew.Milliseconds() {
			t.Errorf("eventTime(%s, %s) = %s, %d, %t, want %s, %d", event, record, at, skew, ok, want, wantSkew.Milliseconds())
		}
		if at.UnixMilli()+skew != event.UnixMilli() {
			t.Errorf("eventTime(%s, %s): time and skew don't add up to the event's time", event, record)
		}
	}
	f(noon, noon, noon, 0)
	f(noon, noon.Add(7*24*time.Hour), noon, 0) // a stream that was open for a week
	f(noon.Add(time.Hour), noon, noon.Add(time.Hour), 0)
	f(noon.Add(time.Hour+time.Millisecond), noon, noon, time.Hour+time.Millisecond)
	f(noon.Add(-schema.EventBehindMax-time.Millisecond), noon, noon, -schema.EventBehindMax-time.Millisecond)
	f(time.UnixMilli(1), noon, noon, time.UnixMilli(1).Sub(noon))
	f(noon, time.UnixMilli(-1), noon, 0) // a record without a time
	f(noon, noon.Add(300*time.Microsecond), noon, 0)
}

func TestEventTimeOfHopelessClocks(t *testing.T) {
	for _, event := range []int64{1, 1 << 62, noon.Unix()} { // the last is in seconds
		if at, skew, ok := schema.EventTime(event, time.UnixMilli(-1)); ok {
			t.Errorf("eventTime(%d) without a record's time is %s, %d", event, at, skew)
		}
	}
}

// Every block of three, with a bad record in each combination of places.
func TestBadRecordsInEveryPlace(t *testing.T) {
	for mask := range 8 {
		var records []stream.Record
		var goodOffsets, badOffsets []int64
		for i := range 3 {
			r := good(int64(10 + i))
			if mask>>i&1 == 1 {
				r.Value = []byte("{")
				badOffsets = append(badOffsets, r.Offset)
			} else {
				goodOffsets = append(goodOffsets, r.Offset)
			}
			records = append(records, r)
		}
		var b block
		decodeBlock(&b, 0, records)
		if !slices.Equal(b.events.KafkaOffset, goodOffsets) || !slices.Equal(b.quarantine.KafkaOffset, badOffsets) {
			t.Errorf("mask %03b: events %v, quarantine %v", mask, b.events.KafkaOffset, b.quarantine.KafkaOffset)
		}
	}
}

// Every record becomes one row, in the events or in the quarantine, all columns
// stay of one length, and building a block again gives the same block.
func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte("{}"), testAccount, "1", int64(1_700_000_000_000))
	f.Add(value(1), testAccount, "", int64(1_700_000_000_000))
	f.Add(value(1), "", "1", int64(-1))
	f.Add([]byte(`{"ScriptName":"s","Outcome":"ok","EventTimestampMs":9223372036854775807,"Event":{"Response":{"Status":99999999999}}}`), "a", "1", int64(1<<62))
	f.Fuzz(func(t *testing.T, value []byte, account, shape string, ms int64) {
		r := stream.Record{Offset: 7, Time: time.UnixMilli(ms), Account: account, Schema: shape, Value: value}
		records := []stream.Record{good(6), r, good(8)}
		var b, again block
		decodeBlock(&b, 1, records)
		if got := b.events.Len() + b.quarantine.Len(); got != len(records) {
			t.Fatalf("%d records became %d rows", len(records), got)
		}
		for _, c := range b.events.Columns() {
			if n := reflect.ValueOf(c.Values).Len(); n != b.events.Len() {
				t.Fatalf("column %s has %d rows of %d", c.Name, n, b.events.Len())
			}
		}
		for _, c := range b.quarantine.Columns() {
			if n := reflect.ValueOf(c.Values).Len(); n != b.quarantine.Len() {
				t.Fatalf("column %s has %d rows of %d", c.Name, n, b.quarantine.Len())
			}
		}
		for _, at := range b.events.Time {
			if !schema.PlausibleTime(at) {
				t.Fatalf("an event is stored at %s", at)
			}
		}
		decodeBlock(&again, 1, records)
		if !reflect.DeepEqual(b, again) {
			t.Fatal("the same records became another block")
		}
	})
}
