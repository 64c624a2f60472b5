package clickhouse

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	ch "github.com/ClickHouse/clickhouse-go/v2"

	"tidegate/internal/errs"
	tables "tidegate/schema/clickhouse"
)

const (
	// verifyTimeout bounds one question of a verifier, which may be about every row.
	verifyTimeout = 10 * time.Minute
	// verifySpillBytes is where groups go to disk: the embedded engine has a gigabyte for
	// everything.
	verifySpillBytes = 200 << 20
	// verifyRanges is how many ranges of offsets one statement asks about.
	verifyRanges = 200
)

// verifying returns ctx with the bounds of a verifier's question, which makes way for others.
func verifying(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	settings := archiveSettings()
	settings["max_bytes_before_external_group_by"] = verifySpillBytes
	settings["cancel_http_readonly_queries_on_client_close"] = 1
	return ch.Context(ctx, ch.WithSettings(settings)), cancel
}

// visit runs a query and calls scan for each row of its answer.
func (db *DB) visit(ctx context.Context, attempt, query string, scan func(func(...any) error) error, args ...any) error {
	ctx, cancel := verifying(ctx)
	defer cancel()
	rows, err := db.conn.Query(ctx, query, args...)
	if err != nil {
		return failed(attempt, err)
	}
	defer func() { _ = rows.Close() }() // what went wrong is in rows.Err
	for rows.Next() {
		if err := scan(rows.Scan); err != nil {
			return failed(attempt, err)
		}
	}
	return failed(attempt, rows.Err())
}

// Kept reads from the tables themselves for how long they keep rows. The error is of kind
// errs.NotFound where there are no tables.
func (db *DB) Kept(ctx context.Context) (tables.Kept, error) {
	days, found := map[string]int{}, 0
	// On a cluster the table that has a TTL is the local one, whatever the face is called.
	err := db.visit(ctx, "read how long the tables keep rows", `SELECT replaceRegexpOne(name, '_local$', '') AS face,
			toInt64(max(toUInt32OrZero(extract(engine_full, 'toIntervalDay\\((\\d+)\\)')))), toInt64(count())
		FROM system.tables WHERE database = {database:String} GROUP BY face`, func(scan func(...any) error) error {
		var face string
		var n, tables int64
		err := scan(&face, &n, &tables)
		days[face] = int(n)
		return err
	}, ch.Named("database", db.cfg.Database))
	if err != nil {
		return tables.Kept{}, err
	}
	for _, t := range db.cfg.Retention.byTable() {
		if _, ok := days[t.table]; ok {
			found++
		}
	}
	if want := len(db.cfg.Retention.byTable()); found < want {
		return tables.Kept{}, errs.New(errs.NotFound, 0, "the database %s has %d of the %d tables that ingest makes: name the database of the platform behind the address, as in http://host:8123/database",
			db.cfg.Database, found, want)
	}
	kept := tables.Kept{EventDays: days["trace_events"], QuarantineDays: days["trace_events_quarantine"]}
	for _, r := range rateTables {
		kept.Rollups = append(kept.Rollups, tables.KeptRollup{Table: r.Table, Bucket: time.Duration(r.Seconds) * time.Second, Days: days[r.Table]})
	}
	return kept, nil
}

// offsetColumns is a subquery of both tables that hold records, with the columns that
// are asked for in each; where is a condition on partition, offset and time of insertion.
func offsetColumns(events, quarantine, where string) string {
	return "(SELECT " + events + " FROM trace_events WHERE " + where + " UNION ALL SELECT " + quarantine + " FROM trace_events_quarantine WHERE " + where + ")"
}

// insertedSince is a condition; the zero time is none.
func insertedSince(t time.Time) string {
	if t.IsZero() {
		return "1"
	}
	return fmt.Sprintf("inserted_at >= fromUnixTimestamp64Milli(%d, 'UTC')", t.UnixMilli())
}

// byPartition picks a number for the partition of a row from a list, 0 where there is none.
func byPartition(list []int64) string {
	return "if(kafka_partition >= 0 AND kafka_partition < " + strconv.Itoa(len(list)) + ", " + "[" + numbers(list) + "][kafka_partition + 1], 0)"
}

// numbers writes a list of them as SQL; an empty one would have no type.
func numbers[T int64 | uint64](list []T) string {
	if len(list) == 0 {
		return "0"
	}
	text := make([]string, len(list))
	for i, n := range list {
		text[i] = fmt.Sprint(n)
	}
	return strings.Join(text, ",")
}

// OffsetSums calls visit for each bucket of ranges, of which each partition may have one,
// that has rows which were inserted at or after a time. It reads four columns of every
// row in the ranges.
func (db *DB) OffsetSums(ctx context.Context, ranges []tables.OffsetRange, inserted time.Time, visit func(tables.OffsetSum)) error {
	if len(ranges) == 0 {
		return nil
	}
	n, least, most := 0, ranges[0].Begin, ranges[0].End
	for _, r := range ranges {
		n, least, most = max(n, r.Partition+1), min(least, r.Begin), max(most, r.End)
	}
	begins, ends := make([]int64, n), make([]int64, n)
	for _, r := range ranges {
		begins[r.Partition], ends[r.Partition] = r.Begin, r.End
	}
	// The bounds of all are what the index on offsets knows.
	where := fmt.Sprintf("kafka_offset >= %d AND kafka_offset < %d AND kafka_offset >= %s AND kafka_offset < %s AND %s",
		least, most, byPartition(begins), byPartition(ends), insertedSince(inserted))
	const key = "kafka_partition, kafka_offset, "
	query := fmt.Sprintf(`SELECT kafka_partition, intDiv(kafka_offset, %d) AS bucket, count(), sum(intHash64(kafka_offset)), min(at) FROM %s GROUP BY kafka_partition, bucket`,
		tables.BucketOffsets, offsetColumns(key+"toUnixTimestamp64Milli(time) AS at", fmt.Sprintf("%stoInt64(%d) AS at", key, int64(tables.NoTime)), where))
	return db.visit(ctx, "sum the offsets of the events", query, func(scan func(...any) error) error {
		var s tables.OffsetSum
		var partition int32
		if err := scan(&partition, &s.Bucket, &s.Rows, &s.Sum, &s.OldestMS); err != nil {
			return err
		}
		s.Partition = int(partition)
		visit(s)
		return nil
	})
}

