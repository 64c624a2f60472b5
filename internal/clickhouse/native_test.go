package clickhouse

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	tables "tidegate/schema/clickhouse"
)

// Words are numbered in one, two or four bytes, as many as they need.
func TestWordsOfEveryNumber(t *testing.T) {
	db := migrated(t)
	for _, n := range []int{1, 2, 255, 256, 257, 65_535, 65_536, 65_537} {
		rows := make([]row, n)
		for i := range rows {
			rows[i] = served(0)
			rows[i].script = fmt.Sprintf("script-%d-%d", n, i)
		}
		if err := db.InsertEvents(t.Context(), fmt.Sprint(n), blockOf(rows...)); err != nil {
			t.Fatal(err)
		}
		got := scalar(t, db, fmt.Sprintf("SELECT concat(toString(count()), ' ', toString(uniqExact(script_name)), ' ', toString(countIf(script_name != concat('script-%d-', toString(kafka_offset))))) FROM trace_events WHERE script_name LIKE 'script-%d-%%'", n, n))
		if want := fmt.Sprint(n, " ", n, " 0"); got != want {
			t.Errorf("of %d words there are %s, want %s", n, got, want)
		}
	}
}

// Blocks of an address that asks for compression are compressed in pieces.
func TestBlocksAreCompressed(t *testing.T) {
	for _, method := range []string{"lz4", "zstd", "gzip"} {
		plain := migrated(t)
		cfg := plain.cfg
		cfg.Addr += "?compress=" + method
		db := openWith(t, cfg)
		rows := make([]row, 20_000)
		for i := range rows {
			rows[i] = served(time.Duration(i) * time.Millisecond)
		}
		block := blockOf(rows...)
		for i := range block.Event {
			block.Event[i] = fmt.Appendf(nil, `{"RayID":"%d","Request":{"URL":"http://shop.dev.localhost/%d","Method":"GET"},"Response":{"Status":200}}`, i, i*7919)
		}
		for range 2 {
			if err := db.InsertEvents(t.Context(), "one", block); err != nil {
				t.Fatal(method, err)
			}
		}
		wantCounts(t, db, int64(len(rows)))
		if got := scalar(t, db, "SELECT event FROM trace_events WHERE kafka_offset = 19999"); got != string(block.Event[19_999]) {
			t.Errorf("%s: the last event is %s", method, got)
		}
	}
}

func TestABlockThatIsNoneIsNotSent(t *testing.T) {
	b := blockOf(served(0), served(0))
	b.Status = b.Status[:1]
	if _, err := appendBlock(nil, b.Len(), b.Columns()); err == nil || err.Error() != "column status has 1 values of 2" {
		t.Errorf("the error is %v", err)
	}
	if _, err := appendBlock(nil, 1, []tables.Column{{Name: "x", Type: "Bool", Values: []bool{true}}}); err == nil || !strings.Contains(err.Error(), "[]bool") {
		t.Errorf("the error is %v", err)
	}
}

// BenchmarkAppendBlock is what this process does with a block that it sends.
func BenchmarkAppendBlock(b *testing.B) {
	block := blockOf(realistic(10_000)...)
	var data []byte
	var err error
	for b.Loop() {
		if data, err = appendBlock(data[:0], block.Len(), block.Columns()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*block.Len()), "ns/row")
}

// A block is written into the room that was made for it, which is not much more.
func TestRoomForABlock(t *testing.T) {
	block := blockOf(realistic(10_000)...)
	for i := range block.Event {
		block.Event[i] = bytes.Repeat([]byte("x"), i%977)
	}
	data, err := appendBlock(nil, block.Len(), block.Columns())
	if err != nil {
		t.Fatal(err)
	}
	if room := sizeOf(block.Len(), block.Columns()); len(data) > room || room > 2*len(data) {
		t.Errorf("there is room for %d bytes, and the block has %d", room, len(data))
	}
}
