package ingest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"go.opentelemetry.io/otel/attribute"

	"tidegate/internal/clickhouse/clickhousetest"
	"tidegate/schema"
)

// table asks a test's database and returns the rows, each with spaces between values.
func table(t testing.TB, database, statement string) []string {
	t.Helper()
	answer, err := clickhousetest.Ask(t.Context(), serverAddr(t), "SELECT "+strings.ReplaceAll(statement, "FROM ", "FROM "+database+".")+" FORMAT TSV")
	if err != nil {
		t.Fatal(err)
	}
	if answer == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(answer, "\t", " "), "\n")
}

func wantTable(t testing.TB, database, statement string, want ...string) {
	t.Helper()
	if got := table(t, database, statement); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s:\n got %q\nwant %q", statement, got, want)
	}
}

const quarantinedBy = "reason, count() FROM trace_events_quarantine GROUP BY reason ORDER BY reason"

// produceBroken writes a batch whose checksum is right and whose records nobody can read.
func (c *cluster) produceBroken(partition, records int) {
	c.t.Helper()
	const header = 61
	be := binary.BigEndian
	payload := []byte("this is not zstd")
	b := make([]byte, 4+header, 4+header+len(payload))
	b = append(b, payload...)
	batch := b[4:]
	be.PutUint32(b, uint32(len(batch)))
	be.PutUint32(batch[8:], uint32(len(batch)-12))
	batch[16] = 2               // format
	be.PutUint16(batch[21:], 4) // zstd
	be.PutUint32(batch[23:], uint32(records-1))
	be.PutUint64(batch[27:], uint64(noon.UnixMilli()))
	be.PutUint64(batch[35:], uint64(noon.UnixMilli()))
	copy(batch[43:57], bytes.Repeat([]byte{0xff}, 14)) // no producer id
	be.PutUint32(batch[57:], uint32(records))
	be.PutUint32(batch[17:], crc32.Checksum(batch[21:], crc32.MakeTable(crc32.Castagnoli)))
	answer, err := c.client.RawProduce(c.t.Context(), &kafka.RawProduceRequest{
		Topic: "topic", Partition: partition, RequiredAcks: kafka.RequireAll, RawRecords: protocol.RawRecordSet{Reader: bytes.NewReader(b)},
	})
	if err == nil {
		err = answer.Error
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.produced.Add(int64(records))
}

// A poison record first, in the middle, last, alone, and as a whole block; and a batch of
// Kafka's that cannot be decoded, in the same places.
func TestPoisonInEachPosition(t *testing.T) {
	poison := []byte(`{"ScriptName":`)
	const block = 5
	good := func(n int) (values [][]byte) {
		for i := range n {
			values = append(values, value(i))
		}
		return values
	}
	place := func(i int) [][]byte {
		values := good(block)
		values[i] = poison
		return values
	}
	f := func(name string, quarantined string, produce func(c *cluster)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, database := openNamed(t, serverAddr(t))
			c := startKafka(t, 1)
			produce(c)
			c.run(newIngest(t, db, func(cfg *Config) { cfg.RowsMax = block }).HandlePartition)
			c.wantExactly(db, int64(len(strings.Split(quarantined, ","))))
			wantTable(t, database, "kafka_offset FROM trace_events_quarantine ORDER BY kafka_offset", strings.Split(quarantined, ",")...)
		})
	}
	f("first", "0", func(c *cluster) { c.produce(0, place(0)...) })
	f("middle", "2", func(c *cluster) { c.produce(0, place(2)...) })
	f("last", "4", func(c *cluster) { c.produce(0, place(4)...); c.produce(0, good(block)...) })
	f("alone", "0", func(c *cluster) { c.produce(0, poison) })
	f("a whole block", "5,6,7,8,9", func(c *cluster) {
		c.produce(0, good(block)...)
		c.produce(0, poison, poison, poison, poison, poison)
		c.produce(0, good(block)...)
	})
	f("a broken batch first", "0,1,2", func(c *cluster) { c.produceBroken(0, 3); c.produce(0, good(block)...) })
	f("a broken batch in the middle", "1,2", func(c *cluster) { c.produce(0, good(1)...); c.produceBroken(0, 2); c.produce(0, good(7)...) })
	f("a broken batch over the end of a block", "4,5,6", func(c *cluster) { c.produce(0, good(4)...); c.produceBroken(0, 3); c.produce(0, good(1)...) })
	f("broken batches alone", "0,1", func(c *cluster) { c.produceBroken(0, 1); c.produceBroken(0, 1) })
}

