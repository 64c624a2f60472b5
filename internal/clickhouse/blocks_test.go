package clickhouse

import (
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tidegate/internal/errs"
	"tidegate/schema"
	tables "tidegate/schema/clickhouse"
)

func blocksBetween(t testing.TB, db *DB, since, until time.Time, durations bool) []schema.RateBlock {
	t.Helper()
	blocks, err := db.RateBlocks(t.Context(), account, script, since, until, durations)
	if err != nil {
		t.Fatal(err)
	}
	return blocks
}

// expectedBlocks works out in Go what rows are to be counted as.
func expectedBlocks(rows []row, durations bool) []schema.RateBlock {
	type cell struct {
		second  int64
		version string
	}
	cells := map[cell]*schema.RateBlock{}
	for _, r := range rows {
		if r.account != account || r.script != script || !slices.Contains([]string{schema.DecisionSplit, schema.DecisionAffinity, schema.DecisionOnly}, r.decision) {
			continue
		}
		key := cell{r.at.Unix(), r.version}
		b := cells[key]
		if b == nil {
			b = &schema.RateBlock{VersionID: r.version, Time: time.Unix(r.at.Unix(), 0).UTC()}
			cells[key] = b
		}
		n := 1 + int64(r.sampledOut)
		b.Requests += n
		if schema.Failed(r.outcome, int(r.status)) {
			b.Failures += n
		}
		if r.outcome != schema.OutcomeOK && r.outcome != schema.OutcomeCanceled {
			b.Exceptions += n
		}
		if r.status >= 500 {
			b.Status5xx += n
		}
		b.SampledOut = max(b.SampledOut, int64(r.sampledOut))
		count := func(into *schema.Durations, ms *int64) {
			if !durations || ms == nil {
				return
			}
			if *into == nil {
				*into = schema.Durations{}
			}
			(*into)[schema.DurationBucket(float64(*ms))] += n
		}
		count(&b.Wall, r.wall)
		count(&b.CPU, r.cpu)
	}
	list := []schema.RateBlock{}
	for _, b := range cells {
		list = append(list, *b)
	}
	slices.SortFunc(list, func(a, b schema.RateBlock) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return strings.Compare(a.VersionID, b.VersionID)
	})
	return list
}

// mixedTraffic is events of three versions with every decision, outcome and status, some of
// which stand for others, over so many seconds from noon on.
func mixedTraffic(n, seconds int, sampled bool) []row {
	random := rand.New(rand.NewPCG(7, 11)) // #nosec G404 -- the same in each run
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	rows := make([]row, n)
	for i := range rows {
		r := served(time.Duration(random.IntN(seconds*1000)) * time.Millisecond)
		r.version = one(v1, v2, "33333333-3333-4333-8333-333333333333")
		r.decision = one(schema.DecisionSplit, schema.DecisionSplit, schema.DecisionAffinity, schema.DecisionOnly, schema.DecisionOverride, schema.DecisionObject, schema.DecisionPreview, "")
		r.outcome = one(schema.OutcomeOK, schema.OutcomeOK, schema.OutcomeCanceled, schema.OutcomeException, schema.OutcomeExceededCPU, "brandNew")
		r.status = []uint16{0, 200, 200, 302, 404, 499, 500, 503, 599}[random.IntN(9)]
		r.script = one(script, script, script, "blog")
		r.account = one(account, account, account, deletionOther)
		if r.wall = nil; random.IntN(5) > 0 {
			r.wall = new(int64(math.Exp2(random.Float64() * 14)))
		}
		if random.IntN(2) > 0 {
			r.cpu = new(int64(random.IntN(40)))
		}
		if sampled && random.IntN(3) == 0 {
			r.sampledOut = random.Uint64N(100)
		}
		rows[i] = r
	}
	return rows
}

func TestRateBlocksAreExact(t *testing.T) {
	f := func(sampled bool) {
		t.Helper()
		db := migrated(t)
		rows := mixedTraffic(6_000, 20, sampled)
		for i := 0; i < len(rows); i += 1_500 {
			for range 2 { // the second time is a repeat
				insert(t, db, fmt.Sprint("block-", i), rows[i:i+1_500]...)
			}
		}
		for _, durations := range []bool{true, false} {
			if diff := cmp.Diff(expectedBlocks(rows, durations), blocksBetween(t, db, noon.Add(-time.Hour), noon.Add(time.Hour), durations)); diff != "" {
				t.Errorf("sampled %v, durations %v (-want +got)\n%s", sampled, durations, diff)
			}
		}
		// Seconds that begin in [since, until), and no others.
		within := slices.DeleteFunc(slices.Clone(rows), func(r row) bool {
			return r.at.Before(noon.Add(3*time.Second)) || !r.at.Before(noon.Add(7*time.Second))
		})
		if diff := cmp.Diff(expectedBlocks(within, true), blocksBetween(t, db, noon.Add(2001*time.Millisecond), noon.Add(6001*time.Millisecond), true)); diff != "" {
			t.Errorf("sampled %v, of four seconds (-want +got)\n%s", sampled, diff)
		}
	}
	f(false)
	f(true)
}

