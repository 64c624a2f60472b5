package embedded

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

var compressions = []clickhouse.CompressionMethod{
	clickhouse.CompressionNone, clickhouse.CompressionLZ4, clickhouse.CompressionZSTD, clickhouse.CompressionGZIP, clickhouse.CompressionDeflate,
}

// clickhouse-go asks for a later protocol revision than the engine writes: every type must come through.
func TestClientReadsEveryType(t *testing.T) {
	e := startEngine(t, t.TempDir())
	conn := openClient(t, e, nil)
	f := func(expression, clickhouseType string, want any) {
		t.Helper()
		// Two blocks, and a column after it that would not be found if this one had another length.
		rows, err := conn.Query(t.Context(), "SELECT "+expression+" AS v, number FROM numbers(4) SETTINGS max_block_size = 3")
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			return
		}
		defer rows.Close()
		equal(t, expression+" type", rows.ColumnTypes()[0].DatabaseTypeName(), clickhouseType)
		count := uint64(0)
		for rows.Next() {
			var number uint64
			got := reflect.New(reflect.TypeOf(want))
			if err := rows.Scan(got.Interface(), &number); err != nil {
				t.Errorf("%s: %v", expression, err)
				return
			}
			if !reflect.DeepEqual(got.Elem().Interface(), want) {
				t.Errorf("%s: got %#v, want %#v", expression, got.Elem().Interface(), want)
			}
			equal(t, expression+" next column", number, count)
			count++
		}
		if rows.Err() != nil || count != 4 {
			t.Errorf("%s: %d rows, %v", expression, count, rows.Err())
		}
	}
	day := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	str := "x"
	f("toInt8(-1)", "Int8", int8(-1))
	f("toUInt64(18446744073709551615)", "UInt64", uint64(18446744073709551615))
	f("toFloat64(1.5)", "Float64", 1.5)
	f("true", "Bool", true)
	f("'a\\0b'", "String", "a\x00b")
	f("toFixedString('ab', 2)", "FixedString(2)", "ab")
	f("toDate('2026-03-04')", "Date", day)
	f("toDateTime('2026-03-04 00:00:00', 'UTC')", "DateTime", day)
	f("toDateTime64('2026-03-04 00:00:00.250', 3, 'UTC')", "DateTime64(3, 'UTC')", day.Add(250*time.Millisecond))
	f("toUUID('61f0c404-5cb3-11e7-907b-a6006ad3dba0')::String", "String", "61f0c404-5cb3-11e7-907b-a6006ad3dba0")
	f("CAST('b', 'Enum8(\\'a\\' = 1, \\'b\\' = 2)')", "Enum8('a' = 1, 'b' = 2)", "b")
	f("if(1, NULL, 'x')::Nullable(String)", "Nullable(String)", (*string)(nil))
	f("'x'::Nullable(String)", "Nullable(String)", &str)
	f("toLowCardinality('x')", "LowCardinality(String)", "x")
	f("'x'::LowCardinality(Nullable(String))", "LowCardinality(Nullable(String))", &str)
	f("['a', 'b']", "Array(String)", []string{"a", "b"})
	f("[]::Array(LowCardinality(String))", "Array(LowCardinality(String))", []string{})
	f("[['x'::LowCardinality(String)], []]", "Array(Array(LowCardinality(String)))", [][]string{{"x"}, {}})
	f("map('a', [1::Nullable(Int32), NULL])", "Map(String, Array(Nullable(Int32)))", map[string][]*int32{"a": {new(int32(1)), nil}})
	f("map()::Map(LowCardinality(String), UInt8)", "Map(LowCardinality(String), UInt8)", map[string]uint8{})
	f("tuple(1::Int32, 'x')", "Tuple(Int32, String)", []any{int32(1), "x"})
	f("toDecimal64(1.25, 2)::String", "String", "1.25")
	f("CAST(8, 'SimpleAggregateFunction(sum, UInt64)')", "SimpleAggregateFunction(sum, UInt64)", uint64(8))
	f(`'{"a":"x"}'::JSON::String`, "String", `{"a":"x"}`)

	var doc clickhouse.JSON
	if err := conn.QueryRow(t.Context(), `SELECT '{"a":1,"b":["x"],"c":{"d":"y"}}'::JSON`).Scan(&doc); err != nil {
		t.Fatal(err)
	}
	equal(t, "JSON", fmt.Sprint(doc.NestedMap()["c"]), "map[d:{y String}]")
	var variant clickhouse.Variant
	if err := conn.QueryRow(t.Context(), "SELECT 'x'::Variant(String, UInt8)").Scan(&variant); err != nil {
		t.Fatal(err)
	}
	equal(t, "Variant", variant.Any(), any("x"))

	// The client has no states of aggregate functions; it must be told, not hang or read nonsense.
	if err := conn.QueryRow(t.Context(), "SELECT uniqState(1)").Err(); err == nil {
		t.Error("a state of an aggregate function was read")
	}
	var unique uint64
	if err := conn.QueryRow(t.Context(), "SELECT uniqMerge(s) FROM (SELECT uniqState(number) AS s FROM numbers(10))").Scan(&unique); err != nil {
		t.Fatal(err)
	}
	equal(t, "merged states", unique, 10)
}

