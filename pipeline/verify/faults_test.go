package verify

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/clickhouse"
	tables "tidegate/schema/clickhouse"
)

// summary is what a test says about a report, without times.
func summary(r Report) string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	add("%s", r.Verdict)
	for _, p := range r.Partitions {
		if p.Verdict == Exact && p.Expired == 0 && p.Gaps == 0 {
			continue
		}
		add("partition %d %s: missing %d, repeated %d, stray %d, expired %d, gaps %d, more %d", p.ID, p.Verdict, p.Missing, p.Repeated, p.Stray, p.Expired, p.Gaps, p.More)
		for _, f := range p.Faults {
			add("  %s %d-%d (%d) of %d rows", f.Kind, f.First, f.Last, f.Offsets, f.Rows)
		}
	}
	for _, t := range r.Rollups {
		if t.Verdict == Exact {
			continue
		}
		add("%s %s: %d", t.Table, t.Verdict, t.Different)
		for _, c := range t.Faults {
			add("  %s %s: %+d", c.ScriptName, c.VersionID, int64(c.Requests-c.Events))
		}
	}
	return strings.Join(lines, "\n")
}

func want(t *testing.T, r Report, lines ...string) {
	t.Helper()
	if diff := cmp.Diff(strings.Join(lines, "\n"), summary(r)); diff != "" {
		t.Errorf("(-want +got)\n%s\n%+v", diff, r)
	}
}

func wantNote(t *testing.T, notes []string, words string) {
	t.Helper()
	if !strings.Contains(strings.Join(notes, "\n"), words) {
		t.Errorf("the notes are %q, want one with %q", notes, words)
	}
}

const where = " WHERE kafka_partition = 0 AND kafka_offset "

// The bytes of events that a rollup counted stay counted there when their row goes, so
// each missing row is seen twice. Other tests plant faults in the rollups alone.
func TestMissingRows(t *testing.T) {
	s := newSystem(t, 2, nil)
	s.produceGood(100)
	s.stored()
	want(t, s.verify(nil), "exact")
	s.must("ALTER TABLE trace_events DELETE" + where + "IN (17, 18, 40, 99)")
	r := s.verify(nil)
	if r.Verdict != Different || len(r.Rollups[0].Faults) == 0 {
		t.Errorf("the report is %+v, want rollups that count more than the rows", r)
	}
	r.Rollups = nil
	want(t, r, "different", "partition 0 different: missing 4, repeated 0, stray 0, expired 0, gaps 0, more 0",
		"  missing 17-18 (2) of 0 rows", "  missing 40-40 (1) of 0 rows", "  missing 99-99 (1) of 0 rows")
	if f := r.Partitions[0].Faults[0]; f.Time == nil || time.Since(*f.Time) > time.Hour {
		t.Errorf("the first fault is %+v, want the time of its record", f)
	}
	limited := s.verify(func(c *Config) { c.Limit = 1 })
	limited.Rollups = nil
	want(t, limited, "different", "partition 0 different: missing 4, repeated 0, stray 0, expired 0, gaps 0, more 2", "  missing 17-18 (2) of 0 rows")
}

func TestRepeatedRows(t *testing.T) {
	s := newSystem(t, 2, nil)
	s.produceGood(100)
	s.stored()
	// Its views count it, too: the rollups agree with the rows.
	s.must("INSERT INTO trace_events SELECT * FROM trace_events" + where + "IN (20, 21, 30)")
	s.must("INSERT INTO trace_events SELECT * FROM trace_events" + where + "= 30 LIMIT 1")
	const columns = "account_id, script_name, time, version_id, outcome, status, wall_ms, cpu_ms, decision, sampled_out"
	s.must("INSERT INTO trace_events_others (" + columns + ") SELECT " + columns + " FROM (" +
		"SELECT * FROM trace_events" + where + "IN (20, 21, 30) LIMIT 1 BY kafka_offset UNION ALL SELECT * FROM trace_events" + where + "= 30 LIMIT 1 BY kafka_offset)")
	want(t, s.verify(nil), "different", "partition 0 different: missing 0, repeated 4, stray 0, expired 0, gaps 0, more 0",
		"  repeated 20-21 (2) of 2 rows", "  repeated 30-30 (1) of 3 rows")
}

func TestARepeatInThePlaceOfAMissingRow(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(50)
	s.stored()
	s.must("INSERT INTO trace_events SELECT * FROM trace_events" + where + "= 3")
	s.must("ALTER TABLE trace_events DELETE" + where + "= 4")
	r := s.verify(nil)
	r.Rollups = nil
	want(t, r, "different", "partition 0 different: missing 1, repeated 1, stray 0, expired 0, gaps 0, more 0",
		"  repeated 3-3 (1) of 2 rows", "  missing 4-4 (1) of 0 rows")
}