// A topic that others write to as well: their JSON, binary data, nothing, and far too
// much. Each is in the quarantine with its reason, and every event is counted.
func TestForeignTopic(t *testing.T) {
	db, database := openNamed(t, serverAddr(t))
	c := startKafka(t, 2)
	record := func(value []byte, headers ...kafka.Header) kafka.Record {
		r := kafka.Record{Time: noon, Headers: headers}
		if value != nil {
			r.Value = kafka.NewBytes(value)
		}
		return r
	}
	ours := headersOf(testAccount)
	binaryData := make([]byte, 256)
	for i := range binaryData {
		binaryData[i] = byte(i)
	}
	huge := bytes.Repeat([]byte(`{"a":1,`), valueBytesMax/7+1) // of the same, so that a broker takes it
	c.produceGood(10)
	c.produceRecords(0,
		record([]byte(`{"order":17,"customer":"x"}`)), // JSON of others, without our headers
		record([]byte(`{"order":17}`), ours...),
		record([]byte(`[1,2,3]`), ours...),
		record([]byte(`"text"`), ours...),
		record(nil, ours...), // a tombstone
		record([]byte{}, ours...),
		record(binaryData, ours...),
		record(binaryData),
		record(value(3), kafka.Header{Key: "schema", Value: []byte("7")}, kafka.Header{Key: "account", Value: []byte(testAccount)}),
		record(value(3), kafka.Header{Key: "account", Value: []byte(strings.Repeat("a", keyBytesMax+1))}),
	)
	c.produceRecords(1, record(huge, ours...), record(value(1), ours...))
	c.produceGood(10)
	in := newIngest(t, db, func(cfg *Config) { cfg.RowsMax, cfg.MemoryBytes = 20, MemoryBytesMin(cfg.InsertsMax) })
	stop := c.run(in.HandlePartition)
	const quarantined = 11
	eventually(t, "everything is settled", c.settled)
	stop()
	if kept := in.slots.bytes.Load(); kept > int64(in.slots.max)*in.slots.keep || kept >= int64(len(huge)) {
		t.Errorf("%d bytes of memory are kept for blocks, after one value of %d", kept, len(huge))
	}
	wantTable(t, database, quarantinedBy, "account 2", "length 1", "schema 1", "size 1", "undecodable 6")
	wantTable(t, database, "count(), uniqExact(kafka_partition, kafka_offset) FROM trace_events", fmt.Sprint(c.produced.Load()-quarantined, " ", c.produced.Load()-quarantined))
	wantTable(t, database, "value_bytes, length(value), length(detail) > 0 FROM trace_events_quarantine WHERE reason = 'size'", fmt.Sprint(len(huge), " ", quarantineValueBytes, " 1"))
	// What is kept of binary data is what was sent.
	wantTable(t, database, "count() FROM trace_events_quarantine WHERE value = unhex('"+fmt.Sprintf("%x", binaryData)+"')", "2")
}

// named is an event whose script, version and clock are as they are given.
func named(script, version string, at time.Time) []byte {
	e := schema.TraceEvent{
		EventTimestampMs: at.UnixMilli(), EventType: "fetch", Outcome: schema.OutcomeOK, ScriptName: script,
		ScriptVersion: schema.ScriptVersion{ID: version}, Gateway: schema.Gateway{Decision: schema.DecisionSplit, RayID: "r"},
		Event: []byte(`{"RayID":"r","Request":{"URL":"http://x/","Method":"GET"},"Response":{"Status":200}}`),
	}
	return e.AppendJSON(nil)
}

// Names that are too long to be any go to the quarantine; as long as one may be they count.
func TestLengthsOfNames(t *testing.T) {
	db, database := openNamed(t, serverAddr(t))
	c := startKafka(t, 1)
	fits, long := strings.Repeat("n", keyBytesMax), strings.Repeat("n", keyBytesMax+1)
	c.produce(0, named(fits, fits, noon), named(long, "v", noon), named("s", long, noon), named("s", "v", noon))
	c.run(newIngest(t, db, nil).HandlePartition)
	c.wantExactly(db, 2)
	wantTable(t, database, "kafka_offset, reason, detail FROM trace_events_quarantine ORDER BY kafka_offset",
		"1 length ScriptName has more than 255 bytes", "2 length ScriptVersion.id has more than 255 bytes")
}