// Where nothing can have been stored before the table was made, no other is asked.
func TestRateBlocksOfOneTable(t *testing.T) {
	db := migrated(t)
	rows := mixedTraffic(1_000, 5, true)
	insert(t, db, "all", rows...)
	if err := db.conn.Exec(t.Context(), "TRUNCATE TABLE version_rates_1s"); err != nil {
		t.Fatal(err)
	}
	db.assignedAt.Store(noon.Add(-assignedSettled).UnixMilli())
	if diff := cmp.Diff(expectedBlocks(rows, true), blocksBetween(t, db, noon, noon.Add(time.Minute), true)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := blocksSource([]schema.ScriptRef{{AccountID: account, ScriptName: script}}, noon.Unix(), noon.Unix()+60, noon.Add(-assignedSettled)); strings.Contains(got, rollups[0].Table) {
		t.Errorf("asked is %s", got)
	}
	if got := blocksSource([]schema.ScriptRef{{AccountID: account, ScriptName: script}}, noon.Unix(), noon.Unix()+60, noon.Add(-assignedSettled+time.Second)); !strings.Contains(got, rollups[0].Table) {
		t.Errorf("a second that another may know is asked by %s", got)
	}
}

func TestRateBlocksRefusesRanges(t *testing.T) {
	db := open(t)
	for _, until := range []time.Time{noon, noon.Add(-time.Second), noon.Add(blocksRangeMax + 1), time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if _, err := db.RateBlocks(t.Context(), account, script, noon, until, true); errs.KindOf(err) != errs.Invalid {
			t.Errorf("until %s: %v", until, err)
		}
	}
}

// Many scripts are asked about at once, and each gets its own.
func TestRateBlocksOfManyScripts(t *testing.T) {
	db := migrated(t)
	var rows []row
	var scripts []schema.ScriptRef
	want := map[schema.ScriptRef][]schema.RateBlock{}
	for i := range 25 {
		of := schema.ScriptRef{AccountID: []string{account, deletionOther}[i%2], ScriptName: fmt.Sprintf(`it's "%d"\`, i/2)}
		scripts = append(scripts, of)
		for _, v := range []string{v1, v2} {
			if i == 7 {
				continue // asked about, and has nothing
			}
			r := served(time.Duration(i) * time.Second)
			r.account, r.script, r.version = of.AccountID, of.ScriptName, v
			rows = append(rows, r)
			want[of] = append(want[of], schema.RateBlock{VersionID: v, Time: r.at, Requests: 1, Wall: schema.Durations{schema.DurationBucket(10): 1}})
		}
	}
	insert(t, db, "all", append(rows, served(0))...)                                                     // the last is not asked about
	for _, until := range []time.Time{noon.Add(time.Minute), noon.Add(blocksPiece / 10 * time.Second)} { // in one question, and in three
		got, err := db.RateBlocksOf(t.Context(), scripts, noon, until, true)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("until %s (-want +got)\n%s", until, diff)
		}
	}
	if got, err := db.RateBlocksOf(t.Context(), nil, noon, noon.Add(time.Minute), true); err != nil || len(got) != 0 {
		t.Errorf("of no scripts: %+v, %v", got, err)
	}
}

// A range is asked for piece by piece; nothing is twice or missing where they meet.
func TestRateBlocksOfSeveralPieces(t *testing.T) {
	db := migrated(t)
	var rows []row
	for _, second := range []int{0, 1, blocksPiece - 1, blocksPiece, blocksPiece + 1, 2*blocksPiece - 1, 2 * blocksPiece, 2*blocksPiece + 5} {
		r := served(time.Duration(second-10_000) * time.Second)
		rows = append(rows, r, r)
	}
	insert(t, db, "all", rows...)
	if diff := cmp.Diff(expectedBlocks(rows, true), blocksBetween(t, db, noon.Add(-10_000*time.Second), noon.Add(24*time.Hour), true)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A policy may watch a hundred versions, and they have more seconds in twenty minutes than a
// question has rows. Every look was refused, so none of them could be rolled back.
func TestRateBlocksOfManyVersions(t *testing.T) {
	db := migrated(t)
	const versions, seconds = 84, 1200
	if versions*seconds <= questionRows {
		t.Fatalf("%d rows are not more than %d", versions*seconds, questionRows)
	}
	if err := db.conn.Exec(t.Context(), fmt.Sprintf(`INSERT INTO assigned_rates_1s (account_id, script_name, version_id, time, requests)
		SELECT '%s', '%s', 'v' || leftPad(toString(number %% %d), 2, '0'), toDateTime(%d, 'UTC') + intDiv(number, %d), 1 + number FROM numbers(%d)`,
		account, script, versions, noon.Unix(), versions, versions*seconds)); err != nil {
		t.Fatal(err)
	}
	blocks := blocksBetween(t, db, noon, noon.Add(seconds*time.Second), true)
	if len(blocks) != versions*seconds {
		t.Fatalf("%d blocks, want %d", len(blocks), versions*seconds)
	}
	for i, b := range blocks {
		want := schema.RateBlock{VersionID: fmt.Sprintf("v%02d", i%versions), Time: noon.Add(time.Duration(i/versions) * time.Second), Requests: int64(1 + i)}
		if diff := cmp.Diff(want, b); diff != "" {
			t.Fatalf("block %d (-want +got)\n%s", i, diff)
		}
	}
}

// At each edge, SQL and Go put whole milliseconds into the same bucket.
func TestDurationBucketIsTheServers(t *testing.T) {
	db := open(t)
	values := []int64{math.MinInt64, -1, 0, 1, 2, math.MaxInt32, 1 << 53, math.MaxInt64}
	for bucket := range uint16(481) {
		edge := int64(schema.DurationEdge(bucket))
		values = append(values, edge-1, edge, edge+1)
		if below := schema.DurationBucket(schema.DurationEdge(bucket)); below != bucket {
			t.Errorf("the edge of bucket %d lies in %d", bucket, below)
		}
	}
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = fmt.Sprintf("toInt64('%d')", v)
	}
	var got []uint16
	if err := db.root.QueryRow(t.Context(), "SELECT arrayMap(ms -> "+bucketOf("ms")+", ["+strings.Join(text, ",")+"])").Scan(&got); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		want := schema.DurationBucket(float64(v))
		if got[i] != want {
			t.Errorf("%d ms are in bucket %d, in Go in %d", v, got[i], want)
		}
		if v > 0 && v < 1<<31 && (schema.DurationEdge(want) < float64(v) || want > 0 && schema.DurationEdge(want-1) >= float64(v)) {
			t.Errorf("%d ms are in bucket %d, above %f and up to %f", v, want, schema.DurationEdge(want-1), schema.DurationEdge(want))
		}
	}
}

// callersMigration adds columns that every insert names by now.
const callersMigration = 14

// beforeAssigned returns a database with the tables of the version before 013, and with the
// columns of callersMigration.
func beforeAssigned(t *testing.T) *DB {
	t.Helper()
	db := open(t)
	l := layout{db.cfg.Database, db.cfg.Cluster}
	if err := db.define(t.Context(), db.root.Exec, "CREATE DATABASE "+l.database); err != nil {
		t.Fatal(err)
	}
	for _, statement := range l.history() {
		if err := db.define(t.Context(), db.conn.Exec, statement); err != nil {
			t.Fatal(err)
		}
	}
	names, err := fs.Glob(tables.Migrations, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		number, err := migrationNumber(name)
		if err != nil {
			t.Fatal(err)
		}
		if number < assignedMigration || number == callersMigration {
			if err := db.apply(t.Context(), l, number, name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return db
}

// An upgrade in the middle of a trial: what was stored before is known as far as the older
// table tells, and blocks that were half stored, or are repeated, count once.
func TestRateBlocksAcrossAnUpgrade(t *testing.T) {
	db := beforeAssigned(t)
	failing := func(d time.Duration, decision string) row {
		r := served(d)
		r.outcome, r.status, r.decision, r.cpu = schema.OutcomeException, 500, decision, new(int64(3))
		return r
	}
	good, bad, unclear := served(0), failing(time.Second, schema.DecisionSplit), failing(2*time.Second, schema.DecisionAffinity)
	old := slices.Concat(repeat(4, good), repeat(3, bad), []row{served(time.Second), unclear, failing(2*time.Second, schema.DecisionOverride)})
	insert(t, db, "old", old...)
	second := func(i int, b schema.RateBlock) schema.RateBlock {
		b.VersionID, b.Time = v1, noon.Add(time.Duration(i)*time.Second)
		return b
	}
	before := []schema.RateBlock{
		second(0, schema.RateBlock{Requests: 4}),
		second(1, schema.RateBlock{Requests: 4, Failures: 3, Exceptions: 3, Status5xx: 3}),
		second(2, schema.RateBlock{Requests: 1, Failures: 1, KindsUnknown: true}),
	}
	if diff := cmp.Diff(before, blocksBetween(t, db, noon, noon.Add(time.Minute), true)); diff != "" {
		t.Errorf("by a process of the new version, on the old tables (-want +got)\n%s", diff)
	}
	// Half stored: the events are, and no rollup has them.
	half := slices.Concat(repeat(5, served(3*time.Second)), repeat(2, failing(3*time.Second, schema.DecisionSplit)))
	for _, r := range rollups {
		if err := db.conn.Exec(t.Context(), "DETACH TABLE "+r.Table+"_view"); err != nil {
			t.Fatal(err)
		}
	}
	insert(t, db, "half", half...)
	for _, r := range rollups {
		if err := db.conn.Exec(t.Context(), "ATTACH TABLE "+r.Table+"_view"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, blocksBetween(t, db, noon, noon.Add(time.Minute), true)); diff != "" {
		t.Errorf("after the migration (-want +got)\n%s", diff)
	}

	insert(t, db, "half", half...) // is completed
	mixed := repeat(2, served(time.Second))
	whole := mixedTraffic(500, 3, true)
	for i := range whole {
		whole[i].at = whole[i].at.Add(10 * time.Second)
	}
	insert(t, db, "mixed", mixed...)
	insert(t, db, "whole", whole...)
	want := slices.Concat([]schema.RateBlock{
		before[0],
		second(1, schema.RateBlock{Requests: 6, Failures: 3, Exceptions: 3, Status5xx: 3}), // but no times: most are of before
		before[2],
	}, expectedBlocks(slices.Concat(half, whole), true))
	if diff := cmp.Diff(want, blocksBetween(t, db, noon, noon.Add(time.Minute), true)); diff != "" {
		t.Errorf("across the migration (-want +got)\n%s", diff)
	}
	// A block that was stored before, and whose commit was lost, is new to the new table alone.
	insert(t, db, "old", old...)
	if diff := cmp.Diff(expectedBlocks(slices.Concat(old, mixed, half, whole), true), blocksBetween(t, db, noon, noon.Add(time.Minute), true)); diff != "" {
		t.Errorf("after a repeat (-want +got)\n%s", diff)
	}
	if n, want := scalar(t, db, "SELECT sum(requests) FROM version_rates_1s"), scalar(t, db, "SELECT sum(1 + sampled_out) FROM trace_events"); n != want {
		t.Errorf("the older table counts %s requests of %s", n, want)
	}
}

// The verifier wants of the table what was inserted since it was made, and takes no more
// than all.
func TestRateSumsOfAssignedRequestsAcrossAnUpgrade(t *testing.T) {
	db := beforeAssigned(t)
	early := served(0)
	b := blockOf(early, early)
	b.ProvenAt = time.Now().Add(-20 * time.Second) // a while before the migration
	if err := db.InsertEvents(t.Context(), "early", b); err != nil {
		t.Fatal(err)
	}
	if err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	override := served(time.Second)
	override.decision = schema.DecisionOverride
	insert(t, db, "late", served(time.Second), override, standsFor(7, served(90*time.Minute)))
	compare := func(n uint64) {
		t.Helper()
		rolled, raw, err := db.RateSums(t.Context(), assigned.Table, noon, noon.Add(2*time.Hour))
		if err != nil || len(rolled) != 2 || rolled[0].Requests != n || rolled[1].Requests != 7 {
			t.Fatalf("%+v and %+v, %v", rolled, raw, err)
		}
		if diff := cmp.Diff(rolled, raw); (diff == "") != (n == 1) {
			t.Errorf("with %d requests (-rolled +raw)\n%s", n, diff)
		}
	}
	cells := func() []tables.RateCell {
		t.Helper()
		list, err := db.RateCells(t.Context(), assigned.Table, noon, noon.Add(2*time.Hour), []int64{100}, 10)
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	compare(1)
	if list := cells(); len(list) != 0 {
		t.Errorf("what was stored before the table was made is taken for lost: %+v", list)
	}
	insert(t, db, "early", early, early)
	compare(3)
	if list := cells(); len(list) != 0 {
		t.Errorf("a block that was repeated since is taken for too much: %+v", list)
	}
	insert(t, db, "twice", served(time.Second))
	if err := db.conn.Exec(t.Context(), "ALTER TABLE trace_events DELETE WHERE decision = 'split' AND time = fromUnixTimestamp64Milli("+fmt.Sprint(noon.Add(time.Second).UnixMilli())+", 'UTC') SETTINGS mutations_sync = 2"); err != nil {
		t.Fatal(err)
	}
	if list := cells(); len(list) != 1 || list[0].Requests != 2 || list[0].Rows != 0 {
		t.Errorf("what no event stands for is %+v", list)
	}
}
