package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/segmentio/kafka-go/compress"
	"github.com/segmentio/kafka-go/protocol"
)

func testEvents(n int) (events []event) {
	for i := range n {
		e := event{timeMS: 1_700_000_000_000 + int64(i%7) - 3, account: "a", value: bytes.Repeat([]byte{byte('a' + i%26)}, i*37%900)}
		if i%3 == 0 {
			e.account, e.headers = "b", []Header{{"logpush", "false"}, {"x", ""}}
		}
		events = append(events, e)
	}
	return events
}

// wire is a batch as a broker sends it.
func wire(b batch, base int64) []byte {
	data := bytes.Clone(b.data[4:])
	binary.BigEndian.PutUint64(data, uint64(base))
	return data
}

func sameRecords(t *testing.T, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := got[i], want[i]
		if g.Offset != w.Offset || !g.Time.Equal(w.Time) || g.Account != w.Account || g.Schema != w.Schema ||
			!slices.Equal(g.Headers, w.Headers) || !bytes.Equal(g.Value, w.Value) {
			t.Fatalf("record %d is %+v, want %+v", i, g, w)
		}
	}
}

var codecs = []compress.Compression{compress.None, compress.Gzip, compress.Snappy, compress.Lz4, compress.Zstd}

// theirBatch is a batch by kafka-go, its length first.
func theirBatch(t testing.TB, codec compress.Compression, events []event) []byte {
	t.Helper()
	var list []protocol.Record
	for i, e := range events {
		r := protocol.Record{Offset: int64(i), Time: time.UnixMilli(e.timeMS), Value: protocol.NewBytes(e.value),
			Headers: []protocol.Header{{Key: headerAccount, Value: []byte(e.account)}, {Key: headerSchema, Value: []byte("1")}}}
		for _, h := range e.headers {
			r.Headers = append(r.Headers, protocol.Header{Key: h.Name, Value: []byte(h.Value)})
		}
		list = append(list, r)
	}
	set := protocol.RecordSet{Version: 2, Attributes: protocol.Attributes(codec), Records: protocol.NewRecordReader(list...)}
	var out bytes.Buffer
	if _, err := set.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// decodeAnswer returns the records of an answer from offset first on, and the offset
// behind what is complete.
func decodeAnswer(data []byte, first int64) ([]Record, int64, error) {
	batches, next, err := cut(data, first)
	if err != nil {
		return nil, next, err
	}
	records, err := recordsOf(batches, first)
	return records, next, err
}

// decodeTheirWay returns what kafka-go makes of a batch with its length first.
func decodeTheirWay(t testing.TB, data []byte) (records []Record) {
	t.Helper()
	var set protocol.RecordSet
	if _, err := set.ReadFrom(bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	stream := set.Records.(*protocol.RecordStream)
	for {
		r, err := stream.ReadRecord()
		if errors.Is(err, io.EOF) {
			return records
		}
		if err != nil {
			t.Fatal(err)
		}
		record := Record{Offset: r.Offset, Time: r.Time}
		if record.Value, err = protocol.ReadAll(r.Value); err != nil {
			t.Fatal(err)
		}
		for _, h := range r.Headers {
			switch h.Key {
			case headerAccount:
				record.Account = string(h.Value)
			case headerSchema:
				record.Schema = string(h.Value)
			default:
				record.Headers = append(record.Headers, Header{h.Key, string(h.Value)})
			}
		}
		records = append(records, record)
	}
}

func TestRecordsAreDecodedAsKafkaGoDoes(t *testing.T) {
	events := testEvents(500)
	for _, codec := range codecs {
		// Written by kafka-go, read by both.
		data := theirBatch(t, codec, events)
		got, next, err := decodeAnswer(data[4:], 0)
		if err != nil || next != 500 {
			t.Fatalf("codec %d: decoded up to %d: %v", codec, next, err)
		}
		sameRecords(t, got, decodeTheirWay(t, data))
	}
}

// An answer begins with the whole batch that holds the offset, may have control
// batches in it, and ends with a part of a batch.
func TestWhatAnAnswerHolds(t *testing.T) {
	b := encode(testEvents(10), "1")
	control := wire(b, 110)
	control[atAttributes+1] |= attributeControl
	binary.BigEndian.PutUint32(control[atChecksum:], crc32.Checksum(control[atAttributes:], castagnoli))
	data := slices.Concat(wire(b, 100), control, wire(b, 120), wire(b, 130)[:200])
	got, next, err := decodeAnswer(data, 104)
	if err != nil || next != 130 {
		t.Fatalf("decoded up to %d: %v", next, err)
	}
	var offsets []int64
	for _, r := range got {
		offsets = append(offsets, r.Offset)
	}
	if want := []int64{104, 105, 106, 107, 108, 109, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129}; !slices.Equal(offsets, want) {
		t.Errorf("the offsets are %v", offsets)
	}

	// With the time of the broker, all records have that of the batch.
	appended := wire(b, 0)
	appended[atAttributes+1] |= attributeAppendTime
	binary.BigEndian.PutUint64(appended[atMaxTimestamp:], 5000)
	binary.BigEndian.PutUint32(appended[atChecksum:], crc32.Checksum(appended[atAttributes:], castagnoli))
	got, _, err = decodeAnswer(appended, 9)
	if err != nil || len(got) != 1 || !got[0].Time.Equal(time.UnixMilli(5000)) {
		t.Errorf("decoded %+v, %v", got, err)
	}

	damaged := wire(b, 0)
	damaged[len(damaged)-1] ^= 1
	if _, _, err := decodeAnswer(damaged, 0); err == nil {
		t.Error("a damaged batch is accepted")
	}
}

// recordOf is a record without key and value, and with so many headers of so many bytes each.
func recordOf(offset, headers, length int) []byte {
	text := binary.AppendVarint([]byte{0, 0}, int64(offset))
	text = append(text, 1, 1) // nulls
	text = binary.AppendVarint(text, int64(headers))
	header := append(binary.AppendVarint(nil, int64(length)), bytes.Repeat([]byte("h"), length)...)
	text = append(text, bytes.Repeat(append(header, 1), headers)...)
	return append(binary.AppendVarint(nil, int64(len(text))), text...)
}

// batchOf is an undamaged batch of records whose text is not compressed.
func batchOf(records int, text []byte) []byte {
	b := append(wire(encode(testEvents(1), "1"), 0)[:batchHeaderBytes], text...)
	binary.BigEndian.PutUint32(b[atBatchLength:], uint32(len(b)-atLeaderEpoch))
	binary.BigEndian.PutUint16(b[atAttributes:], 0)
	binary.BigEndian.PutUint32(b[atLastOffset:], uint32(records-1))
	binary.BigEndian.PutUint32(b[atRecordCount:], uint32(records))
	return sum(b)
}

// Headers of two bytes each became sixteen times as much memory, without a bound: gigabytes
// of one batch, and by that the end of the process, which read it again when it came back.
func TestHeadersAreBounded(t *testing.T) {
	f := func(what string, batch []byte, want string) {
		t.Helper()
		records, bad := batchesOf(t, batch, 0).Decode(new(Memory))
		if want == "" && (len(bad) > 0 || len(records) == 0) || want != "" && (len(bad) != 1 || !strings.Contains(bad[0].Err.Error(), want)) {
			t.Errorf("%s: %d records and %+v, want %q", what, len(records), bad, want)
		}
	}
	f("the most", batchOf(1, recordOf(0, batchHeadersMax, 0)), "")
	f("one too many", batchOf(1, recordOf(0, batchHeadersMax+1, 0)), "more than 1048576 headers")
	f("over two records", batchOf(2, append(recordOf(0, batchHeadersMax, 0), recordOf(1, 1, 1)...)), "more than 1048576 headers")
	same := slices.Concat(recordOf(0, batchHeadersMax/2, 0), recordOf(1, batchHeadersMax/2, 0), recordOf(2, batchHeadersMax/2, 0))
	f("the same in three records", batchOf(3, same), "")
}

// FuzzRecords: whatever records are in a batch, and however many headers are in front of the
// last one's, they are decoded in memory in proportion, or the batch has a reason.
func FuzzRecords(f *testing.F) {
	f.Add(uint16(1), recordOf(0, 2, 3), uint32(0))
	f.Add(uint16(2), append(recordOf(0, 1, 0), recordOf(1, 1, 0)...), uint32(7))
	f.Add(uint16(1), []byte{}, uint32(batchHeadersMax+1))
	f.Add(uint16(3), []byte{2, 0}, uint32(0))
	f.Fuzz(func(t *testing.T, count uint16, text []byte, headers uint32) {
		headers %= batchHeadersMax + 2
		if headers > 0 {
			count, text = count+1, append(bytes.Clone(text), recordOf(int(count), int(headers), 0)...)
		}
		if count == 0 {
			return
		}
		var m Memory
		records, bad := batchesOf(t, batchOf(int(count), text), 0).Decode(&m)
		made := 0
		for i := range records {
			if i == 0 || !slices.Equal(records[i].Headers, records[i-1].Headers) {
				made += len(records[i].Headers)
			}
		}
		if len(records) > int(count) || made > batchHeadersMax || len(bad) == 0 && len(records) != int(count) {
			t.Fatalf("%d records with %d headers of %d, %+v", len(records), made, count, bad)
		}
	})
}

// Whatever a broker sends, batches cover what they were cut from, in order; taken apart
// they are the same, and have the same records where those can be decoded.
func FuzzBatches(f *testing.F) {
	f.Add(wire(encode(testEvents(3), "1"), 7), int64(0))
	f.Add(slices.Concat(wire(encode(testEvents(3), "1"), 7), wire(encode(testEvents(1), ""), 20)), int64(9))
	f.Add(slices.Concat(wire(encode(testEvents(3), "1"), 7), wire(encode(testEvents(1), ""), 20)[:70]), int64(7))
	f.Fuzz(func(t *testing.T, data []byte, first int64) {
		data = bytes.Clone(data)
		for rest := data; len(rest) >= batchHeaderBytes; {
			end := atLeaderEpoch + int(binary.BigEndian.Uint32(rest[atBatchLength:]))
			if end < batchHeaderBytes || end > len(rest) {
				break
			}
			binary.BigEndian.PutUint32(rest[atChecksum:], crc32.Checksum(rest[atAttributes:end], castagnoli))
			rest = rest[end:]
		}
		pieces, next, err := cut(data, first)
		if err != nil {
			return
		}
		if next < first {
			t.Fatalf("went from %d back to %d", first, next)
		}
		for i := range pieces {
			b := &pieces[i]
			singles, size := b.Single(), 0
			for j := range singles {
				size += singles[j].Size()
				if raw := singles[j].Raw(); len(raw.Value) != singles[j].Size() {
					t.Fatalf("a batch of %d bytes is shown with %d", singles[j].Size(), len(raw.Value))
				}
			}
			if size != b.Size() {
				t.Fatalf("batches of %d bytes are taken apart into %d", b.Size(), size)
			}
			records, err := b.Decode(new(Memory))
			if err != nil {
				continue
			}
			for j := range singles {
				part, err := singles[j].Decode(new(Memory))
				if err != nil || len(part) > len(records) {
					t.Fatalf("batch %d alone: %d records of %d, %v", j, len(part), len(records), err)
				}
				sameRecords(t, part, records[:len(part)])
				records = records[len(part):]
			}
			if len(records) > 0 {
				t.Fatalf("%d records are in no batch", len(records))
			}
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	var events []event
	for i := range 1000 {
		events = append(events, event{timeMS: int64(i), account: "0123456789abcdef0123456789abcdef", value: bytes.Repeat([]byte("abcdefgh"), 80)})
	}
	batch := encode(events, "1")
	b.Run("ours", func(b *testing.B) {
		var m Memory
		b.ReportAllocs()
		for b.Loop() {
			pieces, _, err := cut(batch.data[4:], 0)
			if err == nil {
				_, err = pieces[0].DecodeAll(&m)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("kafka-go", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decodeTheirWay(b, batch.data)
		}
	})
}