// Clocks that are wrong by an hour or more: counted under the event's time as long as that
// can be true, and else under that of its record; what is stored says by how much.
func TestClocksThatAreWrong(t *testing.T) {
	db, database := openNamed(t, serverAddr(t))
	c := startKafka(t, 1)
	const hour = time.Hour
	late := noon.Add(-schema.EventBehindMax - hour)
	c.produce(0,
		named("ahead", "v", noon.Add(hour)), named("ahead", "v", noon.Add(hour+time.Millisecond)),
		named("behind", "v", noon.Add(-hour)), named("behind", "v", late))
	// The clock of the whole machine that sent them, so that Kafka has the same.
	c.produceRecords(0, kafka.Record{Time: noon.Add(hour), Value: kafka.NewBytes(named("machine", "v", noon.Add(hour))), Headers: headersOf(testAccount)})
	c.run(newIngest(t, db, nil).HandlePartition)
	c.wantExactly(db, 0)
	wantTable(t, database, "script_name, toUnixTimestamp64Milli(time), skew_ms FROM trace_events ORDER BY kafka_offset",
		fmt.Sprint("ahead ", noon.Add(hour).UnixMilli(), " 0"),
		fmt.Sprint("ahead ", noon.UnixMilli(), " ", hour.Milliseconds()+1),
		fmt.Sprint("behind ", noon.Add(-hour).UnixMilli(), " 0"),
		fmt.Sprint("behind ", noon.UnixMilli(), " ", late.Sub(noon).Milliseconds()),
		fmt.Sprint("machine ", noon.Add(hour).UnixMilli(), " 0"))
	for script, at := range map[string]time.Time{"machine": noon.Add(hour), "behind": noon.Add(-hour)} {
		rates, err := db.RatesBetween(t.Context(), testAccount, script, at, at.Add(time.Minute))
		if err != nil || len(rates) != 1 || rates[0].Requests != 1 {
			t.Errorf("the rates of %s at %s are %+v, %v, want one request", script, at, rates, err)
		}
	}
}

// Ingest asks nobody which versions there are.
func TestAVersionNobodyKnows(t *testing.T) {
	db := openDB(t, serverAddr(t))
	c := startKafka(t, 1)
	c.produce(0, named("shop", "99999999-9999-4999-8999-999999999999", noon), named("shop", "", noon), named("shop", "no uuid: <\"é\u2028>", noon))
	c.run(newIngest(t, db, nil).HandlePartition)
	c.wantExactly(db, 0)
	rates, err := db.RatesBetween(t.Context(), testAccount, "shop", noon, noon.Add(time.Minute))
	if err != nil || len(rates) != 3 {
		t.Errorf("the rates are %+v, %v, want three versions", rates, err)
	}
}

// attackNames is how many names an attack has: 66,000, or with TIDEGATE_LONG a million.
func attackNames() int {
	if os.Getenv("TIDEGATE_LONG") != "" {
		return 1_000_000
	}
	return 66_000
}

const (
	// attackHeapMax is what the heap may grow by while an attack goes on, garbage included.
	// A block has 22,000 events of some 500 bytes, as text, columns and body, twice for what
	// the collector has not taken yet; and the broker is in this process.
	attackHeapMax = 256 << 20
	// attackKeptMax of it may be left afterwards: 50,000 names, slots and buffers for
	// blocks, and what the broker keeps of a group.
	attackKeptMax = 96 << 20
	// attackEngineMax is what the resident memory of the engine may grow by, which merges,
	// and touches parts of its library for the first time. Half of what it may have.
	attackEngineMax = 512 << 20
)