func TestRowsThatKafkaNeverHad(t *testing.T) {
	s := newSystem(t, 2, nil)
	s.produceGood(100)
	s.stored()
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (1, 5000), (1, 5003)")
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (0, -1)")
	r := s.verify(nil)
	want(t, r, "different",
		"partition 0 different: missing 0, repeated 0, stray 1, expired 0, gaps 0, more 0", "  stray -1--1 (1) of 1 rows",
		"partition 1 different: missing 0, repeated 0, stray 2, expired 0, gaps 0, more 0", "  stray 5000-5003 (4) of 2 rows")
	wantNote(t, r.Partitions[1].Notes, "the partition ends at 100")

	s.must("TRUNCATE TABLE trace_events_quarantine")
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (7, 0)")
	r = s.verify(nil)
	want(t, r, "unknown", "partition 7 unknown: missing 0, repeated 0, stray 0, expired 0, gaps 0, more 0")
	wantNote(t, r.Partitions[2].Notes, "the topic does not have it")
}

func TestFaultsOfRollups(t *testing.T) {
	s := newSystem(t, 2, nil)
	s.produceGood(100)
	s.stored()
	const cell = " (account_id, script_name, version_id, time, requests) SELECT account_id, script_name, version_id, time, "
	s.must("INSERT INTO version_rates_1m" + cell + "toUInt64(-1) FROM version_rates_1m WHERE script_name = 'shop' AND version_id = 'v2' LIMIT 1") // short by one
	s.must("INSERT INTO version_rates_1h SELECT * FROM version_rates_1h WHERE script_name = 'cart' AND version_id = 'v1'")                        // a block twice
	r := s.verify(nil)
	var twice uint64
	for _, f := range r.Rollups[2].Faults {
		twice += f.Requests - f.Events
		if f.Requests != 2*f.Events || f.ScriptName != "cart" || f.VersionID != "v1" || f.AccountID != account {
			t.Errorf("a row of hours is %+v, want one that counts twice what it should", f)
		}
	}
	if twice == 0 || r.Rollups[2].Verdict != Different || int(r.Rollups[2].Different) != len(r.Rollups[2].Faults) {
		t.Errorf("the hours are %+v, want what was counted twice", r.Rollups[2])
	}
	r.Rollups = r.Rollups[:2]
	want(t, r, "different", "version_rates_1m different: 1", "  shop v2: -1")

	// A row that the events know nothing of, and one that is gone.
	s.must("TRUNCATE TABLE version_rates_1h")
	s.must("INSERT INTO version_rates_1s (account_id, script_name, version_id, time, requests) VALUES ('a', 'nobody', 'v', now(), 3)")
	r = s.verify(func(c *Config) { c.Limit = 1 })
	want(t, Report{Verdict: r.Verdict, Rollups: r.Rollups[:2]}, "different", "version_rates_1s different: 1", "  nobody v: +3", "version_rates_1m different: 1", "  shop v2: -1")
	if h := r.Rollups[2]; h.Different < 6 || len(h.Faults) != 1 || h.More != h.Different-1 || h.Faults[0].Requests != 0 {
		t.Errorf("an empty rollup is reported as %+v", h)
	}
}

func TestQuarantinedRecordsHaveARow(t *testing.T) {
	s := newSystem(t, 1, nil)
	now := time.Now()
	s.produce(0, now, s.event(now), []byte("poison"), s.event(now), []byte(`{"ScriptName":7}`), nil)
	s.stored()
	want(t, s.verify(nil), "exact")
	s.must("INSERT INTO trace_events_quarantine SELECT * FROM trace_events_quarantine WHERE kafka_offset = 3")
	s.must("ALTER TABLE trace_events_quarantine DELETE WHERE kafka_offset = 1")
	want(t, s.verify(nil), "different", "partition 0 different: missing 1, repeated 1, stray 0, expired 0, gaps 0, more 0",
		"  missing 1-1 (1) of 0 rows", "  repeated 3-3 (1) of 2 rows")
}