func TestClientWithEveryCompression(t *testing.T) {
	e := startEngine(t, t.TempDir())
	for _, method := range compressions {
		t.Run(method.String(), func(t *testing.T) { testClient(t, e, method) })
	}
}

func testClient(t *testing.T, e *Engine, method clickhouse.CompressionMethod) {
	conn := openClient(t, e, func(o *clickhouse.Options) {
		o.Compression = &clickhouse.Compression{Method: method, Level: 3}
		o.Settings = clickhouse.Settings{"max_threads": 1}
	})
	mustExec(t, conn, "CREATE OR REPLACE TABLE t (a UInt64, b LowCardinality(String), c Map(String, Nullable(Float64))) ENGINE = MergeTree ORDER BY a")
	const rows = 50_000
	batch, err := conn.PrepareBatch(t.Context(), "INSERT INTO t (a, b, c)")
	if err != nil {
		t.Fatal(err)
	}
	for i := range rows {
		if err := batch.Append(uint64(i), fmt.Sprint(i%10), map[string]*float64{"x": new(float64(i)), "y": nil}); err != nil {
			t.Fatal(err)
		}
	}
	if err := batch.Send(); err != nil {
		t.Fatal(err)
	}

	got, err := conn.Query(t.Context(), "SELECT a, b, c FROM t WHERE a >= {from:UInt64} ORDER BY a", clickhouse.Named("from", "7"))
	if err != nil {
		t.Fatal(err)
	}
	next := uint64(7)
	for got.Next() {
		var a uint64
		var b string
		var c map[string]*float64
		if err := got.Scan(&a, &b, &c); err != nil {
			t.Fatal(err)
		}
		if a != next || b != fmt.Sprint(a%10) || *c["x"] != float64(a) || c["y"] != nil {
			t.Fatalf("row %d: got %d %q %v", next, a, b, c)
		}
		next++
	}
	if err := errors.Join(got.Err(), got.Close()); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", next, rows)

	empty, err := conn.Query(t.Context(), "SELECT a, b FROM t WHERE a > 1000000")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "an empty result has a row", empty.Next(), false)
	if err := errors.Join(empty.Err(), empty.Close()); err != nil {
		t.Fatal(err)
	}
	var exception *clickhouse.Exception
	if err := conn.Exec(t.Context(), "SELECT * FROM nosuch"); !errors.As(err, &exception) || exception.Code != 60 {
		t.Errorf("got %v, want code 60", err)
	}
	failing, err := conn.Query(t.Context(), "SELECT throwIf(number = 5000000) FROM numbers(10000000)")
	if err == nil {
		for failing.Next() {
			continue
		}
		err = errors.Join(failing.Err(), failing.Close())
	}
	if !errors.As(err, &exception) || exception.Code != 395 {
		t.Errorf("failure in mid-stream: got %v, want code 395", err)
	}
	if err := conn.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}