// Made-up script names, versions or accounts, nine of ten events each with another one: what
// may be in use has a bound, and the rest is in the quarantine, with its reason, once. Who
// was there before loses nothing, and neither ingest nor the engine grows by more than
// blocks need.
func TestCardinalityAttacks(t *testing.T) {
	attacks := attackNames()
	const rows, knownOneIn = 22_000, 10
	namesMax := NamesMin
	if attacks == 1_000_000 {
		namesMax = NamesDefault
	}
	f := func(what string, places, ofAccount int, made func(n int) (account string, value []byte)) {
		t.Run(what, func(t *testing.T) {
			reader := collected(t)
			db, database := openNamed(t, serverAddr(t))
			c := startKafka(t, 1)
			const batch = 1_000
			known := kafka.Record{Time: noon, Headers: headersOf(testAccount)}
			for n := 0; n < attacks; n += batch {
				records := make([]kafka.Record, batch)
				for i := range records {
					if (n+i)%knownOneIn == 0 {
						records[i] = known
						records[i].Value = kafka.NewBytes(named("known", "v", noon))
						continue
					}
					account, v := made(n + i)
					records[i] = kafka.Record{Time: noon, Value: kafka.NewBytes(v), Headers: headersOf(account)}
				}
				c.produceRecords(0, records...)
			}
			in := newIngest(t, db, func(cfg *Config) {
				cfg.RowsMax, cfg.InsertsMax, cfg.NamesMax, cfg.Interval = rows, 1, namesMax, time.Hour
			})
			before, engineBefore := heap(), engineBytes(t)
			begun := time.Now()
			stop := c.run(in.HandlePartition)
			most, engineMost := int64(0), int64(0)
			eventuallyWithin(t, 15*time.Minute, "everything is settled", func() bool {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most, engineMost = max(most, int64(m.HeapAlloc)-before), max(engineMost, engineBytes(t)-engineBefore)
				return c.settled()
			})
			took := time.Since(begun)
			names := seriesValue(t, reader, "tidegate_ingest_names")
			stop()
			kept := heap() - before
			// A name has a place of its own, as the one that is known has.
			ofKnown := attacks / knownOneIn
			stored := places - 1 + ofKnown
			refused := attacks - stored
			wantTable(t, database, quarantinedBy, fmt.Sprint(reasonCardinality, " ", refused))
			if n := seriesValue(t, reader, "tidegate_ingest_events_quarantined_total", attribute.String("reason", reasonCardinality)); int(n) != refused {
				t.Errorf("%v are in quarantine by the metric, want %d", n, refused)
			}
			if int(names) != ofAccount || int(seriesValue(t, reader, "tidegate_ingest_names_max")) != namesMax {
				t.Errorf("%v names are in use of an account, want %d", names, ofAccount)
			}
			wantTable(t, database, "count(), countIf(script_name = 'known'), uniqExact(account_id, script_name, version_id) FROM trace_events", fmt.Sprint(stored, " ", ofKnown, " ", places))
			wantTable(t, database, "count() FROM trace_events WHERE kafka_offset IN (SELECT kafka_offset FROM trace_events_quarantine)", "0")
			for _, rollup := range []string{"1s", "1m", "1h"} {
				wantTable(t, database, "sum(requests), sumIf(requests, script_name = 'known') FROM version_rates_"+rollup, fmt.Sprint(stored, " ", ofKnown))
			}
			if most > attackHeapMax || kept > attackKeptMax || engineMost > attackEngineMax {
				t.Errorf("the heap grew by %d bytes, of which %d are kept, and the engine by %d: more than %d, %d and %d",
					most, kept, engineMost, attackHeapMax, attackKeptMax, attackEngineMax)
			}
			t.Logf("%d events in %s: %d stored, %d in quarantine; heap of this process, broker included, at most %d MiB more and %d MiB afterwards, engine at most %d MiB more",
				attacks, took.Round(time.Millisecond), stored, refused, most>>20, kept>>20, engineMost>>20)
		})
	}
	f("script names", namesMax, namesMax, func(n int) (string, []byte) {
		return testAccount, named("script-"+strconv.Itoa(n), "v", noon.Add(time.Duration(n)*time.Microsecond))
	})
	f("versions", namesMax, namesMax, func(n int) (string, []byte) { return testAccount, named("shop", "version-"+strconv.Itoa(n), noon) })
	f("accounts", accountsInUseMax, 1, func(n int) (string, []byte) { return "account-" + strconv.Itoa(n), named("shop", "v", noon) })
}

// engineBytes is the resident memory of the embedded engine, 0 where it is another's.
func engineBytes(t testing.TB) int64 {
	t.Helper()
	if shared.engine == nil {
		return 0
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", shared.engine.Pid()))
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 2 {
		return 0 // it is just being started anew
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