// OffsetRows returns what there is of each offset in ranges, of rows that were inserted at
// or after a time, in the order of partitions and offsets. Offsets without rows are absent.
func (db *DB) OffsetRows(ctx context.Context, ranges []tables.OffsetRange, inserted time.Time) (list []tables.OffsetRows, err error) {
	for len(ranges) > 0 && err == nil {
		some := ranges[:min(len(ranges), verifyRanges)]
		ranges = ranges[len(some):]
		list, err = db.offsetRows(ctx, list, some, inserted)
	}
	return list, err
}

func (db *DB) offsetRows(ctx context.Context, list []tables.OffsetRows, ranges []tables.OffsetRange, inserted time.Time) ([]tables.OffsetRows, error) {
	conditions := make([]string, len(ranges))
	least, most := ranges[0].Begin, ranges[0].End
	for i, r := range ranges {
		conditions[i] = fmt.Sprintf("kafka_partition = %d AND kafka_offset >= %d AND kafka_offset < %d", r.Partition, r.Begin, r.End)
		least, most = min(least, r.Begin), max(most, r.End)
	}
	where := fmt.Sprintf("kafka_offset >= %d AND kafka_offset < %d AND (%s) AND %s", least, most, strings.Join(conditions, " OR "), insertedSince(inserted))
	const key = "kafka_partition, kafka_offset, "
	query := `SELECT kafka_partition, kafka_offset, countIf(event), countIf(NOT event), countIf(reason = '` + tables.ReasonDeleted + `'),
			(countIf(event) = 0 OR minIf(cityHash64(at, skew, ray), event) = maxIf(cityHash64(at, skew, ray), event))
				AND (countIf(NOT event) = 0 OR minIf(cityHash64(at, size), NOT event) = maxIf(cityHash64(at, size), NOT event)),
			anyIf(at, event), anyIf(skew, event), anyIf(ray, event), anyIf(at, NOT event), anyIf(size, NOT event)
		FROM ` + offsetColumns(
		key+"true AS event, toUnixTimestamp64Milli(time) AS at, skew_ms AS skew, ray_id AS ray, toUInt64(0) AS size, '' AS reason",
		key+"false AS event, toUnixTimestamp64Milli(kafka_time) AS at, toInt64(0) AS skew, '' AS ray, value_bytes AS size, toString(reason) AS reason", where) + `
		GROUP BY kafka_partition, kafka_offset ORDER BY kafka_partition, kafka_offset`
	err := db.visit(ctx, "read the rows of single offsets", query, func(scan func(...any) error) error {
		var r tables.OffsetRows
		var partition int32
		var alike uint8
		if err := scan(&partition, &r.Offset, &r.Events, &r.Quarantined, &r.Deleted, &alike, &r.TimeMS, &r.SkewMS, &r.RayID, &r.QuarantineTimeMS, &r.QuarantineBytes); err != nil {
			return err
		}
		r.Partition, r.Alike = int(partition), alike == 1
		list = append(list, r)
		return nil
	})
	return list, err
}

// StrayRows returns, by partition, rows that were inserted at or after a time and have an
// offset that the partition does not have. Ends are those of partition 0, 1 and so on; a
// partition beyond them has no offset at all, and its rows count as recent. Notes of
// deleted offsets never do: their time is the deletion's.
func (db *DB) StrayRows(ctx context.Context, ends []tables.PartitionEnd, inserted time.Time) (list []tables.StrayRows, err error) {
	offsets, recent := make([]int64, len(ends)), make([]int64, len(ends))
	least := int64(0)
	for i, e := range ends {
		offsets[i], recent[i] = e.End, e.Recent.UnixMilli()
		if i == 0 || e.End < least {
			least = e.End
		}
	}
	where := fmt.Sprintf("(kafka_offset < 0 OR kafka_offset >= %d OR kafka_partition >= %d) AND (kafka_offset < 0 OR kafka_offset >= %s) AND %s",
		least, len(ends), byPartition(offsets), insertedSince(inserted))
	const columns = "kafka_partition, kafka_offset, inserted_at, "
	query := fmt.Sprintf(`SELECT kafka_partition, count(), min(kafka_offset), max(kafka_offset), countIf(reason != '%s' AND toUnixTimestamp64Milli(inserted_at) >= %s)
		FROM %s GROUP BY kafka_partition ORDER BY kafka_partition`, tables.ReasonDeleted, byPartition(recent), offsetColumns(columns+"'' AS reason", columns+"toString(reason) AS reason", where))
	err = db.visit(ctx, "look for rows that no record belongs to", query, func(scan func(...any) error) error {
		var s tables.StrayRows
		var partition int32
		if err := scan(&partition, &s.Rows, &s.First, &s.Last, &s.Recent); err != nil {
			return err
		}
		s.Partition = int(partition)
		list = append(list, s)
		return nil
	})
	return list, err
}