// Batches that cannot be decoded in the middle and at the end, where the verifier looks at
// samples, and one that is longer than the rows that it has.
func TestBatchesThatCannotBeDecodedHaveRows(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(4)
	s.produceBroken(3) // offsets 4 to 6
	s.produceGood(4)
	s.produceBroken(tables.BatchRowsMax + 2) // offsets 11 to 10,012
	s.produceGood(4)
	s.produceBroken(2) // offsets 10,017 and 10,018
	s.stored()
	r := s.verify(nil)
	want(t, r, "exact")
	if p := r.Partitions[0]; p.Undecodable != 2 || p.Gaps != 0 || p.Rows != 10_017 {
		t.Errorf("the partition is %+v, want two offsets without a row", p)
	}
	wantNote(t, r.Partitions[0].Notes, "2 offsets without a row lie in batches")
	s.must("ALTER TABLE trace_events_quarantine DELETE WHERE kafka_offset IN (5, 10010)")
	s.must("INSERT INTO trace_events_quarantine SELECT * FROM trace_events_quarantine WHERE kafka_offset = 10018")
	want(t, s.verify(nil), "different", "partition 0 different: missing 2, repeated 1, stray 0, expired 0, gaps 0, more 0",
		"  missing 5-5 (1) of 0 rows", "  missing 10010-10010 (1) of 0 rows", "  repeated 10018-10018 (1) of 2 rows")
}

// Retention may have taken the rows of what is older than the tables keep it.
func TestExpiredRows(t *testing.T) {
	s := newSystem(t, 1, func(r *clickhouse.Retention) { r.EventDays, r.QuarantineDays = 2, 3 })
	now := time.Now()
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days) }
	s.produce(0, ago(40), s.event(ago(40)), []byte("poison"))
	s.produce(0, now, s.event(now), s.event(ago(3)), s.event(ago(1)), s.event(now)) // the second tells of a request of three days
	s.stored()
	s.must("ALTER TABLE trace_events DELETE" + where + "IN (0, 3)")
	s.must("ALTER TABLE trace_events_quarantine DELETE" + where + "= 1")
	r := s.verify(nil)
	want(t, r, "exact", "partition 0 exact: missing 0, repeated 0, stray 0, expired 3, gaps 0, more 0")
	if p := r.Partitions[0]; p.From != 2 || p.To != 6 || p.Rows != 3 {
		t.Errorf("the partition is %+v, want the offsets from 2 on and three rows", p)
	}
	wantNote(t, r.Partitions[0].Notes, "1 records have no row, and are older")
	s.must("ALTER TABLE trace_events DELETE" + where + "= 4") // of yesterday
	r = s.verify(nil)
	if r.Partitions[0].Missing != 1 || r.Partitions[0].Expired != 3 {
		t.Errorf("the partition is %+v, want one missing row beside those that are expired", r.Partitions[0])
	}
}

func TestSinceLeavesOutWhatIsOlder(t *testing.T) {
	s := newSystem(t, 1, nil)
	hourAgo := time.Now().Add(-time.Hour)
	s.produce(0, hourAgo, s.event(hourAgo), s.event(hourAgo))
	s.produceGood(5)
	s.stored()
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset) VALUES (0, 1)") // a fault in the old part
	r := s.verify(func(c *Config) { c.Since = time.Now().Add(-time.Minute) })
	want(t, r, "exact")
	if p := r.Partitions[0]; p.From != 2 || p.To != 7 {
		t.Errorf("the partition is %+v, want the offsets from 2 to 7", p)
	}
}

// Of an event that was deleted by request the quarantine keeps the offset, and rates may
// stay that count it.
func TestDeletedEventsAreAccountedFor(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(20)
	s.stored()
	// The offsets are noted before the rows go.
	s.must("INSERT INTO trace_events_quarantine (kafka_partition, kafka_offset, reason) SELECT kafka_partition, kafka_offset, 'deleted' FROM trace_events WHERE script_name = 'shop'")
	want(t, s.verify(nil), "exact")
	s.must("ALTER TABLE trace_events DELETE WHERE script_name = 'shop'")
	if r := s.verify(nil); r.Verdict != Different || r.Partitions[0].Verdict != Exact {
		t.Errorf("rates of rows that nobody asked to delete are reported as %+v", r)
	}
	s.must("INSERT INTO tombstones (account_id, script_name, before) SELECT any(account_id), 'shop', now() + 1 FROM trace_events")
	r := s.verify(nil)
	want(t, r, "exact")
	wantNote(t, r.Rollups[0].Notes, "deleted by request")
}

func TestNothingCommitted(t *testing.T) {
	s := newSystem(t, 1, nil)
	s.produceGood(5)
	r := s.verify(nil)
	if r.Verdict != Unknown || r.Partitions[0].Behind != 5 {
		t.Errorf("the report is %+v, want unknown", r)
	}
	wantNote(t, r.Notes, "has committed nothing")
}
